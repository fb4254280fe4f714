//! Faults, each with its promise and the function that causes it. Each function repairs the fault before it returns.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::ground::{Ground, within};
use super::relay::{Manner, mixed};
use crate::rig::free_port;
use crate::rig::network::run;

type Fault = (&'static str, &'static str, fn(&mut Ground, u64) -> String);

pub const FAULTS: [Fault; 13] = [
    ("link down", "uses go on; what was revoked meanwhile is denied once it is up", link_down),
    ("packets dropped", "the same", packets_dropped),
    ("answers delayed by 0.3 s", "the node follows", delayed),
    ("one piece in ten lost", "the node follows", lossy),
    ("every request sent twice", "the node follows, once in effect", doubled),
    ("a byte each 20 ms", "uses go on; the node follows afterwards", trickling),
    ("half-open connections", "uses go on; the node finds out by itself", half_open),
    ("DNS gone", "uses go on; the node follows once it is back", names_gone),
    (
        "kill -9 of both sides under load",
        "nothing answered is missing from the log, nothing revoked comes back",
        killed,
    ),
    ("disk full", "reads go on, changes are denied, and pass again once there is room", disk_full),
    ("control plane restored from a backup", "the node stays on what it proved, and says so", old_backup),
    ("control plane of somebody else", "nothing it says is believed", forged),
    // This is the last fault, because a clock that is ahead at a start leaves a trace on the disk.
    ("clock set back and ahead", "no dead token lives again; what can't be judged is denied", clock_shifted),
];

const SOON: Duration = Duration::from_secs(5);

/// Cuts the node off in one way and reconnects it, with a revocation in between and constant requests.
fn cut_off(
    ground: &Ground,
    limit: Duration,
    cut: impl FnOnce(&Ground),
    mend: impl FnOnce(&Ground),
) -> String {
    let (id, value) = ground.token_to_revoke();
    let load = ground.load();
    cut(ground);
    ground.rig.cli(&["token", "delete", &id, "--force"]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(ground.ask(&value, "GET").status, 200, "it can't know yet");
    mend(ground);
    let took = ground.denied(&value, limit);
    let answered = load.stop();
    assert_eq!((answered.denied, answered.unanswered), (0, 0), "{answered:?}");
    format!("{} uses, none denied; revocation {:.1} s after", answered.allowed, took.as_secs_f64())
}

fn link_down(ground: &mut Ground, _: u64) -> String {
    cut_off(ground, Duration::from_secs(90), |ground| ground.link("down"), |ground| ground.link("up"))
}

fn packets_dropped(ground: &mut Ground, _: u64) -> String {
    let drop = |ground: &Ground| {
        ground.run_inside("nft add table inet chaos");
        for chain in ["input", "output"] {
            ground.run_inside(&format!(
                "nft add chain inet chaos {chain} {{ type filter hook {chain} priority 0 ; }}"
            ));
            let face = if chain == "input" { "iifname" } else { "oifname" };
            ground.run_inside(&format!("nft add rule inet chaos {chain} {face} != lo drop"));
        }
    };
    cut_off(ground, Duration::from_secs(90), drop, |ground| ground.run_inside("nft delete table inet chaos"))
}

/// Verifies that the node stays in sync while the relay behaves in this way.
fn follows(ground: &Ground, manner: Manner) -> String {
    ground.relay.set(manner);
    ground.relay.reset();
    let (id, value) = ground.token_to_revoke();
    ground.rig.cli(&["token", "delete", &id, "--force"]);
    let took = ground.denied(&value, Duration::from_mins(1));
    ground.relay.set(Manner::Pass);
    format!("revocation after {:.1} s", took.as_secs_f64())
}

fn delayed(ground: &mut Ground, _: u64) -> String {
    follows(ground, Manner::Delay(Duration::from_millis(300)))
}

fn lossy(ground: &mut Ground, _: u64) -> String {
    follows(ground, Manner::Lose(10))
}

fn doubled(ground: &mut Ground, _: u64) -> String {
    let seen = follows(ground, Manner::Twice);
    ground.recorded();
    seen
}

fn trickling(ground: &mut Ground, _: u64) -> String {
    let start = |ground: &Ground| {
        ground.relay.set(Manner::Trickle);
        ground.relay.reset();
    };
    cut_off(ground, Duration::from_secs(90), start, |ground| ground.relay.set(Manner::Pass))
}

fn half_open(ground: &mut Ground, _: u64) -> String {
    let mend = |ground: &Ground| ground.relay.set(Manner::Pass);
    cut_off(ground, Duration::from_secs(90), |ground| ground.relay.set(Manner::HalfOpen), mend)
}

fn names_gone(ground: &mut Ground, _: u64) -> String {
    let gone = |ground: &Ground| {
        ground.name_the_control_plane(false);
        ground.relay.reset();
    };
    cut_off(ground, Duration::from_secs(30), gone, |ground| ground.name_the_control_plane(true))
}

fn killed(ground: &mut Ground, seed: u64) -> String {
    let (id, value) = ground.token_to_revoke();
    ground.rig.cli(&["token", "delete", &id, "--force"]);
    ground.denied(&value, SOON);
    let before = ground.recorded();
    let load = ground.load();
    let rounds = 12;
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(mixed(seed ^ round) % 400));
        if mixed(seed ^ round).is_multiple_of(2) {
            ground.rig.kill_control();
            let port = ground.rig.control_port;
            ground.rig.start_control(port);
        } else {
            ground.rig.kill_daemon();
            ground.start_daemon(&[]);
        }
        assert_eq!(ground.ask(&value, "GET").reason(), "token_revoked", "round {round}");
    }
    let answered = load.stop();
    let recorded = ground.recorded() - before;
    assert_eq!(answered.denied, 0, "{answered:?}");
    assert!(recorded >= answered.allowed, "{} answered, {recorded} recorded", answered.allowed);
    ground.synced();
    format!("{rounds} kills, {} uses answered, {recorded} recorded", answered.allowed)
}

