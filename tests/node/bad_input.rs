//! Invalid files, settings and requests on a host, with the real programs: each gives one clear sentence and an exit
//! code, or a denial with a reason code. Nothing is written or lost, and no program panics.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::rig::clock::shifted;
use crate::rig::{Answer, Rig, curl, until};
use halligan::platform::exit;

/// Returns every file under a directory with its content and its mode.
fn files(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() && !path.ends_with("node/lock") {
            // The lock file names its last holder, also if that program failed to start.
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            found.insert(path.clone(), (std::fs::read(&path).unwrap(), mode));
        }
    }
    found
}

/// Returns the last line of a program's output, which must be one sentence and not a panic.
fn sentence(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    let last: Vec<_> = said.lines().filter(|line| line.starts_with("halligan")).collect();
    assert!(last.len() == 1 && said.trim_end().ends_with(last[0]), "not one sentence at the end: {said}");
    last[0].to_owned()
}

/// Runs the daemon, and verifies that it ends with `code`, prints `words`, and leaves its state unchanged.
fn refused(rig: &Rig, code: u8, words: &[&str]) {
    let before = files(&rig.path("node"));
    for verb in [&[][..], &["check-config"]] {
        let mut command = Command::new("timeout");
        command.arg("20").arg(env!("CARGO_BIN_EXE_halligand")).arg("--config");
        let output = command.arg(rig.path("halligand.toml")).args(verb).output().unwrap();
        let said = sentence(&output);
        assert_eq!(output.status.code(), Some(i32::from(code)), "{verb:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{verb:?}: {said:?} does not name {word:?}");
        }
    }
    assert_eq!(files(&rig.path("node")), before, "something was written");
}

/// Returns a rig whose daemon is stopped with its state on disk.
fn stopped() -> Rig {
    let mut rig = Rig::start();
    rig.synced();
    rig.daemon.take().unwrap().terminate();
    rig
}

fn ready(rig: &Rig) -> u16 {
    curl(&[format!("http://127.0.0.1:{}/readyz", rig.daemon_port)]).status
}

fn alarms(rig: &Rig) -> Vec<(String, String)> {
    let text = |alarm: &serde_json::Value, member: &str| alarm[member].as_str().unwrap().to_owned();
    let status = rig.json(&["status"]);
    status["alarms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alarm| (text(alarm, "kind"), text(alarm, "what")))
        .collect()
}

fn denied(answer: &Answer, status: u16, reason: &str) {
    assert_eq!((answer.status, answer.reason()), (status, reason), "{answer:?}");
    let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["code"], reason);
}

#[test]
fn a_configuration_that_is_wrong_is_named_and_nothing_is_written() {
    let rig = stopped();
    let good = rig.daemon_config();
    let with = |text: String| std::fs::write(rig.path("halligand.toml"), text).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from));
        with(good.replace(from, to));
    };

    with(format!("{good}[audit]\nmax_quue = 1\n"));
    refused(&rig, exit::CONFIG, &["halligand.toml", "max_quue", "max_queue", "line"]);
    with(format!("{good}[colours]\n"));
    refused(&rig, exit::CONFIG, &["colours"]);
    changed("[node]", "[node");
    refused(&rig, exit::CONFIG, &["halligand.toml", "line"]);
    changed("[node]", "[node]\nkey_file = '/nowhere/node.pem'");
    refused(&rig, exit::CONFIG, &["/nowhere/node.pem", "is missing"]);
    changed("[control_plane]", "[control_plane]\nca_file = '/nowhere/ca.pem'");
    refused(&rig, exit::CONFIG, &["/nowhere/ca.pem"]);
    with(format!(
        "{good}[gateway]\nlisten = ['127.0.0.1:0']\nca_file = '/nowhere/upstreams.pem'\n[gateway.deployments]\n"
    ));
    refused(&rig, exit::CONFIG, &["/nowhere/upstreams.pem"]);
    std::fs::remove_file(rig.path("halligand.toml")).unwrap();
    refused(&rig, exit::CONFIG, &["halligand.toml", "can't be read"]);

    let control = rig.path("control.toml");
    let text = std::fs::read_to_string(&control).unwrap();
    std::fs::write(&control, format!("{text}colour = \"red\"\n")).unwrap();
    let output = rig.control_command("serve").output().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(exit::CONFIG)));
    assert!(sentence(&output).contains("colour"), "{output:?}");
}

