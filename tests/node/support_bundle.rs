//! Support bundles contain the data for a diagnosis, and no secret from any source.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::rig::Rig;

/// Installs a program that prints a file's content in place of one of the host's programs.
fn stand_in(rig: &Rig, name: &str, prints: &str) {
    let (directory, text) = (rig.path("bin"), rig.path(&format!("{name}.txt")));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(&text, prints).unwrap();
    let program = directory.join(name);
    std::fs::write(&program, format!("#!/bin/sh\ncat '{}'\n", text.display())).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_bundle_says_how_the_host_stands_and_no_secret_that_was_planted() {
    let rig = Rig::start();
    let (_, token) = rig.direct_access_token("oncall", &rig.deployment);
    rig.synced();
    let node_key = std::fs::read_to_string(rig.path("node/node.pem")).unwrap();
    let enrolment = std::fs::read_to_string(rig.path("enrolment-token")).unwrap();
    // The secrets are a token, a key, an enrolment token and a password, in the configuration, units' output and the
    // journal.
    let config = rig.daemon_config()
        + &format!("# api_token = \"{token}\"\n# https://me:hunter2@control.example\n# password = hunter2\n");
    std::fs::write(rig.path("halligand.toml"), config).unwrap();
    stand_in(
        &rig,
        "systemctl",
        &format!("Environment=TOKEN={token} ENROL={enrolment}\nActiveState=active\n"),
    );
    stand_in(
        &rig,
        "journalctl",
        &format!("{{\"MESSAGE\":\"Bearer {token}\"}}\n{node_key}{{\"MESSAGE\":\"the end\"}}\n"),
    );

    let path = std::env::var("PATH").unwrap();
    let bundle = rig.path("bundle.tar.zst");
    let made = rig
        .cli_command()
        .env("PATH", format!("{}:{path}", rig.path("bin").display()))
        .args(["support-bundle", "--output"])
        .arg(&bundle)
        .arg("--config")
        .arg(rig.path("halligand.toml"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    assert_eq!(std::fs::metadata(&bundle).unwrap().permissions().mode() & 0o777, 0o600);

    let out = rig.path("out");
    std::fs::create_dir(&out).unwrap();
    let tar = zstd::decode_all(std::fs::File::open(&bundle).unwrap()).unwrap();
    std::fs::write(rig.path("bundle.tar"), &tar).unwrap();
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(rig.path("bundle.tar")).arg("-C").arg(&out).arg("--strip-components=1");
    assert!(unpack.status().unwrap().success(), "tar can't read the bundle");
    let text = String::from_utf8_lossy(&tar).into_owned();
    let key_line = node_key.lines().nth(1).unwrap();
    let signature = token.rsplit('.').next().unwrap();
    for secret in [signature, key_line, enrolment.trim(), "hunter2", &rig.owner_token] {
        assert!(!text.contains(secret), "the bundle holds a secret");
    }

    let file = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_else(|_| panic!("no {name}"));
    let json = |name: &str| serde_json::from_str::<serde_json::Value>(&file(name)).unwrap();
    assert_eq!(json("status.json")["controlPlane"]["connectivity"], "online");
    assert!(json("replica.json")["version"].as_u64().unwrap() > 0);
    assert!(json("audit.json")["fault"].is_null());
    assert!(file("config/halligand.toml").contains("[control_plane]"));
    assert!(file("systemd/halligand.service.state").contains("ActiveState=active"));
    assert!(file("journal.json").contains("the end"));
    assert!(file("roots.txt").contains("root.pem"));
    assert!(file("versions.txt").contains("halligan "));

    // Without a daemon the bundle holds what is available, and names the reason for each missing part.
    let without = rig.path("without.tar.zst");
    let made = rig
        .cli_command()
        .env("HALLIGAN_SOCKET", rig.path("nobody.sock"))
        .args(["support-bundle", "--output"])
        .arg(&without)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let tar = zstd::decode_all(std::fs::File::open(&without).unwrap()).unwrap();
    assert!(String::from_utf8_lossy(&tar).contains("status.json.missing"));
}