fn disk_full(ground: &mut Ground, _: u64) -> String {
    let state = ground.rig.path("node");
    let (kept, full) = (ground.rig.path("kept"), state.join("full"));
    ground.rig.daemon.take().unwrap().terminate();
    std::fs::rename(&state, &kept).unwrap();
    std::fs::create_dir(&state).unwrap();
    run(&format!("mount -t tmpfs -o size=24m,mode=700 tmpfs {}", state.display()));
    run(&format!("cp -a {}/. {}", kept.display(), state.display()));
    ground.start_daemon(&[]);
    let mut file = std::fs::File::create(&full).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let mut denied = 0;
    within(Duration::from_secs(30), "a change is denied", || {
        let answer = ground.ask(&ground.good, "PATCH");
        denied += u32::from(answer.status != 200 && answer.reason() == "audit_unavailable");
        denied > 3
    });
    assert_eq!(ground.ask(&ground.good, "GET").status, 200, "reads go on");
    drop(file);
    std::fs::remove_file(&full).unwrap();
    let took = within(Duration::from_secs(30), "a change passes again", || {
        ground.ask(&ground.good, "PATCH").status == 200
    });
    ground.recorded();
    ground.rig.daemon.take().unwrap().terminate();
    std::fs::remove_dir_all(&kept).unwrap();
    run(&format!("cp -a {} {}", state.display(), kept.display()));
    run(&format!("umount {}", state.display()));
    std::fs::remove_dir(&state).unwrap();
    std::fs::rename(&kept, &state).unwrap();
    ground.start_daemon(&[]);
    format!(
        "reads went on, {denied} changes denied, the next passed {:.1} s after there was room",
        took.as_secs_f64()
    )
}

fn clock_shifted(ground: &mut Ground, _: u64) -> String {
    let library = libfaketime();
    let (id, value) = ground.token_to_revoke();
    ground.rig.cli(&["token", "delete", &id, "--force"]);
    ground.denied(&value, SOON);
    ground.relay.set(Manner::Cut);
    let mut seen = Vec::new();
    for (shift, reasons) in [
        ("-40d", &["clock_untrusted"][..]),
        ("+40d", &["token_expired", "replica_stale"]),
        // The time at a start is kept: the host may deny for a while, and must not allow an ended token.
        ("+0d", &["ok", "clock_untrusted"]),
    ] {
        ground.rig.daemon.take().unwrap().terminate();
        ground.start_daemon(&["env", &library, &format!("FAKETIME={shift}")]);
        let reason = ground.ask(&ground.good, "GET").reason().to_owned();
        assert!(reasons.contains(&&*reason), "{shift}: {reason}");
        assert_ne!(ground.ask(&value, "GET").status, 200, "{shift}: a revoked token lives again");
        seen.push(format!("{shift} {reason}"));
    }
    seen.join(", ")
}

/// Returns the path of libfaketime, which shifts a program's clock. The `faketime` command would be a parent process,
/// and a signal would end only that.
fn libfaketime() -> String {
    let found = std::fs::read_dir("/usr/lib").unwrap().find_map(|entry| {
        let library = entry.unwrap().path().join("faketime/libfaketime.so.1");
        library.is_file().then(|| format!("LD_PRELOAD={}", library.display()))
    });
    found.expect("libfaketime is not installed; run .ci/setup")
}

