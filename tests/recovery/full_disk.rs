//! A full disk, with a real file system: changes upstream are denied, reads continue with an alarm, no allowed request
//! is lost from the log, and service resumes without a restart once there is space.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::control::Control;
use crate::rig::{Rig, curl, until};
use serde_json::{Value, json};

/// A file system of a few megabytes that is unmounted when the test ends.
struct Small(PathBuf);

impl Small {
    /// Mounts the file system, which requires root. Without root the test prints a notice and is skipped; in CI it
    /// fails.
    fn mount(path: PathBuf, megabytes: u32) -> Option<Self> {
        crate::rig::component("mount")?;
        std::fs::create_dir(&path).unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        crate::rig::skipped("a tmpfs can't be mounted; run as root");
        None
    }

    /// Fills the remaining space.
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

/// Starts a rig whose audit log is on the small file system.
fn on_a_small_disk(configuration: &str) -> Option<(Small, Rig, String)> {
    let mut rig = Rig::start();
    let (_, token) = rig.direct_access_token("good", &rig.deployment);
    rig.synced();
    let small = Small::mount(rig.path("small"), 1)?;
    rig.daemon.take().unwrap().terminate();
    std::fs::remove_file(rig.path("node/audit.db")).unwrap();
    std::os::unix::fs::symlink(rig.path("small/audit.db"), rig.path("node/audit.db")).unwrap();
    // The log begins anew on the small file system, and the inventory must not report that as a loss.
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

/// Returns the number of allowed requests with this method in the log.
fn recorded(directory: &Path, method: &str) -> usize {
    let lines = halligan::dataplane::audit::events(&directory.join("audit.db"), 0, usize::MAX).unwrap();
    let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["method"] == method && event["decision"] == "allow").count()
}

/// Calls `write` with rising numbers until it returns a refusal. Several calls succeed on a full disk, because the
/// database writes into space that it has reserved. Returns the number of writes before the refusal, and the refusal.
fn until_refused<T>(mut write: impl FnMut(usize) -> Option<T>) -> (usize, T) {
    let refused = (0..2000).find_map(|done| Some((done, write(done)?)));
    refused.unwrap_or_else(|| panic!("the disk never filled up"))
}

/// Sends changes until one is denied. Returns the number of allowed ones.
fn until_denied(rig: &Rig, token: &str) -> usize {
    let (done, denied) = until_refused(|_| Some(change(rig, token)).filter(|answer| answer.0 != 200));
    assert_eq!(denied, unrecorded());
    done
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
    let metrics = crate::rig::metrics(rig.daemon_port);
    assert!(metrics.contains("halligan_audit_failing 1"), "{metrics}");
    assert!(metrics.contains("halligan_alarms_total{kind=\"audit_failing\"} 1"), "{metrics}");

    small.make_room();
    until("changes are allowed again", || change(&rig, &token) == allowed());
    assert_eq!(status(&rig)["auditFailing"], false);
    // The log holds every allowed use, those buffered in memory included, and no denied request as allowed.
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

#[test]
fn what_an_operator_does_on_a_full_disk_says_what_to_do_and_so_does_a_start() {
    let mut rig = Rig::start();
    rig.synced();
    let Some(small) = Small::mount(rig.path("small"), 4) else { return };
    rig.daemon.take().unwrap().terminate();
    let moved = Command::new("mv").arg(rig.path("node")).arg(rig.path("small/node")).status();
    assert!(moved.unwrap().success());
    std::os::unix::fs::symlink(rig.path("small/node"), rig.path("node")).unwrap();
    rig.start_daemon();
    small.fill();
    let (revoked, refused) = until_refused(|number| {
        let id = format!("tok_{number:0>26}");
        let ended = rig.cli_command().args(["revoke", &id, "--reason", "leaked"]).output().unwrap();
        Some(ended).filter(|ended| !ended.status.success())
    });
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(75) && said.contains("make room on the disk"), "{said}");
    rig.daemon.take().unwrap().terminate();
    small.fill();
    let (code, said) = crate::what_can_be_lost::start(&mut rig).unwrap_err();
    assert!(code == 74 && said.contains(".db can't be read or written"), "{code} {said}");
    assert!(said.contains("make room on its disk") && said.contains("node/"), "{said}");
    small.make_room();
    crate::what_can_be_lost::start(&mut rig).unwrap();
    let listed = rig.json(&["revoke", "--list"]);
    assert_eq!(listed.as_array().unwrap().len(), revoked, "what was said to be revoked is");
}

#[test]
fn a_control_plane_whose_disk_is_full_answers_reads_and_says_that_it_cannot_write() {
    let metrics_port = crate::rig::free_port();
    let mut control = Control::start(&format!("metrics_listen = \"127.0.0.1:{metrics_port}\""));
    let token = json!({ "name": "reader", "type": "ORGANIZATION", "role": "ORGANIZATION_OWNER" });
    let token = control.make("/tokens", &token)["token"].as_str().unwrap().to_owned();
    control.kill();
    let state = control.directory.path().join("control");
    let Some(small) = Small::mount(control.directory.path().join("small"), 8) else { return };
    let moved = Command::new("mv").arg(&state).arg(small.0.join("control")).status();
    assert!(moved.unwrap().success());
    std::os::unix::fs::symlink(small.0.join("control"), &state).unwrap();
    control.serve();
    let at = |path: &str| curl(&[format!("{}{path}", control.url)]);
    let metric = |line: &str| {
        let told = crate::rig::metrics(metrics_port);
        assert!(told.lines().any(|told| told == line), "{line} is not in {told}");
    };
    let as_token =
        |method: &str, body: Option<&Value>| control.call_as(&token, method, "/workspaces", body, &[]);
    assert_eq!(at("/readyz").status, 200);
    metric("halligan_control_database_writable 1");
    small.fill();
    // Calls with the owner's token record no use of `token`.
    let (_, refused) = until_refused(|number| {
        let answer = control.call("POST", "/workspaces", Some(&json!({ "name": format!("w{number}") })));
        Some(answer).filter(|answer| answer.status != 200)
    });
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.json()["code"], "store_unavailable");
    for _ in 0..3 {
        assert_eq!(
            as_token("GET", None).status,
            200,
            "its use can't be noted, and it is let in all the same"
        );
    }
    assert_eq!(as_token("POST", Some(&json!({ "name": "w" }))).status, 503);
    assert_eq!(at("/healthz").status, 200);
    until("it says that it can't write", || at("/readyz").status == 503);
    assert!(at("/readyz").body.contains("the database cannot be written"));
    metric("halligan_control_database_writable 0");
    let ended = control.program().args(["user-token", "owner@acme.example"]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(74) && said.contains("control.db can't be used"), "{said}");
    small.make_room();
    until("it can write again", || at("/readyz").status == 200);
    metric("halligan_control_database_writable 1");
    assert_eq!(as_token("POST", Some(&json!({ "name": "w" }))).status, 200);
    control.kill();
}
