//! Distribution of environment variables from the control plane to the files that systemd reads on a host, where they
//! stay when the control plane is down.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::rig::node::Node;
use crate::rig::{Rig, until};
use crate::secrets::{files, holds};

const SECRET: &str = "s3cret-741852963";

/// Returns the path of a deployment's variables on a host with this state directory.
fn file(rig: &Rig, state: &str, deployment: &str) -> PathBuf {
    rig.path(&format!("{state}/environment/{deployment}.env"))
}

/// Returns the assignments in a file, without comment lines.
fn assignments(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn set(rig: &Rig, verb: &str, words: &[&str]) {
    rig.cli(&[&["deployment", "variable", verb, "-d", &rig.deployment], words].concat());
}

/// Waits until a host has these assignments and no others.
fn arrive(path: &Path, wanted: &[&str]) {
    until("the variables arrive", || assignments(path) == wanted && path.exists());
}

fn alarms(rig: &Rig, kind: &str) -> Vec<String> {
    let status = rig.json(&["status"]);
    let of_kind = |alarm: &&Value| alarm["kind"] == kind;
    let alarms = status["alarms"].as_array().unwrap().iter().filter(of_kind);
    alarms.map(|alarm| alarm["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn variables_reach_each_host_follow_their_changes_and_go_with_the_deployment() {
    let rig = Rig::start();
    let other = Node::start(&rig, "other");
    let files = [file(&rig, "node", &rig.deployment), file(&rig, "other/state", &rig.deployment)];
    set(&rig, "create", &["A=one", "B=a \"b\" $c"]);
    for file in &files {
        arrive(file, &["A=\"one\"", "B=\"a \\\"b\\\" \\$c\""]);
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // Each host has an object of its own, which no other host can read.
    let objects = files.clone().map(|file| std::fs::read_to_string(file.with_extension("jws")).unwrap());
    assert_ne!(objects[0], objects[1]);
    set(&rig, "update", &["A=two"]);
    set(&rig, "delete", &["B"]);
    for file in &files {
        arrive(file, &["A=\"two\""]);
    }
    set(&rig, "delete", &["A"]);
    for file in &files {
        arrive(file, &[]);
    }
    rig.cli(&["deployment", "delete", &rig.deployment, "--force"]);
    for file in &files {
        until("the file is removed", || !file.exists() && !file.with_extension("jws").exists());
    }
    drop(other);
}

#[test]
fn in_an_outage_the_last_version_stays_and_is_repaired_on_the_host() {
    let mut rig = Rig::start();
    let path = file(&rig, "node", &rig.deployment);
    set(&rig, "create", &["A=one"]);
    arrive(&path, &["A=\"one\""]);
    rig.kill_control();
    rig.kill_daemon();
    std::fs::write(&path, "A=\"of somebody else\"\n").unwrap();
    rig.start_daemon();
    arrive(&path, &["A=\"one\""]);
    rig.kill_daemon();
    // Another host's object, or a damaged one, changes nothing.
    let object = std::fs::read_to_string(path.with_extension("jws")).unwrap();
    std::fs::write(path.with_extension("jws"), object.replace('.', "..")).unwrap();
    rig.start_daemon();
    until("the damage is told", || !alarms(&rig, "damaged").is_empty());
    assert_eq!(assignments(&path), ["A=\"one\""]);
    // After its return the control plane sends the host the lost and the changed variables.
    rig.start_control(rig.control_port);
    until("the object is there again", || path.with_extension("jws").exists());
    set(&rig, "update", &["A=two"]);
    arrive(&path, &["A=\"two\""]);
}

#[test]
fn a_host_that_was_enrolled_before_or_lost_its_key_makes_one_and_is_given_the_variables() {
    let mut rig = Rig::start();
    let path = file(&rig, "node", &rig.deployment);
    let key = rig.path("node/environment.pem");
    set(&rig, "create", &["A=one"]);
    arrive(&path, &["A=\"one\""]);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read_to_string(&key).unwrap();
    let object = std::fs::read_to_string(path.with_extension("jws")).unwrap();
    rig.kill_daemon();
    std::fs::remove_file(&key).unwrap();
    rig.start_daemon();
    assert_ne!(std::fs::read_to_string(&key).unwrap(), before);
    until("another object arrives", || {
        std::fs::read_to_string(path.with_extension("jws")).is_ok_and(|text| text != object)
    });
    arrive(&path, &["A=\"one\""]);
    set(&rig, "update", &["A=two"]);
    arrive(&path, &["A=\"two\""]);
    assert_eq!(alarms(&rig, "refused"), [""; 0]);
}

#[test]
fn variables_of_a_control_plane_that_was_set_back_are_refused_until_it_is_recovered() {
    let mut rig = Rig::start();
    let path = file(&rig, "node", &rig.deployment);
    set(&rig, "create", &["A=old"]);
    arrive(&path, &["A=\"old\""]);
    rig.kill_control();
    let backup = rig.back_up_control();
    rig.start_control(rig.control_port);
    // Versions are at least a second apart.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    set(&rig, "update", &["A=new"]);
    arrive(&path, &["A=\"new\""]);
    rig.kill_control();
    rig.restore_control(&backup);
    rig.start_control(rig.control_port);
    until("the older version is refused", || {
        alarms(&rig, "rollback")
            .iter()
            .any(|what| what.contains("the environment of") && what.contains("recover"))
    });
    assert_eq!(assignments(&path), ["A=\"new\""]);
    rig.kill_control();
    rig.recover_above(1000);
    rig.start_control(rig.control_port);
    arrive(&path, &["A=\"old\""]);
}

#[test]
fn a_secret_is_in_the_file_of_its_deployment_and_nowhere_else() {
    let mut rig = Rig::start();
    rig.kill_control();
    rig.kill_daemon();
    rig.start_control_saying(rig.control_port, "trace");
    rig.start_daemon_saying("trace");
    let path = file(&rig, "node", &rig.deployment);
    let given = rig.path("given");
    std::fs::write(&given, SECRET).unwrap();
    set(&rig, "create", &["--key", "S", "--secret", "--value-file", given.to_str().unwrap()]);
    std::fs::remove_file(&given).unwrap();
    arrive(&path, &[&format!("S=\"{SECRET}\"")]);
    let shown = [rig.json(&["status"]), rig.json(&["deployment", "show", &rig.deployment])];
    assert!(!format!("{shown:?}").contains(SECRET));
    rig.kill_control();
    rig.kill_daemon();
    let mut kept = Vec::new();
    files(rig.directory.path(), &mut kept);
    assert!(kept.contains(&path) && kept.iter().any(|path| path.ends_with("environment.key")));
    for found in kept.iter().filter(|found| **found != path) {
        let bytes = std::fs::read(found).unwrap();
        assert!(!holds(&bytes, SECRET), "{} holds the secret", found.display());
    }
}
