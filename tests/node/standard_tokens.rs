//! Standard tokens on a data plane: the control plane is queried about each, its answer is dropped when the token
//! changes, and during an outage such tokens are refused at once.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use crate::rig::{Rig, until};
use serde_json::Value;

fn made(rig: &Rig, arguments: &[&str]) -> (String, String) {
    let made = rig.json(&[&["token", "create"], arguments].concat());
    (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
}

#[test]
fn a_standard_token_is_asked_about_and_each_change_of_it_counts_at_once() {
    let mut rig = Rig::start();
    // Answers do not expire during this test, so that only changes drop them.
    let config = std::fs::read_to_string(rig.path("halligand.toml")).unwrap();
    std::fs::write(rig.path("halligand.toml"), format!("{config}\n[introspection]\ncache_seconds = 3600\n"))
        .unwrap();
    rig.kill_daemon();
    rig.start_daemon();
    let deployment = rig.deployment.clone();
    let (ci, value) = made(&rig, &["-n", "ci", "--deployment-id", &deployment]);
    let (_, workspace) =
        made(&rig, &["-n", "ws", "--workspace-id", &rig.workspace, "-r", "WORKSPACE_MEMBER"]);
    let (_, other) = made(&rig, &["-n", "other", "--deployment-id", &rig.other_deployment]);
    rig.synced();
    let reason =
        |token: &str, method: &str| rig.authorize(token, method, "/api/v2/dags/etl").reason().to_owned();
    assert_eq!(reason(&value, "PATCH"), "ok");
    assert_eq!(reason(&value, "GET"), "ok");
    // The permissions are those of its roles in every scope.
    assert_eq!(reason(&workspace, "GET"), "ok");
    assert_eq!(reason(&workspace, "PATCH"), "permission_denied");
    assert_eq!(reason(&other, "GET"), "permission_denied");
    // `check` uses the same path as a proxy's call.
    let mut check = rig.cli_command();
    let token_file = rig.path("value");
    std::fs::write(&token_file, &value).unwrap();
    check.args([
        "check",
        "--token-file",
        token_file.to_str().unwrap(),
        "--deployment",
        &deployment,
        "GET",
        "/api/v2/dags",
    ]);
    assert!(check.status().unwrap().success());

    let asked = Instant::now();
    rig.cli(&["token", "rotate", &ci, "--force"]);
    until("the old value has stopped", || reason(&value, "GET") == "token_revoked");
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    let rotated = rig.json(&["token", "rotate", &ci, "--force"])["token"].as_str().unwrap().to_owned();
    until("the new value works", || reason(&rotated, "GET") == "ok");
    rig.cli(&["token", "delete", &ci, "--force"]);
    until("the deleted token has stopped", || reason(&rotated, "GET") == "token_revoked");
}

#[test]
fn a_standard_token_is_refused_in_an_outage_without_waiting() {
    let mut rig = Rig::start();
    let (_, value) = made(&rig, &["-n", "ci", "--deployment-id", &rig.deployment]);
    let (_, late) = made(&rig, &["-n", "late", "--deployment-id", &rig.deployment]);
    rig.synced();
    assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").reason(), "ok");
    rig.kill_control();
    let status = |member: &str| rig.json(&["status"])["controlPlane"][member].clone();
    until("the node knows that it is alone", || status("connectivity") == "offline");
    let asked = Instant::now();
    let answer = rig.authorize(&late, "GET", "/api/v2/dags");
    assert_eq!((answer.status, answer.reason()), (403, "needs_control_plane"));
    assert!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
    assert!(answer.body.contains("direct-access"), "{}", answer.body);
    rig.start_control(rig.control_port);
    until("the control plane is asked again", || rig.authorize(&late, "GET", "/api/v2/dags").status == 200);
}

#[test]
fn a_use_on_a_data_plane_is_seen_at_the_control_plane() {
    let rig = Rig::start();
    let (id, value) = made(&rig, &["-n", "ci", "--deployment-id", &rig.deployment]);
    let show = || rig.json(&["token", "show", &id]);
    assert_eq!(show()["lastUsedAt"], Value::Null);
    rig.synced();
    assert_eq!(rig.authorize(&value, "GET", "/api/v2/dags").status, 200);
    assert!(show()["lastUsedAt"].is_string(), "{}", show());
    assert_eq!(show()["lastUsedOn"], rig.deployment);
}
