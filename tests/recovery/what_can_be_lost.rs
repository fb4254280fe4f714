//! Loss of files: a table of every file of a host and a control plane, each kind of its loss, and the expected
//! behaviour of the next start. Tested with the real programs while the control plane is down. `lost_sessions.rs` tests
//! the files of browser sessions.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use crate::rig::{Rig, Running, until};
use halligan::dataplane::decide::snapshot::Snapshot;
use halligan::dataplane::node::state::Live;
use halligan::dataplane::revocations::Revocations;
use halligan::protocol::event::line_hash;
use halligan::protocol::time::Time;
use rusqlite::Connection;

/// Kinds of loss of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Missing,
    Empty,
    Truncated,
    Unreadable,
    Newer,
}

use Loss::{Empty, Missing, Newer, Truncated, Unreadable};

pub(crate) const EVERY: [Loss; 5] = [Missing, Empty, Truncated, Unreadable, Newer];

impl Loss {
    pub(crate) fn of(self, path: &Path) {
        let content = std::fs::read(path).unwrap();
        match self {
            Missing => std::fs::remove_file(path).unwrap(),
            Empty => std::fs::write(path, "").unwrap(),
            Truncated => std::fs::write(path, &content[..content.len() / 2]).unwrap(),
            Unreadable => std::fs::write(path, vec![0x55; content.len()]).unwrap(),
            Newer => Connection::open(path).unwrap().pragma_update(None, "user_version", 99).unwrap(),
        }
    }
}

