//! The key ceremony of docs/keys.md, with the real programs. Roots are created and rotated, keys are added and removed,
//! and a daemon follows without a restart. After the removal of a stolen key, all of its signatures are invalid.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;

use crate::rig::{Rig, curl, until};
use serde_json::Value;

/// A rig, and a directory that represents the offline machine.
struct Ceremony {
    rig: Rig,
    offline: PathBuf,
}

impl Ceremony {
    fn start() -> Self {
        let rig = Rig::start();
        let offline = rig.path("offline");
        std::fs::create_dir(&offline).unwrap();
        let ceremony = Self { rig, offline };
        for name in ["root", "token", "replica"] {
            let from = ceremony.rig.path(&format!("control/{name}.pem"));
            std::fs::copy(&from, ceremony.file(&format!("{name}.pem"))).unwrap();
        }
        ceremony.copy("control/keysets.ndjson", "offline/keysets.ndjson");
        ceremony
    }

    fn file(&self, name: &str) -> PathBuf {
        self.offline.join(name)
    }

    fn copy(&self, from: &str, to: &str) {
        std::fs::copy(self.rig.path(from), self.rig.path(to)).unwrap();
    }

    /// Runs `halligan key …` in the offline directory with an empty environment.
    fn try_key(&self, arguments: &str) -> Output {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_halligan"));
        command.env_clear().current_dir(&self.offline).arg("key").args(arguments.split(' '));
        command.output().unwrap()
    }

    fn key(&self, arguments: &str) -> String {
        let output = self.try_key(arguments);
        assert!(output.status.success(), "halligan key {arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns the thumbprint of a key.
    fn kid(&self, file: &str) -> String {
        let shown: Value = serde_json::from_str(&self.key(&format!("show {file} --json"))).unwrap();
        shown["kid"].as_str().unwrap().to_owned()
    }

    /// Adds a keyset to the chain, here and at the control plane.
    fn publish(&self, name: &str) {
        let mut chain = std::fs::read_to_string(self.file("keysets.ndjson")).unwrap();
        chain.push_str(&std::fs::read_to_string(self.file(name)).unwrap());
        std::fs::write(self.file("keysets.ndjson"), chain).unwrap();
        self.copy("offline/keysets.ndjson", "control/keysets.ndjson");
    }

    fn reload_control(&self) {
        self.rig.control.as_ref().unwrap().signal("HUP");
    }

    fn follows(&self, keyset: u64) {
        until("the daemon follows the keyset", || self.rig.json(&["status"])["replica"]["keyset"] == keyset);
    }

    fn asked(&self, token: &str) -> (u16, String) {
        let answer = self.rig.authorize(token, "GET", "/api/v2/dags");
        (answer.status, answer.reason().to_owned())
    }

    fn alarmed(&self, word: &str) -> bool {
        let status = self.rig.json(&["status"]);
        let alarms = status["alarms"].as_array().unwrap().clone();
        alarms.iter().any(|alarm| alarm["what"].as_str().unwrap().contains(word))
    }

    fn ready(&self) -> u16 {
        curl(&[format!("http://127.0.0.1:{}/readyz", self.rig.daemon_port)]).status
    }
}

#[test]
fn a_key_is_made_for_its_owner_alone_and_never_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let make = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_halligan"));
        command.current_dir(&directory).args(["key", "generate", "root.pem"]).output().unwrap()
    };
    assert!(make().status.success());
    let path = directory.path().join("root.pem");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&path).unwrap();
    assert!(!make().status.success());
    std::fs::remove_file(directory.path().join("root.pub.pem")).unwrap();
    assert!(!make().status.success());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_key_is_named_by_its_thumbprint_whatever_that_begins_with() {
    let ceremony = Ceremony::start();
    let removed =
        ceremony.try_key("remove --keyset keysets.ndjson --kid -t1FKVU9t --sign root.pem keyset-2.json");
    assert_eq!(removed.status.code(), Some(65), "{removed:?}");
    assert!(String::from_utf8(removed.stderr).unwrap().contains("no key of the keyset is -t1FKVU9t"));
    assert!(!ceremony.file("keyset-2.json").exists());
}

