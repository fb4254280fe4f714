//! A token's value is shown once and stored nowhere: not in the databases, SQLite's side files or the logs of either
//! program.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use crate::rig::Rig;
use serde_json::Value;

pub(crate) fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

pub(crate) fn holds(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|window| window == what.as_bytes())
}

#[test]
fn no_value_of_a_token_is_kept_or_logged_anywhere() {
    let mut rig = Rig::start();
    // The programs run with their most verbose logging.
    rig.kill_control();
    rig.kill_daemon();
    let control = rig.control_port;
    rig.start_control_saying(control, "trace");
    rig.start_daemon_saying("trace");
    let mut values = vec![rig.owner_token.clone()];
    let mut keep = |answer: &Value| values.push(answer["token"].as_str().unwrap().to_owned());
    let deployment = rig.deployment.clone();
    let at = ["--deployment-id", deployment.as_str()];
    let standard = rig.json(&[&["token", "create", "-n", "standard"], &at[..]].concat());
    keep(&standard);
    let direct =
        rig.json(&[&["token", "create", "-n", "direct", "--direct-access", "-e", "3"], &at[..]].concat());
    keep(&direct);
    for id in [&standard["id"], &direct["id"]] {
        keep(&rig.json(&["token", "rotate", id.as_str().unwrap(), "--force"]));
    }
    keep(&rig.json(&["user", "create", "u@acme.example"]));
    rig.synced();
    for value in &values {
        rig.authorize(value, "GET", "/api/v2/dags");
        rig.authorize(value, "POST", &format!("/api/v2/dags/etl/dagRuns?token={value}"));
    }
    let enrolment = std::fs::read_to_string(rig.path("enrolment-token")).unwrap();
    std::fs::remove_file(rig.path("enrolment-token")).unwrap();

    let mut kept = Vec::new();
    files(rig.directory.path(), &mut kept);
    for name in ["control.db", "control.db-wal", "replica.db", "audit.db", "control.log", "halligand.log"] {
        assert!(kept.iter().any(|path| path.ends_with(name)), "{name} is not looked at: {kept:?}");
    }
    for path in kept {
        let bytes = std::fs::read(&path).unwrap();
        for value in &values {
            let mut parts = value.split('.').skip(1);
            let (claims, signature) = (parts.next().unwrap(), parts.next().unwrap());
            assert!(!holds(&bytes, claims), "{} holds the claims of a token", path.display());
            assert!(!holds(&bytes, signature), "{} holds the signature of a token", path.display());
        }
        assert!(!holds(&bytes, enrolment.trim()), "{} holds the enrolment token", path.display());
    }
}