/// Expected behaviour of the next start.
enum Promise {
    /// The daemon serves and the revoked token stays revoked. It raises this alarm, if any, and sets the remains of the
    /// file aside.
    Serves(Option<&'static str>),
    /// The daemon serves, and denies every request until it gets a replica from its control plane or by an import.
    Waits(&'static str),
    /// The daemon exits with this code and this error.
    Stops(i32, &'static str),
}

use Promise::{Serves, Stops, Waits};

/// Returns the expected behaviour of a host that lost `file` in this way.
fn host(file: &str, loss: Loss) -> Promise {
    match (file, loss) {
        ("databases.json", _) => Serves(None),
        (_, Newer) => Stops(74, "has schema 99"),
        ("replica.db", _) => Waits("another replica was begun"),
        ("audit.db", _) => Serves(Some("another audit log was begun")),
        ("outages.db", _) => Serves(Some("another record of outages was begun")),
        ("glass.db", _) => Serves(Some("another glass was begun")),
        ("revocations.db", Missing) => Stops(74, "is missing, though this host had one; put the file back"),
        ("revocations.db", Empty) => Stops(74, "is empty, though this host had one; put the file back"),
        ("revocations.db", _) => Stops(74, "the revocations' database"),
        ("node.json", Missing) => Stops(69, "this node is not enrolled"),
        ("node.json", _) => Stops(78, "node.json is not understood"),
        ("node.pem", Missing) => {
            Stops(78, "is missing; put the node's key back, or run `halligand new-identity`")
        }
        ("node.pem", _) => Stops(78, "node.pem"),
        _ => unreachable!("{file}"),
    }
}

pub(crate) const DATABASES: [&str; 5] =
    ["replica.db", "audit.db", "revocations.db", "outages.db", "glass.db"];

/// Checkpoints the write-ahead log of each database, so that its one file holds everything.
pub(crate) fn settle(directory: &Path, databases: &[&str]) {
    for name in databases {
        let connection = Connection::open(directory.join(name)).unwrap();
        connection.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap_or_default();
        connection.pragma_update(None, "journal_mode", "DELETE").unwrap();
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Starts the daemon, and waits until its socket answers or the program has ended.
pub(crate) fn start(rig: &mut Rig) -> Result<(), (i32, String)> {
    let log = rig.path("halligand.log");
    let _ = std::fs::remove_file(&log);
    let mut running = Running::start(rig.daemon_command().stderr(rig.log("halligand.log")));
    let mut code = None;
    until("the daemon answers or ends", || {
        code = running.exit_code();
        code.is_some() || rig.cli_command().arg("status").output().unwrap().status.success()
    });
    match code {
        None => {
            rig.daemon = Some(running);
            Ok(())
        }
        Some(code) => Err((code, std::fs::read_to_string(log).unwrap())),
    }
}

/// Revokes a token on a host without its control plane, stops the host, and copies its state directory to `kept`.
/// Returns the token's id and value.
pub(crate) fn host_that_revoked(rig: &mut Rig) -> (String, String) {
    let (id, value) = rig.direct_access_token("lost", &rig.deployment);
    rig.synced();
    rig.kill_control();
    assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").status, 200);
    rig.json(&["revoke", &id, "--reason", "laptop lost"]);
    rig.daemon.take().unwrap().terminate();
    settle(&rig.path("node"), &DATABASES);
    copy(&rig.path("node"), &rig.path("kept"));
    (id, value)
}

/// Accepts on the stopped host that a database is lost.
pub(crate) fn accept_loss(rig: &Rig, database: &str) -> Output {
    let arguments = ["accept-loss", database, "--reason", "the disk was replaced"];
    rig.daemon_command().args(arguments).output().unwrap()
}

pub(crate) fn alarms(rig: &Rig) -> String {
    rig.json(&["status"])["alarms"].to_string()
}

#[test]
fn a_host_that_lost_a_file_neither_forgets_a_revocation_nor_takes_the_loss_for_a_first_start() {
    let mut rig = Rig::start();
    let (_, value) = host_that_revoked(&mut rig);
    let files = DATABASES.into_iter().chain(["node.json", "node.pem", "databases.json"]);
    let cases = files.flat_map(|file| EVERY.map(|loss| (file, loss)));
    for (file, loss) in cases
        .filter(|(file, loss)| Path::new(file).extension().is_some_and(|it| it == "db") || *loss != Newer)
    {
        copy(&rig.path("kept"), &rig.path("node"));
        loss.of(&rig.path("node").join(file));
        let left = std::fs::read(rig.path("node").join(file)).ok();
        let started = start(&mut rig);
        match (host(file, loss), started) {
            (Stops(code, what), Err((ended, said))) => {
                assert!(ended == code && said.contains(what), "{file} {loss:?}: {ended} {said}");
                let now = std::fs::read(rig.path("node").join(file)).ok();
                // The content is compared and not printed: it is the content of a damaged file.
                assert!(now == left, "{file} {loss:?} was changed");
            }
            (promise @ (Serves(_) | Waits(_)), Ok(())) => {
                let denied = rig.authorize(&value, "GET", "/api/v2/dags");
                let (reason, alarm) = match promise {
                    Waits(alarm) => ("replica_missing", Some(alarm)),
                    Serves(alarm) => ("token_revoked", alarm),
                    Stops(..) => unreachable!(),
                };
                assert_eq!(denied.reason(), reason, "{file} {loss:?}");
                let alarms = alarms(&rig);
                assert!(alarms.contains(alarm.unwrap_or_default()), "{file} {loss:?}: {alarms}");
                assert_eq!(alarms == "[]", alarm.is_none(), "{file} {loss:?}: {alarms}");
                if let (Some(left), Some(_)) = (left, alarm) {
                    assert!(set_aside(&rig, file).contains(&left), "{file} {loss:?}: what was left is gone");
                }
                rig.daemon.take().unwrap().terminate();
            }
            (_, started) => panic!("{file} {loss:?}: {started:?}"),
        }
    }
}

/// Returns the contents of the files that were set aside for a file.
fn set_aside(rig: &Rig, file: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(rig.path("node")).unwrap().map(|entry| entry.unwrap().path());
    let prefix = format!("{file}.damaged-");
    let aside = entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix));
    aside.map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn an_operator_goes_on_after_lost_revocations_on_record_and_what_the_log_tells_of_stays_revoked() {
    let mut rig = Rig::start();
    let (id, value) = host_that_revoked(&mut rig);
    for loss in [Missing, Empty, Truncated, Unreadable] {
        copy(&rig.path("kept"), &rig.path("node"));
        loss.of(&rig.path("node/revocations.db"));
        start(&mut rig).unwrap_err();
        assert_eq!(
            accept_loss(&rig, "glass.db").status.code(),
            Some(65),
            "another database needs no such word"
        );
        assert!(accept_loss(&rig, "revocations.db").status.success());
        start(&mut rig).unwrap();
        assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").reason(), "token_revoked", "{loss:?}");
        assert!(alarms(&rig).contains("accepted the loss"), "{loss:?}");
        let listed = rig.json(&["revoke", "--list"]);
        assert_eq!(
            (&listed[0]["tokenId"], &listed[0]["reason"]),
            (&id.as_str().into(), &"laptop lost".into())
        );
        let log = String::from_utf8(rig.cli(&["audit", "tail", "--json"]).stdout).unwrap();
        let event = log.lines().find(|line| line.contains("loss-accepted")).unwrap();
        assert!(event.contains("the disk was replaced") && event.contains("uid "), "{event}");
        rig.daemon.take().unwrap().terminate();
        // The acceptance is used up by one start.
        assert!(!rig.path("node/accepted-loss.json").exists());
        start(&mut rig).unwrap();
        assert_eq!(alarms(&rig), "[]");
        rig.daemon.take().unwrap().terminate();
    }
    // Without an inventory the loss is detected from the audit log.
    copy(&rig.path("kept"), &rig.path("node"));
    Connection::open(rig.path("node/revocations.db")).unwrap().execute("DELETE FROM revocation", []).unwrap();
    std::fs::remove_file(rig.path("node/databases.json")).unwrap();
    for _ in 0..2 {
        let (code, said) = start(&mut rig).unwrap_err();
        assert!(
            code == 74 && said.contains(&format!("the audit log records that token {id} was revoked")),
            "{said}"
        );
    }
}

#[test]
fn a_start_that_breaks_off_after_an_accepted_loss_is_gone_on_with_by_the_next() {
    let mut rig = Rig::start();
    let (_, value) = host_that_revoked(&mut rig);
    for loss in [Missing, Empty, Truncated, Unreadable] {
        copy(&rig.path("kept"), &rig.path("node"));
        loss.of(&rig.path("node/revocations.db"));
        assert!(accept_loss(&rig, "revocations.db").status.success());
        // Repeats a start up to the kill: the remaining rows are opened and counted, and no revocation is signed again.
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), Time::default()));
        let (path, prover) = (rig.path("node/revocations.db"), crate::nodes::prover("nod_a", 51));
        drop(Revocations::open_after_loss(&path, &live, &prover, Time::from_unix(9)).unwrap());
        start(&mut rig).unwrap();
        assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").reason(), "token_revoked", "{loss:?}");
        assert!(!rig.path("node/accepted-loss.json").exists() && alarms(&rig).contains("accepted the loss"));
        rig.daemon.take().unwrap().terminate();
    }
    // A start that fails for another reason does not withdraw the acceptance.
    copy(&rig.path("kept"), &rig.path("node"));
    Newer.of(&rig.path("node/outages.db"));
    assert!(accept_loss(&rig, "revocations.db").status.success());
    start(&mut rig).unwrap_err();
    assert!(rig.path("node/accepted-loss.json").exists());
}

#[test]
fn a_damaged_revocation_is_told_by_verify_readiness_and_an_alarm_until_it_is_signed_anew() {
    let mut rig = Rig::start();
    let (id, value) = host_that_revoked(&mut rig);
    let damage = "UPDATE revocation SET text = substr(text, 1, 80)";
    Connection::open(rig.path("node/revocations.db")).unwrap().execute(damage, []).unwrap();
    start(&mut rig).unwrap();
    assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").reason(), "token_revoked");
    assert!(alarms(&rig).contains("row 1 of revocations.db is not what was written"));
    let ready = || crate::rig::curl(&[format!("http://127.0.0.1:{}/readyz", rig.daemon_port)]);
    assert!(
        ready().status == 200 && ready().body.contains("damaged: row 1 of revocations.db is not what"),
        "{:?}",
        ready()
    );
    // A caller who is not an operator gets no token ids.
    assert!(!ready().body.contains(&id), "{:?}", ready());
    assert!(alarms(&rig).contains(&id));
    let verified = rig.cli_command().args(["audit", "verify"]).output().unwrap();
    let said = format!("{verified:?}");
    assert!(
        verified.status.code() == Some(65)
            && said.contains("DAMAGED row 1 of revocations.db")
            && said.contains(&id),
        "{said}"
    );
    rig.cli(&["revoke", &id, "--reason", "signed anew"]);
    assert!(!ready().body.contains("damaged"), "{:?}", ready());
    rig.cli(&["audit", "verify"]);
    rig.daemon.take().unwrap().terminate();
    start(&mut rig).unwrap();
    assert_eq!(
        (alarms(&rig).as_str(), rig.authorize(&value, "GET", "/api/v2/dags").reason()),
        ("[]", "token_revoked")
    );
}

/// Returns the exit code and the error expected of a control plane that lost its database in this way.
fn above(loss: Loss) -> (i32, &'static str) {
    match loss {
        Missing => (74, "control.db is missing, though there are keys beside it"),
        Empty => (74, "control.db is empty, though there are keys beside it"),
        Truncated | Unreadable => (74, "control.db can't be used"),
        Newer => (74, "use the program that wrote it"),
    }
}

#[test]
fn a_control_plane_that_lost_its_database_exits_and_names_the_file() {
    let mut rig = Rig::start();
    rig.kill_daemon();
    rig.control.take().unwrap().terminate();
    settle(&rig.path("control"), &["control.db"]);
    copy(&rig.path("control"), &rig.path("kept"));
    for loss in EVERY {
        copy(&rig.path("kept"), &rig.path("control"));
        loss.of(&rig.path("control/control.db"));
        for arguments in [&["serve"][..], &["user-token", "owner@acme.example"], &["recover", "--above", "9"]]
        {
            let ended = rig.control_command(arguments[0]).args(&arguments[1..]).output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            let (code, what) = above(loss);
            assert!(
                ended.status.code() == Some(code) && said.contains(what),
                "{loss:?} {arguments:?}: {said}"
            );
        }
    }
    copy(&rig.path("kept"), &rig.path("control"));
    rig.start_control(rig.control_port);
}

#[test]
fn a_second_daemon_on_a_state_directory_is_told_who_holds_it() {
    let rig = Rig::start();
    let other = rig.daemon_config_at("node", "other.sock", crate::rig::free_port());
    std::fs::write(rig.path("other.toml"), other).unwrap();
    let mut second = Command::new(env!("CARGO_BIN_EXE_halligand"));
    let ended = second.arg("--config").arg(rig.path("other.toml")).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let holder = format!("is in use by process {} (halligand)", rig.daemon.as_ref().unwrap().id());
    assert!(ended.status.code() == Some(75) && said.contains(&holder), "{said}");
    // The state directory stays locked if its lock file is missing or replaced.
    for other in [None, Some("1 (init)")] {
        std::fs::remove_file(rig.path("node/lock")).unwrap();
        if let Some(other) = other {
            std::fs::write(rig.path("node/lock"), other).unwrap();
        }
        let ended = second.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(75) && said.contains(&holder), "{other:?}: {said}");
        std::fs::write(rig.path("node/lock"), "").unwrap();
    }
}