/// Returns the number of alarms of this kind since the daemon's start.
fn alarms(ground: &Ground, kind: &str) -> u64 {
    let status = ground.rig.json(&["status"]);
    let alarms = status["alarms"].as_array().unwrap().iter();
    alarms.filter(|alarm| alarm["kind"] == kind).map(|alarm| alarm["times"].as_u64().unwrap()).sum()
}

fn old_backup(ground: &mut Ground, _: u64) -> String {
    let (state, backup, newest) =
        (ground.rig.path("control"), ground.rig.path("control.backup"), ground.rig.path("control.newest"));
    let copy = |from: &Path, to: &Path| run(&format!("cp -a {} {}", from.display(), to.display()));
    let (id, value) = ground.token_to_revoke();
    let port = ground.rig.control_port;
    ground.rig.kill_control();
    copy(&state, &backup);
    ground.rig.start_control(port);
    ground.rig.cli(&["token", "delete", &id, "--force"]);
    ground.denied(&value, SOON);
    let before = alarms(ground, "rollback");
    ground.rig.kill_control();
    std::fs::rename(&state, &newest).unwrap();
    copy(&backup, &state);
    ground.rig.start_control(port);
    let alarmed = || alarms(ground, "rollback") > before;
    let took = within(Duration::from_secs(90), "an alarm is raised", alarmed);
    assert_eq!(ground.ask(&value, "GET").reason(), "token_revoked");
    assert_eq!(ground.ask(&ground.good, "GET").status, 200);
    ground.rig.kill_control();
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&newest, &state).unwrap();
    std::fs::remove_dir_all(&backup).unwrap();
    ground.rig.start_control(port);
    ground.synced();
    format!("alarm after {:.1} s; the revoked token stayed dead, the good one alive", took.as_secs_f64())
}

fn forged(ground: &mut Ground, _: u64) -> String {
    let (id, value) = ground.token_to_revoke();
    ground.rig.cli(&["token", "delete", &id, "--force"]);
    ground.denied(&value, SOON);
    let (version, before) =
        (ground.rig.json(&["status"])["replica"]["version"].clone(), alarms(ground, "refused"));
    // The other control plane has different keys and the same names, versions and routes.
    let other = ground.rig.path("other");
    std::fs::create_dir(&other).unwrap();
    let config = other.join("control.toml");
    let issuer = format!("http://127.0.0.1:{}", ground.rig.control_port);
    let state = other.join("state");
    let text = format!("state_dir = '{}'\nissuer = '{issuer}'\nlisten = '127.0.0.1:0'\n", state.display());
    std::fs::write(&config, text).unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_halligan-control"))
        .arg("--config")
        .arg(&config)
        .args(["init", "--organization", "Acme", "--owner-email", "owner@acme.example", "--json"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let keysets = std::fs::read_to_string(state.join("keysets.ndjson")).unwrap();
    let bundle = forged_bundle(&state, &ground.rig.data_plane, &issuer, &keysets);
    let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    ground.relay.lead_to(listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 8192]);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                halligan::protocol::bundle::MEDIA_TYPE,
                bundle.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &bundle].concat());
        }
    });
    let alarmed = || alarms(ground, "refused") > before;
    let took = within(Duration::from_secs(90), "an alarm is raised", alarmed);
    assert_eq!(ground.rig.json(&["status"])["replica"]["version"], version);
    assert_eq!(ground.ask(&value, "GET").reason(), "token_revoked");
    assert_eq!(ground.ask(&ground.good, "GET").status, 200);
    ground.relay.lead_to(([127, 0, 0, 1], ground.rig.control_port).into());
    ground.synced();
    format!("refused and alarmed after {:.1} s; the version stayed", took.as_secs_f64())
}

/// Returns an empty replica of a later version, signed with the keys in `state`.
fn forged_bundle(state: &Path, data_plane: &str, issuer: &str, keysets: &str) -> Vec<u8> {
    use halligan::protocol::bundle::write_bundle;
    use halligan::protocol::digest::ReplicaDigest;
    use halligan::protocol::head::{Head, sign_head};
    use halligan::protocol::key::SigningKey;
    let key = std::fs::read_to_string(state.join("replica.pem")).unwrap();
    let now = halligan::platform::clock::wall();
    let head = Head {
        iss: issuer.into(),
        aud: data_plane.parse().unwrap(),
        version: 1_000_000,
        digest: ReplicaDigest::empty().checksum(),
        count: 0,
        iat: now,
        exp: now.plus(900),
        keyset: 1,
    };
    let keysets: Vec<&str> = keysets.lines().collect();
    write_bundle(&keysets, &sign_head(&head, &SigningKey::from_pkcs8_pem(&key).unwrap()), 0, []).unwrap()
}