#[test]
fn roots_and_keys_rotate_and_a_daemon_follows_without_a_restart() {
    let ceremony = Ceremony::start();
    let mut rig_token = ceremony.rig.direct_access_token("before", &ceremony.rig.deployment);
    let (_, forgotten) = ceremony.rig.direct_access_token("never rotated", &ceremony.rig.deployment);
    ceremony.rig.synced();

    // The roots change from one root to two of two. Neither the old root nor a single new root suffices as a signer.
    for name in ["root-2", "root-3"] {
        ceremony.key(&format!("generate {name}.pem"));
    }
    ceremony.key(
        "rotate-root --keyset keysets.ndjson --root root-2.pub.pem --root root-3.pub.pem --threshold 2 keyset-2.json",
    );
    std::fs::copy(ceremony.rig.path("control/root.pub.pem"), ceremony.file("root.pub.pem")).unwrap();
    let holds = || {
        let output = ceremony.try_key("verify --root root.pub.pem keysets.ndjson keyset-2.json");
        output.status.success()
    };
    for root in ["root.pem", "root-2.pem"] {
        ceremony.key(&format!("sign keyset-2.json --root {root}"));
        assert!(!holds(), "signed by too few: {root}");
    }
    // An incomplete keyset is refused with an alarm; the previous keyset stays in force.
    ceremony.copy("offline/keyset-2.json", "roots/keyset-2.json");
    until("the alarm is there", || ceremony.alarmed("are not followed"));
    assert_eq!(ceremony.asked(&rig_token.1).0, 200);
    ceremony.key("sign keyset-2.json --root root-3.pem");
    assert!(holds());
    assert!(ceremony.key("show keyset-2.json").contains("2 of 2"));
    ceremony.copy("offline/keyset-2.json", "roots/keyset-2.json");
    ceremony.follows(2);
    assert_eq!(ceremony.asked(&rig_token.1).0, 200);

    // The keyset has a new token key in addition to the old one. The control plane signs with the new key, and tokens
    // are rotated.
    ceremony.publish("keyset-2.json");
    ceremony.key("generate token-2.pem");
    ceremony.key("add --keyset keysets.ndjson --token token-2.pub.pem --sign root-2.pem --sign root-3.pem keyset-3.json");
    ceremony.publish("keyset-3.json");
    std::fs::copy(ceremony.file("token-2.pem"), ceremony.rig.path("control/token.pem")).unwrap();
    ceremony.reload_control();
    ceremony.follows(3);
    let rotated = ceremony.rig.json(&["token", "rotate", &rig_token.0, "--force"]);
    rotated["token"].as_str().unwrap().clone_into(&mut rig_token.1);
    ceremony.rig.synced();
    assert_eq!(ceremony.asked(&rig_token.1).0, 200);
    assert_eq!(ceremony.asked(&forgotten).0, 200, "the old key is still in the keyset");

    // Removing the old key invalidates every token that it signed, those of users included.
    let old = ceremony.kid("token.pem");
    ceremony.key(&format!(
        "remove --keyset keysets.ndjson --kid {old} --sign root-2.pem --sign root-3.pem keyset-4.json"
    ));
    ceremony.publish("keyset-4.json");
    ceremony.reload_control();
    ceremony.follows(4);
    assert_eq!(ceremony.asked(&rig_token.1).0, 200);
    assert_eq!(ceremony.asked(&forgotten), (401, "key_unknown".into()));
    let denied = ceremony.rig.cli_command().args(["data-plane", "list"]).output().unwrap();
    assert_eq!(denied.status.code(), Some(77));
    let renewed = ceremony.rig.control_command("user-token").arg("owner@acme.example").output().unwrap();
    assert!(renewed.status.success(), "{renewed:?}");
    let owner = String::from_utf8(renewed.stdout).unwrap();
    let mut list = ceremony.rig.cli_command();
    list.env("HALLIGAN_API_TOKEN", owner.trim()).args(["data-plane", "list"]);
    assert!(list.output().unwrap().status.success());
}