#[test]
fn a_second_control_plane_on_a_state_directory_is_told_who_holds_it() {
    let rig = Rig::start();
    let ended = rig.control_command("serve").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let holder = format!("is in use by process {} (halligan-control)", rig.control.as_ref().unwrap().id());
    assert!(ended.status.code() == Some(75) && said.contains(&holder), "{said}");
    // These commands need no lock, and work beside a control plane that runs.
    for arguments in [&["check-config"][..], &["recover", "--above", "9"]] {
        let ended = rig.control_command(arguments[0]).args(&arguments[1..]).output().unwrap();
        assert!(ended.status.success(), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn no_loss_is_accepted_before_it_happened() {
    let mut rig = Rig::start();
    let early = accept_loss(&rig, "revocations.db");
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(early.status.code() == Some(75) && said.contains("stop the daemon"), "{early:?}");
    let (_, value) = host_that_revoked(&mut rig);
    std::fs::remove_file(rig.path("node/revocations.db")).unwrap();
    let (code, said) = start(&mut rig).unwrap_err();
    assert!(code == 74 && said.contains("accept-loss"), "{code} {said}");
    assert!(accept_loss(&rig, "revocations.db").status.success());
    start(&mut rig).unwrap();
    assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").reason(), "token_revoked");
}

#[test]
fn a_state_directory_is_private_whatever_the_umask_and_refused_where_others_may_write() {
    let mut rig = Rig::start();
    rig.kill_daemon();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // The second umask takes the owner's permissions away, too.
    for (umask, state) in [("000", "bare"), ("777", "above/bare")] {
        rig.give_enrolment_token(&rig.path("enrolment-token"));
        let bare = rig.daemon_config_at(state, "admin.sock", rig.daemon_port);
        std::fs::write(rig.path("halligand.toml"), bare).unwrap();
        let mut command = Command::new("sh");
        let script = format!("umask {umask}; exec \"$0\" --config \"$1\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_halligand")]);
        rig.daemon =
            Some(Running::start(command.arg(rig.path("halligand.toml")).stderr(rig.log("halligand.log"))));
        until("the daemon answers", || rig.cli_command().arg("status").output().unwrap().status.success());
        rig.synced();
        assert_eq!(mode(&rig.path(state)), 0o700, "{umask}");
        for entry in std::fs::read_dir(rig.path(state)).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{umask}: {}", path.display());
        }
        rig.kill_daemon();
    }
    assert_eq!(mode(&rig.path("above")), 0o700);
    let bare = rig.daemon_config_at("bare", "admin.sock", rig.daemon_port);
    std::fs::write(rig.path("halligand.toml"), bare).unwrap();
    std::fs::set_permissions(rig.path("bare"), Permissions::from_mode(0o770)).unwrap();
    let (code, said) = start(&mut rig).unwrap_err();
    assert!(code == 78 && said.contains("can be written by others than its owner (mode 0770)"), "{said}");

    assert_eq!((mode(&rig.path("control")), mode(&rig.path("control/control.db"))), (0o700, 0o600));
    rig.kill_control();
    std::fs::set_permissions(rig.path("control"), Permissions::from_mode(0o702)).unwrap();
    let ended = rig.control_command("serve").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(78) && said.contains("run chmod 700"), "{said}");
}