#[test]
fn a_key_that_is_missing_exposed_or_none_is_named_and_no_other_takes_its_place() {
    let rig = stopped();
    let (key, roots) = (rig.path("node/node.pem"), rig.path("roots/root.pem"));
    let (kept, kept_root) = (std::fs::read(&key).unwrap(), std::fs::read(&roots).unwrap());

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&rig, exit::CONFIG, &["node.pem", "chmod 600"]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Without its key an enrolled node must not start with a new one, which the control plane would not know.
    std::fs::remove_file(&key).unwrap();
    refused(&rig, exit::CONFIG, &["node.pem", "is missing"]);
    let write_key = |bytes: &[u8]| {
        std::fs::write(&key, bytes).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write_key(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    refused(&rig, exit::CONFIG, &["node.pem"]);
    write_key(&kept);

    std::fs::remove_file(&roots).unwrap();
    refused(&rig, exit::CONFIG, &["roots", "threshold 1"]);
    std::fs::write(&roots, &kept_root[..kept_root.len() / 2]).unwrap();
    refused(&rig, exit::CONFIG, &["root.pem"]);
    std::fs::remove_dir_all(rig.path("roots")).unwrap();
    refused(&rig, exit::CONFIG, &["roots", "No such file"]);
    std::fs::create_dir(rig.path("roots")).unwrap();
    std::fs::write(&roots, &kept_root).unwrap();

    let identity = rig.path("node/node.json");
    let kept = std::fs::read(&identity).unwrap();
    std::fs::write(&identity, b"{").unwrap();
    refused(&rig, exit::CONFIG, &["node.json"]);
    std::fs::write(&identity, &kept).unwrap();

    let environment = rig.path("node/environment.pem");
    let kept = std::fs::read(&environment).unwrap();
    std::fs::write(&environment, b"").unwrap();
    refused(&rig, exit::CONFIG, &["environment.pem", "remove it"]);
    std::fs::write(&environment, &kept).unwrap();

    let mut rig = rig;
    rig.start_daemon();
}

/// The error affects the workers of one Airflow only, and must not keep a host from starting during an outage.
#[test]
fn an_airflows_key_that_is_missing_is_named_by_the_check_and_keeps_no_daemon_from_starting() {
    let mut rig = stopped();
    let key = rig.path("airflow.pub.pem");
    let identity = format!("[upstream_identity]\nairflow_keys = ['{}']\n", key.display());
    std::fs::write(rig.path("halligand.toml"), rig.daemon_config() + &identity).unwrap();
    for content in [None, Some("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")] {
        content.map_or(Ok(()), |content| std::fs::write(&key, content)).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_halligand"))
            .arg("--config")
            .arg(rig.path("halligand.toml"))
            .arg("check-config")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(i32::from(exit::CONFIG)));
        assert!(sentence(&output).contains("airflow.pub.pem"), "{output:?}");
    }
    rig.start_daemon();
    let set = std::fs::read_to_string(rig.path("node/jwks.json")).unwrap();
    assert_eq!(set.matches("\"kid\"").count(), 1, "{set}");
}

/// systemd grants a service's user access to a credential by an ACL entry, which the file's mode shows as the group's.
#[test]
fn a_credential_is_the_service_managers_to_guard() {
    let rig = stopped();
    let credentials = rig.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let key = credentials.join("halligan.node-key");
    std::fs::copy(rig.path("node/node.pem"), &key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o440)).unwrap();
    let check = |credentials: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligand"));
        command.arg("--config").arg(rig.path("halligand.toml")).arg("check-config");
        command.envs(credentials.map(|directory| ("CREDENTIALS_DIRECTORY", directory)));
        command.output().unwrap()
    };
    assert!(check(Some(&credentials)).status.success());
    // The same file is also configured by its path, for a program that was given no credentials.
    let named = format!("[node]\nkey_file = '{}'", key.display());
    std::fs::write(rig.path("halligand.toml"), rig.daemon_config().replace("[node]", &named)).unwrap();
    let output = check(None);
    assert_eq!(output.status.code(), Some(i32::from(exit::CONFIG)));
    assert!(sentence(&output).contains("chmod 600"), "{output:?}");
}

