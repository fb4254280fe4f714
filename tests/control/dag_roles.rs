//! Dag roles: a token may use the Dags that its roles name, by id or by tag, and no other Dag.

#![allow(clippy::unwrap_used)]

use std::process::Stdio;

use crate::rig::control::Control;
use crate::rig::curl;
use crate::rig::{Rig, until};
use halligan::protocol::permission::held_on_dags;
use serde_json::{Value, json};

#[test]
fn a_direct_access_token_with_dag_roles_alone_opens_those_dags() {
    let rig = Rig::start();
    rig.json(&["role", "create", "runner", "--scope", "dag", "--from", "DAG_RUNNER"]);
    let made = rig.json(&[
        "token",
        "create",
        "-n",
        "dags",
        "--deployment-id",
        &rig.deployment,
        "--direct-access",
        "-e",
        "30",
        "-r",
        "DEPLOYMENT_ACCESSOR",
        "--dag",
        "etl=DAG_AUTHOR",
        "--dag-tag",
        "finance=DAG_VIEWER",
        "--dag-tag",
        "night=runner",
    ]);
    let token = made["token"].as_str().unwrap();
    rig.cli(&[
        "deployment",
        "dag-tags",
        "set",
        &rig.deployment,
        "--dag",
        "bill=finance",
        "--dag",
        "load=finance,night",
    ]);
    rig.synced();
    let ask = |method: &str, path: &str| {
        let answer = rig.authorize(token, method, path);
        (answer.status, answer.reason().to_owned())
    };
    let yes = (200, "ok".to_owned());
    let no = (403, "permission_denied".to_owned());
    let matrix = |rows: &[(&str, &str, &(u16, String))]| {
        for (method, path, expected) in rows {
            assert_eq!(&ask(method, path), *expected, "{method} {path}");
        }
    };
    matrix(&[
        ("GET", "/api/v2/dags/etl", &yes),
        ("PATCH", "/api/v2/dags/etl", &yes),
        ("DELETE", "/api/v2/dags/etl", &yes),
        ("POST", "/api/v2/dags/etl/dagRuns", &yes),
        ("GET", "/api/v2/dags/bill", &yes),
        ("GET", "/api/v2/dags/bill/dagRuns/r1/taskInstances/t/logs/1", &yes),
        ("POST", "/api/v2/dags/bill/dagRuns", &no),
        ("PATCH", "/api/v2/dags/bill", &no),
        ("POST", "/api/v2/dags/load/dagRuns", &yes),
        ("DELETE", "/api/v2/dags/load", &no),
        ("GET", "/api/v2/dags/other", &no),
        ("GET", "/api/v2/dags/finance", &no),
        // The data plane forwards answers and cannot filter a list.
        ("GET", "/api/v2/dags", &no),
        ("GET", "/api/v2/dags/~/dagRuns", &no),
        ("GET", "/api/v2/connections", &no),
    ]);
    // A new Dag with the tag is covered, and one that lost it no longer is, without a change to the token.
    rig.cli(&["deployment", "dag-tags", "set", &rig.deployment, "--dag", "new=finance"]);
    rig.synced();
    matrix(&[
        ("GET", "/api/v2/dags/new", &yes),
        ("GET", "/api/v2/dags/bill", &no),
        ("POST", "/api/v2/dags/load/dagRuns", &no),
        ("PATCH", "/api/v2/dags/etl", &yes),
    ]);
    assert_eq!(
        rig.json(&["deployment", "dag-tags", "show", &rig.deployment])["tags"],
        json!({ "new": ["finance"] })
    );

    // An edit cannot change fields that are fixed at creation, in any form of the call.
    for edit in [
        &["token", "access", "add-dag-role", "dags", "--dag", "other", "-r", "DAG_VIEWER"][..],
        &["token", "access", "remove-dag-role", "dags", "--dag", "etl"],
        &["token", "access", "set-role", "dags", "-r", "DEPLOYMENT_ADMIN"],
        &["deployment", "token", "update", "dags", "-r", "DEPLOYMENT_ADMIN"],
    ] {
        let refused = rig.cli_command().args(edit).output().unwrap();
        assert_eq!(refused.status.code(), Some(65), "{edit:?}");
        let why = String::from_utf8(refused.stderr).unwrap();
        assert!(why.contains("role_fixed") && why.contains("fixed at creation"), "{why}");
    }
    assert_eq!(rig.json(&["token", "show", "dags"])["roles"], made["roles"]);
}