#[test]
fn nothing_but_a_socket_is_replaced_where_the_admin_socket_goes() {
    let mut rig = Rig::start();
    rig.kill_daemon();
    let socket = rig.path("admin.sock");
    start(&mut rig).unwrap();
    rig.kill_daemon();
    assert!(socket.exists(), "a killed daemon leaves its socket, which the next one replaced");
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "somebody's").unwrap();
    let (code, said) = start(&mut rig).unwrap_err();
    assert!(code == 69 && said.contains("something else than a socket stands there"), "{code} {said}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "somebody's");
    // A datagram socket accepts no connections, although its program is alive.
    std::fs::remove_file(&socket).unwrap();
    let living = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let inode = || std::fs::metadata(&socket).unwrap().ino();
    let before = inode();
    let (code, said) = start(&mut rig).unwrap_err();
    assert!(code == 69 && said.contains("another program's socket stands there"), "{code} {said}");
    assert_eq!(inode(), before);
    drop(living);
    start(&mut rig).unwrap();
}

/// Detection of a planted tampering.
enum Told {
    /// The next start sets the file aside, and raises an alarm with this text.
    Start(&'static str),
    /// The next start ends with an error that has this text.
    Refusal(&'static str),
    /// `audit verify` on this host reports this text.
    Verify(&'static str),
    /// The control plane detects the loss, this host does not. The host then raises an alarm with this text.
    Above(&'static str),
    /// No alarm is raised: the control plane restores the removed data.
    Renewed,
}

fn audit(rig: &Rig) -> Connection {
    Connection::open(rig.path("node/audit.db")).unwrap()
}

/// Changes the last event, and deletes every checkpoint after sequence 1. With `position`, also changes the hash of the
/// last event that the control plane confirmed.
fn rewrite_tail(rig: &Rig, position: bool) {
    let connection = audit(rig);
    let (first, packed): (u64, Vec<u8>) = connection
        .query_row("SELECT first, lines FROM block ORDER BY first DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let text = String::from_utf8(lz4_flex::block::decompress_size_prepended(&packed).unwrap()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let last = lines.last_mut().unwrap();
    *last = last.replace("/api/v2/dags", "/api/v2/pools");
    let (hash, lines) = (line_hash(last), lines.join("\n") + "\n");
    let packed = lz4_flex::block::compress_prepend_size(lines.as_bytes());
    connection.execute("UPDATE block SET lines = ?2 WHERE first = ?1", (first, packed)).unwrap();
    connection.execute("DELETE FROM checkpoint WHERE sequence > 1", []).unwrap();
    if position {
        connection.execute("UPDATE uploaded SET hash = ?1", [hash]).unwrap();
    }
}

fn bring_back(rig: &Rig, names: &[&str]) {
    for name in names {
        std::fs::copy(rig.path("before").join(name), rig.path("node").join(name)).unwrap();
    }
}

#[expect(clippy::too_many_lines, reason = "it is one table")]
#[test]
fn each_planted_tampering_is_told_by_whom_the_documentation_names() {
    type Tampering = (&'static str, fn(&Rig), Told);
    let table: [Tampering; 10] = [
        (
            "the tail of the log rewritten",
            |rig| rewrite_tail(rig, false),
            Told::Start("is said to have taken in another event"),
        ),
        (
            "the position above altered",
            |rig| drop(audit(rig).execute("UPDATE uploaded SET hash = 'x'", [])),
            Told::Start("is said to have taken in another event"),
        ),
        (
            "the last checkpoint altered",
            |rig| {
                drop(audit(rig).execute("UPDATE checkpoint SET text = 'x' WHERE sequence = (SELECT max(sequence) FROM checkpoint)", []));
            },
            Told::Start("its checkpoint does not hold"),
        ),
        (
            "an event in the midst altered",
            |rig| {
                drop(
                    audit(rig)
                        .execute("UPDATE block SET lines = zeroblob(length(lines)) WHERE first = 1", []),
                );
            },
            Told::Verify("its block can't be unpacked"),
        ),
        ("both the tail and the position", |rig| rewrite_tail(rig, true), Told::Above("fork at event")),
        (
            "the log set back as a whole",
            |rig| bring_back(rig, &["audit.db"]),
            Told::Start("this host noted that its log had"),
        ),
        (
            "the log set back as a whole, and the inventory with it",
            |rig| bring_back(rig, &["audit.db", "databases.json"]),
            Told::Above("fork at event"),
        ),
        (
            "a record of the replica altered",
            |rig| {
                drop(
                    Connection::open(rig.path("node/replica.db"))
                        .unwrap()
                        .execute("UPDATE record SET body = body || ' ' WHERE kind = 'token'", []),
                );
            },
            Told::Start("another replica was begun"),
        ),
        ("the replica set back as a whole", |rig| bring_back(rig, &["replica.db"]), Told::Renewed),
        (
            "the revocations set back as a whole",
            |rig| bring_back(rig, &["revocations.db"]),
            Told::Refusal("this host had 1; put the file back"),
        ),
    ];
    let mut rig = Rig::start();
    let (id, value) = rig.direct_access_token("lost", &rig.deployment);
    let (_, other) = rig.direct_access_token("other", &rig.deployment);
    rig.synced();
    let stop = |rig: &mut Rig, kept: &str| {
        let uploaded = || {
            audit(rig).query_row("SELECT sequence = (SELECT max(last) FROM block) FROM uploaded", [], |row| {
                row.get(0)
            })
        };
        until("the log has arrived above", || uploaded() == Ok(true));
        rig.daemon.take().unwrap().terminate();
        settle(&rig.path("node"), &DATABASES);
        copy(&rig.path("node"), &rig.path(kept));
    };
    assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").status, 200);
    stop(&mut rig, "before");
    start(&mut rig).unwrap();
    rig.cli(&["revoke", &id, "--reason", "laptop lost"]);
    for _ in 0..2 {
        assert_eq!(rig.authorize(&other, "GET", "/api/v2/dags").status, 200);
    }
    rig.synced();
    stop(&mut rig, "kept");
    for (what, plant, told) in table {
        copy(&rig.path("kept"), &rig.path("node"));
        plant(&rig);
        match (told, start(&mut rig)) {
            (Told::Refusal(sentence), Err((74, said))) => {
                assert!(said.contains(sentence), "{what}: {said}");
                continue;
            }
            (_, Err((code, said))) => panic!("{what}: {code} {said}"),
            (Told::Start(sentence), Ok(())) => {
                assert!(alarms(&rig).contains(sentence), "{what}: {}", alarms(&rig));
            }
            (Told::Verify(sentence), Ok(())) => {
                let verified = rig.cli_command().args(["audit", "verify"]).output().unwrap();
                let said = format!("{verified:?}");
                assert!(verified.status.code() == Some(65) && said.contains(sentence), "{what}: {said}");
            }
            (Told::Above(sentence), Ok(())) => {
                rig.cli(&["audit", "verify"]);
                assert_eq!(rig.authorize(&other, "GET", "/api/v2/dags").status, 200);
                until("the control plane has told the host", || alarms(&rig).contains(sentence));
            }
            (Told::Renewed, Ok(())) => rig.synced(),
            (Told::Refusal(_), Ok(())) => panic!("{what}: it starts"),
        }
        rig.synced();
        rig.cli(&["replica", "verify"]);
        assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").reason(), "token_revoked", "{what}");
        rig.daemon.take().unwrap().terminate();
    }
    // The control plane stores the checkpoints of the node's log.
    let kept: String = Connection::open(rig.path("control/control.db"))
        .unwrap()
        .query_row("SELECT text FROM checkpoint ORDER BY branch LIMIT 1", [], |row| row.get(0))
        .unwrap();
    assert!(kept.starts_with("ey"), "{kept}");
}

#[test]
fn a_host_is_told_that_the_copy_of_its_log_above_is_not_what_it_signed() {
    let mut rig = Rig::start();
    let (_, value) = rig.direct_access_token("used", &rig.deployment);
    rig.synced();
    let above = |rig: &Rig| Connection::open(rig.path("control/control.db")).unwrap();
    let last = |connection: Connection, table: &str| -> Option<u64> {
        let query = format!("SELECT max(sequence) FROM {table}");
        connection.query_row(&query, [], |row| row.get(0)).unwrap()
    };
    let signed = |rig: &Rig| last(audit(rig), "checkpoint");
    assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").status, 200);
    until("the host has signed its log, and events beyond have arrived", || {
        assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").status, 200);
        signed(&rig).is_some() && last(above(&rig), "event") > signed(&rig)
    });
    // A user with access to the database alters the copy of an event that the node signed, and deletes the signature.
    rig.kill_control();
    let signed = signed(&rig).unwrap();
    let altered = "UPDATE event SET line = replace(line, 'dags', 'pools'), hash = 'x' WHERE sequence = ?1";
    assert_eq!(above(&rig).execute(altered, [signed]).unwrap(), 1);
    above(&rig).execute("DELETE FROM checkpoint", []).unwrap();
    rig.start_control(rig.control_port);
    let told = format!("the control plane says of this host's log: checkpoint at event {signed}");
    until("the host alarms", || alarms(&rig).contains(&told));
    assert!(alarms(&rig).contains("damaged"), "{}", alarms(&rig));
    let verified = rig.cli_command().args(["audit", "verify"]).output().unwrap();
    let said = format!("{verified:?}");
    assert!(verified.status.code() == Some(65) && said.contains(&told), "{said}");
    let found: String = above(&rig)
        .query_row("SELECT what FROM log_fault WHERE kind = 'checkpoint'", [], |row| row.get(0))
        .unwrap();
    assert!(found.contains(&format!("the node signed that event {signed} hashes to")), "{found}");
}