#[test]
fn a_stolen_replica_key_is_dropped_and_nothing_it_signed_is_served_until_a_new_head_comes() {
    let mut ceremony = Ceremony::start();
    let (_, token) = ceremony.rig.direct_access_token("good", &ceremony.rig.deployment);
    ceremony.rig.synced();
    ceremony.key("generate replica-2.pem");
    ceremony.key("add --keyset keysets.ndjson --replica replica-2.pub.pem --sign root.pem keyset-2.json");
    let old = ceremony.kid("replica.pem");
    ceremony.key(&format!("remove --keyset keyset-2.json --kid {old} --sign root.pem keyset-3.json"));

    // While the control plane is down, an operator copies the keysets to the host.
    ceremony.rig.kill_control();
    assert_eq!(ceremony.asked(&token).0, 200);
    for name in ["keyset-2.json", "keyset-3.json"] {
        ceremony.copy(&format!("offline/{name}"), &format!("roots/{name}"));
    }
    until("the replica is dead", || ceremony.asked(&token).1 == "replica_missing");
    until("the dropped key is alarmed", || ceremony.alarmed("is not in keyset 3"));
    assert_eq!(ceremony.ready(), 503);
    // A cold start must neither trust the replica of the dropped key nor set it aside.
    ceremony.rig.kill_daemon();
    let mut command = ceremony.rig.daemon_command();
    ceremony.rig.daemon = Some(crate::rig::Running::start(&mut command));
    until("the daemon is back", || ceremony.asked_or_nothing(&token).is_some());
    assert_eq!(ceremony.asked(&token).1, "replica_missing");

    // The control plane restarts with the other key, and the daemon accepts a head signed with it.
    ceremony.publish("keyset-2.json");
    ceremony.publish("keyset-3.json");
    std::fs::copy(ceremony.file("replica-2.pem"), ceremony.rig.path("control/replica.pem")).unwrap();
    ceremony.rig.start_control(ceremony.rig.control_port);
    until("the new head is taken in", || ceremony.asked(&token).0 == 200);
    assert_eq!(ceremony.ready(), 200);
}

impl Ceremony {
    fn asked_or_nothing(&self, token: &str) -> Option<u16> {
        let status = self.rig.authorize(token, "GET", "/api/v2/dags").status;
        (status != 0).then_some(status)
    }
}

#[test]
fn a_bad_file_is_alarmed_and_what_was_in_force_stays_also_across_a_restart() {
    let mut ceremony = Ceremony::start();
    let (_, token) = ceremony.rig.direct_access_token("good", &ceremony.rig.deployment);
    ceremony.rig.synced();
    // An unknown root signed this keyset.
    ceremony.key("generate stranger.pem");
    ceremony.key(
        "init --root stranger.pub.pem --token stranger.pub.pem --replica stranger.pub.pem --sign stranger.pem keyset-9.json",
    );
    ceremony.copy("offline/keyset-9.json", "roots/keyset-9.json");
    until("the stranger is alarmed", || ceremony.alarmed("are not followed"));
    std::fs::remove_file(ceremony.rig.path("roots/keyset-9.json")).unwrap();
    for (name, word) in [("keyset-8.json", "keyset-8.json"), ("root-8.pem", "root-8.pem")] {
        std::fs::write(ceremony.rig.path(&format!("roots/{name}")), "garbage\n").unwrap();
        until("the garbage is alarmed", || ceremony.alarmed(word));
    }
    assert_eq!(ceremony.asked(&token).0, 200);
    // The host does not pin root keys that do not vouch for the keysets that it holds.
    std::fs::rename(ceremony.rig.path("roots/root.pem"), ceremony.file("kept.pem")).unwrap();
    ceremony.copy("offline/stranger.pub.pem", "roots/root-8.pem");
    until("the strangers are alarmed", || ceremony.alarmed("do not vouch"));
    assert_eq!(ceremony.asked(&token).0, 200);
    std::fs::rename(ceremony.file("kept.pem"), ceremony.rig.path("roots/root.pem")).unwrap();
    std::fs::write(ceremony.rig.path("roots/root-8.pem"), "garbage\n").unwrap();
    ceremony.rig.kill_control();
    ceremony.rig.kill_daemon();
    ceremony.rig.start_daemon();
    assert_eq!(ceremony.asked(&token).0, 200);
    assert!(ceremony.alarmed("root-8.pem"));
}
