//! A disk that is really full: what changes something upstream is denied, reads go on with an alarm, nothing that was allowed
//! is lost, and all is well again once there is room, without a restart.

#![allow(clippy::unwrap_used, clippy::panic)]

mod rig;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rig::{Rig, curl, until};
use serde_json::Value;

/// A file system of one megabyte, for as long as the test runs.
struct Small(PathBuf);

impl Small {
    /// Needs root. Without it the test says so and is skipped; in CI that is a failure.
    fn mount(path: PathBuf) -> Option<Self> {
        rig::component("mount")?;
        std::fs::create_dir(&path).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&path).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        assert!(std::env::var_os("CI").is_none(), "a tmpfs can't be mounted; run as root");
        let _ = writeln!(std::io::stderr(), "SKIPPED: a tmpfs can't be mounted; run as root");
        None
    }

    /// Takes all the room there is left.
    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.0.join("ballast")).unwrap();
        for size in [16 * 1024, 1024, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A rig whose audit log lies on the small file system.
fn on_a_small_disk(configuration: &str) -> Option<(Small, Rig, String)> {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    let small = Small::mount(rig.path("small"))?;
    rig.daemon.take().unwrap().terminate();
    std::fs::remove_file(rig.path("node/audit.db")).unwrap();
    std::os::unix::fs::symlink(rig.path("small/audit.db"), rig.path("node/audit.db")).unwrap();
    // It is no loss: another log is begun there.
    let inventory = rig.path("node/databases.json");
    let noted = std::fs::read_to_string(&inventory).unwrap();
    std::fs::write(&inventory, noted.replace("\"audit.db\",", "")).unwrap();
    std::fs::write(rig.path("halligand.toml"), rig.daemon_config() + configuration).unwrap();
    rig.start_daemon();
    Some((small, rig, token))
}

fn read(rig: &Rig, token: &str) -> (u16, String) {
    let answer = rig.authorize(token, "GET", "/api/v2/dags");
    (answer.status, answer.reason().to_owned())
}

fn change(rig: &Rig, token: &str) -> (u16, String) {
    let answer = rig.authorize(token, "POST", "/api/v2/dags/etl/dagRuns");
    (answer.status, answer.reason().to_owned())
}

fn allowed() -> (u16, String) {
    (200, "ok".into())
}

fn unrecorded() -> (u16, String) {
    (403, "audit_unavailable".into())
}

fn status(rig: &Rig) -> Value {
    rig.json(&["status"])
}

/// How many requests with this method the log says were allowed.
fn recorded(directory: &Path, method: &str) -> usize {
    let lines = halligan::dataplane::audit::events(&directory.join("audit.db"), 0, usize::MAX).unwrap();
    let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["method"] == method && event["decision"] == "allow").count()
}

/// Changes things until the disk takes no more; returns how many were allowed.
fn until_denied(rig: &Rig, token: &str) -> usize {
    // What the database has reserved for itself takes some still.
    for done in 0..2000 {
        match change(rig, token) {
            (200, _) => {}
            denied => {
                assert_eq!(denied, unrecorded());
                return done;
            }
        }
    }
    panic!("the disk never filled up");
}

#[test]
fn on_a_full_disk_changes_are_denied_and_reads_go_on_until_there_is_room() {
    let Some((small, rig, token)) = on_a_small_disk("") else { return };
    assert_eq!((read(&rig, &token), change(&rig, &token)), (allowed(), allowed()));
    small.fill();
    let changes = 1 + until_denied(&rig, &token);
    for _ in 0..25 {
        assert_eq!(read(&rig, &token), allowed());
        assert_eq!(change(&rig, &token), unrecorded());
    }
    let told = status(&rig);
    assert_eq!(told["auditFailing"], true);
    let alarms = told["alarms"].as_array().unwrap();
    let alarm = alarms.iter().find(|alarm| alarm["kind"] == "audit_failing").unwrap();
    assert!(alarm["what"].as_str().unwrap().contains("mutating requests are denied"), "{alarm}");
    let metrics = curl(&[format!("http://127.0.0.1:{}/metrics", rig.daemon_port)]).body;
    assert!(metrics.contains("halligan_audit_failing 1"), "{metrics}");
    assert!(metrics.contains("halligan_alarms_total{kind=\"audit_failing\"} 1"), "{metrics}");

    small.make_room();
    until("changes are allowed again", || change(&rig, &token) == allowed());
    assert_eq!(status(&rig)["auditFailing"], false);
    // Every use that was allowed is in the log, those too that waited in memory; and nothing that was denied says "allow".
    until("all is written", || recorded(&small.0, "GET") == 26);
    assert_eq!(recorded(&small.0, "POST"), changes + 1);
    assert_eq!(rig.json(&["audit", "verify"])["fault"], Value::Null);
}

#[test]
fn where_it_is_configured_so_everything_is_denied_on_a_full_disk() {
    let Some((small, rig, token)) = on_a_small_disk("[audit]\nwhen_full = \"deny-all\"\n") else { return };
    small.fill();
    until_denied(&rig, &token);
    assert_eq!(read(&rig, &token), unrecorded());
    small.make_room();
    until("reads are allowed again", || read(&rig, &token) == allowed());
    assert_eq!(change(&rig, &token), allowed());
    assert_eq!(rig.json(&["audit", "verify"])["fault"], Value::Null);
}