fn places(token: &Value) -> Vec<(String, String, String)> {
    let text = |role: &Value, member: &str| role[member].as_str().unwrap().to_owned();
    let roles = token["roles"].as_array().unwrap();
    roles.iter().map(|role| (text(role, "entityType"), text(role, "entityId"), text(role, "role"))).collect()
}

fn owned(roles: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    roles.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
}

#[test]
fn a_standard_tokens_dag_roles_are_edited_as_a_whole() {
    let control = Control::start("");
    let estate = control.estate();
    let deployment = estate.deployment.as_str();
    let token = control.make(
        "/tokens",
        &json!({
            "name": "t", "type": "DEPLOYMENT", "entityId": deployment, "role": "DEPLOYMENT_ACCESSOR",
            "roles": [{ "entityType": "DAG", "entityId": "etl", "role": "DAG_VIEWER" }],
        }),
    );
    let home = ("DEPLOYMENT", deployment, "DEPLOYMENT_ACCESSOR");
    assert_eq!(places(&token), owned(&[home, ("DAG", "etl", "DAG_VIEWER")]));
    assert_eq!(token["roles"][1]["deploymentId"], deployment);
    let path = format!("/tokens/{}/roles", token["id"].as_str().unwrap());
    let replace = |roles: Value| control.call("POST", &path, Some(&json!({ "roles": roles })));
    let home_role =
        json!({ "entityType": "DEPLOYMENT", "entityId": deployment, "role": "DEPLOYMENT_ACCESSOR" });
    let by_tag = json!({ "entityType": "DAG_TAG", "entityId": "a b=c", "deploymentId": deployment, "role": "DAG_AUTHOR" });
    // A client may send back the roles that it read.
    assert_eq!(replace(token["roles"].clone()).json()["roles"], token["roles"]);
    let replaced = replace(json!([home_role, by_tag])).json();
    assert_eq!(places(&replaced), owned(&[home, ("DAG_TAG", "a b=c", "DAG_AUTHOR")]));
    for (roles, what) in [
        (json!([by_tag]), "exactly one role in the scope"),
        (json!([home_role, by_tag, by_tag]), "two roles"),
        (
            json!([home_role, { "entityType": "DAG", "entityId": "etl", "role": "DEPLOYMENT_ADMIN" }]),
            "no role on Dags",
        ),
        (json!([home_role, { "entityType": "DAG", "entityId": "", "role": "DAG_VIEWER" }]), "entityId"),
        (
            json!([home_role, { "entityType": "DAG", "entityId": "etl", "deploymentId": estate.elsewhere, "role": "DAG_VIEWER" }]),
            "on that deployment only",
        ),
        (
            json!([home_role, { "entityType": "ORGANIZATION", "entityId": control.organization, "role": "ORGANIZATION_OWNER" }]),
            "organization",
        ),
    ] {
        let refused = replace(roles.clone());
        assert_eq!(refused.status, 422, "{roles}: {refused:?}");
        assert!(refused.json()["detail"].as_str().unwrap().contains(what), "{refused:?}");
    }
    let shown = control.get(&format!("/tokens/{}", token["id"].as_str().unwrap()));
    assert_eq!(shown["roles"], replaced["roles"], "nothing of what was refused was written");
    // Without an explicit deployment role, the default would allow the whole deployment.
    let vague = json!({
        "name": "t", "type": "DEPLOYMENT", "entityId": deployment,
        "roles": [{ "entityType": "DAG", "entityId": "etl", "role": "DAG_VIEWER" }],
    });
    let refused = control.call("POST", "/tokens", Some(&vague));
    assert_eq!(refused.status, 422);
    assert!(refused.json()["detail"].as_str().unwrap().contains("DEPLOYMENT_ACCESSOR"), "{refused:?}");
}