#[test]
fn a_control_plane_with_a_missing_or_exposed_key_says_so_and_makes_no_other() {
    let mut rig = stopped();
    rig.kill_control();
    let run = |code: u8, words: &[&str]| {
        let before = files(&rig.path("control"));
        for verb in ["serve", "check-config"] {
            let output = rig.control_command(verb).output().unwrap();
            let said = sentence(&output);
            assert_eq!(output.status.code(), Some(i32::from(code)), "{verb}: {said}");
            assert!(words.iter().all(|word| said.contains(word)), "{verb}: {said}");
        }
        assert_eq!(files(&rig.path("control")), before, "something was written");
    };
    let key = rig.path("control/token.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    run(exit::CONFIG, &["token.pem", "chmod 600"]);
    std::fs::remove_file(&key).unwrap();
    run(exit::CONFIG, &["token.pem"]);
}

#[test]
fn a_damaged_replica_is_set_aside_and_everything_denied_until_the_control_plane_gives_another() {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    rig.daemon.take().unwrap().terminate();
    rig.kill_control();
    let garbage = b"this was a database once\n".repeat(4000);
    std::fs::write(rig.path("node/replica.db"), &garbage).unwrap();
    rig.start_daemon_in(&[]);
    denied(&rig.authorize(&token, "GET", "/api/v2/dags"), 403, "replica_missing");
    assert_eq!(ready(&rig), 503);
    let (kind, what) = alarms(&rig).into_iter().next().unwrap();
    assert_eq!(kind, "damaged", "{what}");
    let kept = |bytes: &[u8]| files(&rig.path("node")).values().any(|(kept, _)| kept == bytes);
    assert!(kept(&garbage), "what could not be believed is kept: {what}");
    rig.start_control(rig.control_port);
    until("the replica is back", || rig.authorize(&token, "GET", "/api/v2/dags").status == 200);
    assert_eq!(ready(&rig), 200);
}

#[test]
fn a_damaged_audit_log_is_set_aside_with_an_alarm_and_another_begun() {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    assert_eq!(rig.authorize(&token, "POST", "/api/v2/dags/etl/dagRuns").status, 200);
    rig.daemon.take().unwrap().terminate();
    let path = rig.path("node/audit.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(b'#');
    std::fs::write(&path, &bytes).unwrap();
    rig.start_daemon_in(&[]);
    let (kind, what) = alarms(&rig).into_iter().next().unwrap();
    assert_eq!(kind, "damaged", "{what}");
    assert!(files(&rig.path("node")).values().any(|(kept, _)| *kept == bytes), "{what}");
    assert_eq!(rig.authorize(&token, "POST", "/api/v2/dags/etl/dagRuns").status, 200);
    assert_eq!(rig.json(&["audit", "verify"])["fault"], serde_json::Value::Null);
}

#[test]
fn a_truncated_bundle_is_refused_and_the_replica_stays_what_it_was() {
    let rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    let file = rig.path("replica.bundle");
    rig.cli(&["replica", "export", file.to_str().unwrap()]);
    let whole = std::fs::read(&file).unwrap();
    let before = rig.json(&["replica", "verify"]);
    for bytes in [&whole[..whole.len() - 1], &whole[..whole.len() / 2], &whole[..3], b"", b"not a bundle"] {
        std::fs::write(&file, bytes).unwrap();
        let output = rig.cli_command().arg("replica").arg("import").arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(i32::from(exit::DATAERR)), "{output:?}");
        assert!(sentence(&output).contains("bundle"), "{output:?}");
    }
    let output = rig.cli_command().args(["replica", "import", "/nowhere/bundle"]).output().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(exit::NOINPUT)), "{output:?}");
    assert!(sentence(&output).contains("/nowhere/bundle"));
    let after = rig.json(&["replica", "verify"]);
    assert_eq!((&after["version"], &after["digest"]), (&before["version"], &before["digest"]));
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").status, 200);
}

#[test]
fn ten_megabytes_of_header_are_refused_and_the_next_request_is_answered() {
    let rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    let mut stream = TcpStream::connect(("127.0.0.1", rig.daemon_port)).unwrap();
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let line = format!("X-Padding: {}\r\n", "x".repeat(8000));
        // The daemon may close the connection meanwhile, so a failed write is expected.
        let _ = sender.write_all(b"GET /v1/authorize HTTP/1.1\r\nHost: a\r\n");
        (0..10_000_000 / line.len()).all(|_| sender.write_all(line.as_bytes()).is_ok())
    });
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
    drop(stream);
    assert!(!sending.join().unwrap(), "all of it was taken");
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").status, 200);
}

#[test]
fn a_token_of_five_kibibytes_is_denied_for_its_size() {
    let rig = Rig::start();
    for token in
        ["a".repeat(5 * 1024), format!("{}.{}.{}", "a".repeat(100), "b".repeat(5000), "c".repeat(86))]
    {
        denied(&rig.authorize(&token, "GET", "/api/v2/dags"), 401, "token_too_large");
    }
}

#[test]
fn a_clock_at_1970_is_not_trusted_and_a_clock_that_is_right_again_is() {
    let Some(in_1970) = shifted("@1970-01-02 00:00:00") else { return };
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    rig.daemon.take().unwrap().terminate();
    rig.start_daemon_in(&in_1970);
    let time = rig.json(&["status"])["time"].as_i64().unwrap();
    assert!(time < 10 * 86_400, "the clock was not shifted: {time}");
    for method in ["GET", "POST"] {
        denied(&rig.authorize(&token, method, "/api/v2/dags"), 403, "clock_untrusted");
    }
    assert_eq!(rig.json(&["audit", "verify"])["fault"], serde_json::Value::Null);
    rig.daemon.take().unwrap().terminate();
    rig.start_daemon();
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").status, 200);
    assert_eq!(rig.json(&["audit", "verify"])["fault"], serde_json::Value::Null);
}
