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