#[test]
fn two_who_change_a_tokens_roles_at_once_lose_nothing() {
    let rig = Rig::start();
    let id = rig.made(&[
        "token",
        "create",
        "-n",
        "t",
        "--deployment-id",
        &rig.deployment,
        "-r",
        "DEPLOYMENT_ACCESSOR",
    ]);
    let mut edits: Vec<_> = (0..6)
        .map(|number| {
            let dag = format!("dag-{number}");
            let mut command = rig.cli_command();
            command.args([
                "token",
                "access",
                "add-dag-role",
                &id,
                "--dag",
                &dag,
                "-r",
                "DAG_VIEWER",
                "--json",
            ]);
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for edit in &mut edits {
        assert!(edit.wait().unwrap().success());
    }
    let shown = rig.json(&["token", "show", &id]);
    assert_eq!(shown["roles"].as_array().unwrap().len(), 7, "{shown}");
}

#[test]
fn standard_tokens_on_a_data_plane_follow_their_roles_as_they_change() {
    let rig = Rig::start();
    rig.json(&["role", "create", "runner", "--scope", "dag", "-p", "deployment.airflow.dag.get"]);
    let made = rig.json(&[
        "token",
        "create",
        "-n",
        "t",
        "--deployment-id",
        &rig.deployment,
        "-r",
        "DEPLOYMENT_ACCESSOR",
    ]);
    let token = made["token"].as_str().unwrap();
    rig.synced();
    let reason = |method: &str, path: &str| rig.authorize(token, method, path).reason().to_owned();
    assert_eq!(reason("GET", "/api/v2/dags/etl"), "permission_denied");
    rig.cli(&["token", "access", "add-dag-role", "t", "--dag-tag", "finance", "-r", "runner"]);
    rig.cli(&["deployment", "dag-tags", "set", &rig.deployment, "--dag", "etl=finance"]);
    until("its Dag role counts", || reason("GET", "/api/v2/dags/etl") == "ok");
    assert_eq!(reason("POST", "/api/v2/dags/etl/dagRuns"), "permission_denied");
    rig.cli(&["role", "update", "runner", "--add", "deployment.airflow.dagRun.create"]);
    until("the role's next version counts", || reason("POST", "/api/v2/dags/etl/dagRuns") == "ok");
    assert_eq!(reason("GET", "/api/v2/dags/other"), "permission_denied");
    rig.cli(&["token", "access", "remove-dag-role", "t", "--dag-tag", "finance"]);
    until("its Dag role is gone", || reason("GET", "/api/v2/dags/etl") == "permission_denied");
}

#[test]
fn tags_are_checked_before_they_are_published() {
    let control = Control::start("");
    let estate = control.estate();
    let path = format!("/deployments/{}/dag-tags", estate.deployment);
    assert_eq!(control.get(&path)["tags"], json!({}));
    for (tags, status) in [
        (json!({ "": ["x"] }), 422),
        (json!({ "etl": [""] }), 422),
        (json!({ "etl": ["line\nbreak"] }), 422),
        (json!({ "etl": "finance" }), 422),
        (json!({ "etl": ["x".repeat(251)] }), 422),
        (json!({ "etl": [] }), 200),
    ] {
        let answer = control.call("PUT", &path, Some(&json!({ "tags": tags })));
        assert_eq!(answer.status, status, "{:?}", answer.body.get(..300));
    }
    // A large deployment has this number of Dags.
    let many: serde_json::Map<_, _> =
        (0..20_000).map(|number| (format!("dag-{number}"), json!(["finance", "daily"]))).collect();
    let file = control.directory.path().join("tags.json");
    std::fs::write(&file, json!({ "tags": many }).to_string()).unwrap();
    let url = format!("{}/v1/organizations/{}{path}", control.url, control.organization);
    let answer = curl(&[
        "-X",
        "PUT",
        "-H",
        &format!("Authorization: Bearer {}", control.owner),
        "-H",
        "Content-Type: application/json",
        "-d",
        &format!("@{}", file.display()),
        &url,
    ]);
    assert_eq!(answer.status, 200, "{:?}", answer.body.get(..300));
    assert_eq!(control.get(&path)["tags"]["dag-19999"], json!(["finance", "daily"]));
}

#[test]
fn whatever_a_route_that_names_a_dag_needs_a_dag_role_can_hold() {
    let mut template = "";
    let mut seen = 0;
    for line in include_str!("../../src/dataplane/decide/routes/airflow-v2.toml").lines() {
        template = line.strip_prefix("[routes.").unwrap_or(template);
        if !template.contains("{dag_id}") {
            continue;
        }
        for name in line.split('"').filter(|part| part.starts_with("deployment.")) {
            assert!(held_on_dags().contains(name.parse().unwrap()), "{template}: {name}");
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}
