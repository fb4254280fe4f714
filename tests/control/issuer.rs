//! Protection against an unintended change of the issuer: the control plane compares the issuer with the one it last
//! signed as, and a host's error names the cause in a sentence of its own.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;

use crate::rig::{Rig, Running, curl, free_port, until};

#[test]
fn a_control_plane_does_not_start_under_another_issuer_unless_it_is_told_that_this_is_meant() {
    let mut rig = Rig::start();
    rig.synced();
    rig.kill_control();
    let config = std::fs::read_to_string(rig.path("control.toml")).unwrap();
    let (own, other) = (format!("issuer = \"http://127.0.0.1:{}\"", rig.control_port), "http://127.0.0.1:9");
    assert!(config.contains(&own));
    let port = free_port();
    let listen = format!("127.0.0.1:{}", rig.control_port);
    let moved = config.replace(&own, &format!("issuer = \"{other}\""));
    let moved = moved.replace(&format!("listen = \"{listen}\""), &format!("listen = \"127.0.0.1:{port}\""));
    std::fs::write(rig.path("other.toml"), moved).unwrap();
    let control = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligan-control"));
        command.arg("--config").arg(rig.path("other.toml")).args(arguments).output().unwrap()
    };
    // The keyset names the old issuer. Until a newer keyset names the new issuer, nodes would refuse every head.
    for arguments in [
        &["serve"][..],
        &["serve", "--accept-new-issuer"],
        &["check-config"],
        &["user-token", "owner@acme.example"],
    ] {
        let refused = control(arguments);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(78), "{arguments:?}: {said}");
        assert!(said.contains(other) && said.contains("halligan key renew --issuer"), "{said}");
    }
    let renewed = Command::new(env!("CARGO_BIN_EXE_halligan"))
        .current_dir(rig.path("control"))
        .args([
            "key",
            "renew",
            "--issuer",
            other,
            "--keyset",
            "keysets.ndjson",
            "--sign",
            "root.pem",
            "keyset-2.json",
        ])
        .output()
        .unwrap();
    assert!(renewed.status.success(), "{renewed:?}");
    assert!(String::from_utf8(renewed.stdout).unwrap().contains(other));
    let chain = |name: &str| std::fs::read_to_string(rig.path(&format!("control/{name}"))).unwrap();
    std::fs::write(rig.path("control/keysets.ndjson"), chain("keysets.ndjson") + &chain("keyset-2.json"))
        .unwrap();
    for arguments in [&["serve"][..], &["check-config"], &["user-token", "owner@acme.example"]] {
        let refused = control(arguments);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(78), "{arguments:?}: {said}");
        assert!(
            said.contains("--accept-new-issuer") && said.contains(&rig.control_port.to_string()),
            "{said}"
        );
    }

    // The option is needed once: later starts compare with the new issuer, which is now the recorded one.
    for accept in [&["--accept-new-issuer"][..], &[]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligan-control"));
        command.arg("--config").arg(rig.path("other.toml")).arg("serve").args(accept);
        let running = Running::start(command.stderr(rig.log("control.log")));
        let healthy = format!("http://127.0.0.1:{port}/healthz");
        until("the control plane answers", || curl(&[&healthy]).status == 200);
        assert!(running.terminate().success(), "{accept:?}: {}", rig.read_log("control.log"));
        let made = control(&["user-token", "owner@acme.example"]);
        assert!(made.status.success(), "after {accept:?}: {made:?}");
    }
}

#[test]
fn a_host_that_is_enrolled_anew_under_another_issuer_follows_it_and_forgets_no_revocation() {
    let mut rig = Rig::start();
    let (kept, _) = rig.direct_access_token("kept", &rig.deployment);
    let (revoked, _) = rig.direct_access_token("revoked", &rig.deployment);
    rig.synced();
    rig.cli(&["token", "delete", &revoked, "--force"]);
    rig.synced();
    rig.kill_control();
    let state = rig.path("control");
    let backup = std::fs::read_to_string(state.join("keysets.ndjson")).unwrap();
    let (own, other) = ("issuer = \"http://127.0.0.1:", "issuer = \"http://localhost:");
    let issuer = format!("http://localhost:{}", rig.control_port);
    let renew =
        ["key", "renew", "--issuer", &issuer, "--keyset", "keysets.ndjson", "--sign", "root.pem", "2.json"];
    let renewed =
        Command::new(env!("CARGO_BIN_EXE_halligan")).current_dir(&state).args(renew).output().unwrap();
    assert!(renewed.status.success(), "{renewed:?}");
    let next = std::fs::read_to_string(state.join("2.json")).unwrap();
    std::fs::write(state.join("keysets.ndjson"), backup + &next).unwrap();
    let config = std::fs::read_to_string(rig.path("control.toml")).unwrap();
    std::fs::write(rig.path("control.toml"), config.replace(own, other)).unwrap();
    let mut command = rig.control_command("serve");
    command.arg("--accept-new-issuer").stderr(rig.log("control.log"));
    rig.control = Some(Running::start(&mut command));
    let healthy = format!("http://127.0.0.1:{}/healthz", rig.control_port);
    until("the control plane answers", || curl(&[&healthy]).status == 200);
    let made = rig.control_command("user-token").arg("owner@acme.example").output().unwrap();
    rig.owner_token = String::from_utf8(made.stdout).unwrap().trim().to_owned();

    rig.kill_daemon();
    let set_aside = rig.daemon_command().args(["new-identity", "--force"]).output().unwrap();
    assert!(set_aside.status.success(), "{set_aside:?}");
    rig.give_enrolment_token(&rig.path("enrolment-token"));
    rig.start_daemon();
    rig.synced();
    assert_eq!(rig.json(&["status"])["replica"]["keyset"], 2);
    // Every value of the old issuer is invalid, and a new value of a token opens.
    let rotated = rig.json(&["token", "rotate", &kept, "--force"]);
    rig.synced();
    assert_eq!(rig.authorize(rotated["token"].as_str().unwrap(), "GET", "/api/v2/dags").status, 200);
    let ledger = rusqlite::Connection::open(rig.path("node/replica.db")).unwrap();
    let remembered: u64 =
        ledger.query_row("SELECT count(*) FROM ledger WHERE key = ?1", [&revoked], |row| row.get(0)).unwrap();
    assert_eq!(remembered, 1);
}

#[test]
fn a_host_whose_control_plane_has_another_issuer_is_told_so_and_not_to_look_at_its_clock() {
    let mut rig = Rig::start();
    rig.synced();
    rig.kill_daemon();
    // After a change of the issuer, a host's stored identity still names the old issuer.
    let path = rig.path("node/node.json");
    let identity = std::fs::read_to_string(&path).unwrap();
    let old = format!("http://127.0.0.1:{}", rig.control_port);
    assert!(identity.contains(&old));
    std::fs::write(&path, identity.replace(&old, "https://old.example")).unwrap();
    rig.start_daemon();
    let error = || rig.json(&["status"])["controlPlane"]["lastError"].as_str().unwrap_or_default().to_owned();
    until("the host is told", || !error().is_empty());
    let said = error();
    assert!(said.contains("https://old.example") && said.contains(&old), "{said}");
    assert!(said.contains("issuer") && !said.contains("clock"), "{said}");
}
