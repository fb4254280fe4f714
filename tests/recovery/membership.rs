//! Membership of a host in its data plane: retired, copied, renamed and enrolled again, with the real programs.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use crate::rig::node::Node;
use crate::rig::{Rig, Running, curl, free_port, until};
use serde_json::Value;

/// Returns the id of the rig's own host.
fn node_id(rig: &Rig) -> String {
    rig.json(&["status"])["nodeId"].as_str().unwrap().to_owned()
}

fn retire(rig: &Rig, node: &str) {
    rig.cli(&["node", "retire", node, "--data-plane-id", &rig.data_plane, "--force"]);
}

fn alarms(status: &Value, kind: &str) -> usize {
    status["alarms"].as_array().unwrap().iter().filter(|alarm| alarm["kind"] == kind).count()
}

fn metric(port: u16, line: &str) -> bool {
    crate::rig::metrics(port).lines().any(|told| told == line)
}

fn run_to_its_end(rig: &Rig) -> Output {
    rig.daemon_command().output().unwrap()
}

fn new_identity(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halligand"));
    command.arg("--config").arg(config).arg("new-identity").args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_host_that_was_retired_says_so_and_goes_by_its_staleness_policy() {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    assert!(metric(rig.daemon_port, "halligan_node_retired 0"));
    assert_eq!(rig.json(&["status"])["retired"], Value::Null);
    retire(&rig, &node_id(&rig));
    until("the host knows", || !rig.json(&["status"])["retired"].is_null());
    let status = rig.json(&["status"]);
    assert_eq!(alarms(&status, "retired"), 1, "{status}");
    assert!(metric(rig.daemon_port, "halligan_node_retired 1"));
    let shown = String::from_utf8(rig.cli(&["status"]).stdout).unwrap();
    assert!(shown.contains("was retired") && shown.contains("new-identity"), "{shown}");
    // An unsigned answer must not end access; only the age limit of the replica does.
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").status, 200);
    rig.kill_daemon();
    let config =
        rig.daemon_config() + "[staleness]\ndefault_seconds = 1\n[staleness.roles]\nDEPLOYMENT_ADMIN = 1\n";
    std::fs::write(rig.path("halligand.toml"), config).unwrap();
    let mut command = rig.daemon_command();
    rig.daemon = Some(Running::start(command.stderr(rig.log("halligand.log"))));
    until("it denies", || rig.authorize(&token, "GET", "/api/v2/dags").status == 403);
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").reason(), "replica_stale");
    // After a restart the host learns again that it is retired.
    until("the host knows", || !rig.json(&["status"])["retired"].is_null());
}

#[test]
fn a_host_whose_statements_are_refused_does_not_say_that_they_are_taken() {
    let rig = Rig::start();
    retire(&rig, &node_id(&rig));
    let said = |what: &str| std::fs::read_to_string(rig.path("halligand.log")).unwrap().contains(what);
    let refused = "the node's statement could not be sent to the control plane";
    until("a statement is refused", || said(refused));
    // It looks every second, and states something every 15 seconds.
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    assert!(!said(&format!("no longer: {refused}")));
}

#[test]
fn a_retired_host_learns_so_from_its_own_record_too() {
    let mut rig = Rig::start();
    let mut other = Node::start(&rig, "other");
    other.synced(&rig);
    let id = other.json(&rig, &["status"])["nodeId"].as_str().unwrap().to_owned();
    // The host is cut off from its control plane, and gets the replica as a file.
    other.configure(&rig, free_port(), &[]);
    other.restart();
    retire(&rig, &id);
    rig.synced();
    let bundle = rig.path("replica.bundle");
    rig.cli(&["replica", "export", bundle.to_str().unwrap()]);
    rig.kill_control();
    other.cli(&rig, &["replica", "import", bundle.to_str().unwrap()]);
    until("the host knows", || !other.json(&rig, &["status"])["retired"].is_null());
    assert_eq!(alarms(&other.json(&rig, &["status"]), "retired"), 1);
}

#[test]
fn a_retired_host_is_told_what_to_remove_and_enrols_anew_once_it_has() {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    let before = node_id(&rig);
    retire(&rig, &before);
    rig.kill_daemon();

    // A host that lost its name but has its key reports that it was retired, with an exit code at which systemd does
    // not restart it.
    std::fs::remove_file(rig.path("node/node.json")).unwrap();
    for _ in 0..2 {
        rig.give_enrolment_token(&rig.path("enrolment-token"));
        let refused = run_to_its_end(&rig);
        assert_eq!(refused.status.code(), Some(78), "{refused:?}");
        for part in [before.as_str(), "was retired", "halligand new-identity"] {
            assert!(said(&refused).contains(part), "{part}: {}", said(&refused));
        }
    }
    let config = rig.path("halligand.toml");
    let done = new_identity(&config, &["--force"]);
    assert!(done.status.success(), "{done:?}");
    assert!(!rig.path("node/node.pem").exists());
    let none = new_identity(&config, &[]);
    assert_eq!(none.status.code(), Some(66), "{none:?}");

    rig.give_enrolment_token(&rig.path("enrolment-token"));
    rig.start_daemon();
    assert_ne!(node_id(&rig), before);
    rig.synced();
    assert_eq!(rig.authorize(&token, "GET", "/api/v2/dags").status, 200);
    let status = rig.json(&["status"]);
    assert_eq!(status["retired"], Value::Null);
    assert_eq!(status["alarms"], Value::Array(Vec::new()), "{status}");
    assert!(rig.cli(&["audit", "verify"]).status.success());
}

#[test]
fn an_enrolment_token_that_was_used_gives_no_retired_identity_back() {
    let mut rig = Rig::start();
    let before = node_id(&rig);
    retire(&rig, &before);
    rig.kill_daemon();
    std::fs::remove_file(rig.path("node/node.json")).unwrap();
    // The same enrolment token and the same key are used again.
    let refused = run_to_its_end(&rig);
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(said(&refused).contains("was retired"), "{}", said(&refused));
}

#[test]
fn an_identity_is_set_aside_only_where_nothing_is_lost_by_it() {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    let config = rig.path("halligand.toml");
    let running = new_identity(&config, &[]);
    assert_eq!(running.status.code(), Some(75), "{running:?}");
    assert!(said(&running).contains("stop it first"), "{}", said(&running));
    rig.kill_control();
    assert_eq!(rig.authorize(&token, "POST", "/api/v2/dags/etl/dagRuns").status, 200);
    rig.kill_daemon();
    // A daemon that is starting or stopping holds the state directory but does not answer at its socket.
    let held = halligan::platform::state_directory::hold(&rig.path("node")).unwrap();
    let starting = new_identity(&config, &["--force"]);
    assert_eq!(starting.status.code(), Some(75), "{starting:?}");
    assert!(said(&starting).contains("works on"), "{}", said(&starting));
    drop(held);
    let waiting = new_identity(&config, &[]);
    assert_eq!(waiting.status.code(), Some(75), "{waiting:?}");
    assert!(said(&waiting).contains("have not arrived"), "{}", said(&waiting));
    assert!(rig.path("node/node.json").exists(), "nothing was moved");
    let done = new_identity(&config, &["--force"]);
    assert!(done.status.success(), "{done:?}");
    let aside: Vec<_> = std::fs::read_dir(rig.path("node"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(aside.len(), 1);
    for name in ["node.json", "node.pem", "audit.db"] {
        assert!(aside[0].join(name).exists(), "{name}");
    }
    assert!(rig.path("node/replica.db").exists(), "the replica is the data plane's");
}

/// Copies the rig's host: another daemon on a copy of the state directory.
struct Copy {
    running: Option<Running>,
    config: std::path::PathBuf,
    socket: String,
}

impl Copy {
    fn make(rig: &Rig) -> Self {
        let (from, to) = (rig.path("node"), rig.path("copy"));
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
        let socket = rig.path("copy.sock");
        let config = rig.daemon_config_at("copy", "copy.sock", free_port());
        let path = rig.path("copy.toml");
        std::fs::write(&path, config).unwrap();
        Self { running: None, config: path, socket: socket.display().to_string() }
    }

    fn run(&mut self, rig: &Rig) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_halligand"));
        command.arg("--config").arg(&self.config).stderr(rig.log("copy.log"));
        self.running = Some(Running::start(&mut command));
        until("the copy answers", || {
            curl(&["--unix-socket", &self.socket, "http://localhost/v1/status"]).status == 200
        });
    }

    fn status(&self) -> Value {
        curl(&["--unix-socket", &self.socket, "http://localhost/v1/status"]).json()
    }
}

#[test]
fn two_hosts_with_one_identity_are_found_told_and_parted() {
    let mut rig = Rig::start();
    let metrics_port = free_port();
    rig.kill_control();
    rig.control_extra = format!("metrics_listen = \"127.0.0.1:{metrics_port}\"\n");
    rig.start_control(rig.control_port);
    rig.synced();
    let node = node_id(&rig);
    let remark = |rig: &Rig| {
        let nodes = rig.json(&["node", "list", "--data-plane-id", &rig.data_plane]);
        let nodes = nodes.as_array().unwrap().clone();
        nodes.into_iter().find(|listed| listed["id"] == node.as_str()).unwrap()["remark"].clone()
    };
    // Restarts are not mistaken for a second host.
    for _ in 0..2 {
        rig.kill_daemon();
        rig.start_daemon();
        rig.direct_access_token("something new", &rig.deployment);
        rig.synced();
    }
    assert_eq!(remark(&rig), Value::Null);

    rig.kill_daemon();
    let mut copy = Copy::make(&rig);
    rig.start_daemon();
    copy.run(&rig);
    until("the control plane tells them apart", || {
        // A change at the control plane makes both hosts poll.
        rig.direct_access_token("something new", &rig.deployment);
        remark(&rig) == "fork: two hosts share this identity"
    });
    let (plane, gauge) = (&rig.data_plane, "halligan_control_nodes_shared");
    assert!(metric(metrics_port, &format!("{gauge}{{data_plane=\"{plane}\"}} 1")));
    until("both hosts know", || {
        copy.status()["sharedIdentity"] == true && rig.json(&["status"])["sharedIdentity"] == true
    });
    assert!(
        alarms(&copy.status(), "shared_identity") == 1 && metric(rig.daemon_port, "halligan_node_shared 1")
    );
    let shown = String::from_utf8(rig.cli(&["status"]).stdout).unwrap();
    assert!(shown.contains("has the identity of this one"), "{shown}");

    // After the copy gets its own identity, neither host has an alarm.
    copy.running = None;
    let done = new_identity(&copy.config, &["--force"]);
    assert!(done.status.success(), "{done:?}");
    rig.give_enrolment_token(&rig.path("enrolment-token"));
    copy.run(&rig);
    until("the copy is in sync", || copy.status()["controlPlane"]["state"] == "live");
    assert_ne!(copy.status()["nodeId"], node.as_str());
    assert_eq!(copy.status()["sharedIdentity"], false);
    assert_eq!(rig.json(&["node", "list", "--data-plane-id", &rig.data_plane]).as_array().unwrap().len(), 2);
}

#[test]
fn a_name_that_changed_after_enrolment_takes_effect() {
    let mut rig = Rig::start();
    let name = |rig: &Rig| {
        let nodes = rig.json(&["node", "list", "--data-plane-id", &rig.data_plane]);
        nodes[0]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(name(&rig), "host-1");
    let rename = |rig: &mut Rig, line: &str| {
        rig.kill_daemon();
        let config = rig.daemon_config().replace("name = \"host-1\"", line);
        std::fs::write(rig.path("halligand.toml"), config).unwrap();
        rig.start_daemon();
    };
    rename(&mut rig, "name = \"rack 7, left\"");
    until("the new name is known", || name(&rig) == "rack 7, left");
    rig.synced();
    let records = rig.json(&["replica", "show"])["records"].as_array().unwrap().clone();
    let named = records.iter().find(|record| record["kind"] == "node").unwrap()["body"]["name"].clone();
    assert_eq!(named, "rack 7, left", "the other hosts know it too");
    let longest = "n".repeat(100);
    for other in ["caf\u{e9} \u{1f692}", "HOST-1", "a", &longest] {
        rename(&mut rig, &format!("name = \"{other}\""));
        until("the new name is known", || name(&rig) == other);
    }
    rename(&mut rig, "name = \"rack 7, left\"");
    until("the new name is known", || name(&rig) == "rack 7, left");
    // The host refuses to start with a malformed name.
    rig.kill_daemon();
    for bad in [" ", "a\\u001b[31m", "a\\u202eb", &"n".repeat(300)] {
        let config = rig.daemon_config().replace("name = \"host-1\"", &format!("name = \"{bad}\""));
        std::fs::write(rig.path("halligand.toml"), config).unwrap();
        let refused = run_to_its_end(&rig);
        assert_eq!(refused.status.code(), Some(78), "{bad:?}: {refused:?}");
        assert!(said(&refused).contains("node.name"), "{bad:?}: {}", said(&refused));
    }
    std::fs::write(rig.path("halligand.toml"), rig.daemon_config()).unwrap();
    rig.start_daemon();
    until("the configured name is known", || name(&rig) == "host-1");
    // A host without a configured name keeps the one it has.
    rename(&mut rig, "");
    rig.direct_access_token("something new", &rig.deployment);
    rig.synced();
    assert_eq!(name(&rig), "host-1");
}
