//! An outage with the real Airflow: its api-server behind nginx with the configuration of the docs, its Python client
//! and `airflowctl` as clients, and the control plane down.

#![allow(clippy::unwrap_used, clippy::panic)]

mod browser;
mod clients;
mod deploys;
mod dev;
mod server;
mod tap;
mod workers;

use crate::rig::Rig;
use clients::{Answer, airflowctl, python};
use serde_json::{Value, json};
use server::{Airflow, front};

/// Tokens of the test, each as its id and its value.
struct Tokens {
    /// Token with every permission on the deployment.
    admin: (String, String),
    /// Token that may read everything and change nothing.
    viewer: (String, String),
    /// Token with the role of an author on the Dag `etl`.
    etl: (String, String),
    /// Token with the role of a viewer on Dags with the tag `hr`.
    hr: (String, String),
}

impl Tokens {
    fn all(&self) -> [&(String, String); 4] {
        [&self.admin, &self.viewer, &self.etl, &self.hr]
    }
}

fn call(rig: &Rig, method: &str, path: &str, body: &Value) -> Value {
    let organization = rig.json(&["organization", "list"])[0]["id"].as_str().unwrap().to_owned();
    let answer = crate::rig::curl(&[
        "-X".to_owned(),
        method.to_owned(),
        "-H".to_owned(),
        format!("Authorization: Bearer {}", rig.owner_token),
        "-H".to_owned(),
        "Content-Type: application/json".to_owned(),
        "-d".to_owned(),
        body.to_string(),
        format!("http://127.0.0.1:{}/v1/organizations/{organization}{path}", rig.control_port),
    ]);
    assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_default()
}

fn token(rig: &Rig, name: &str, role: &str, roles: &Value) -> (String, String) {
    let body = json!({
        "name": name, "type": "DEPLOYMENT", "kind": "DIRECT_ACCESS", "entityId": rig.deployment, "role": role,
        "roles": roles, "tokenExpiryPeriodInDays": 30,
    });
    let made = call(rig, "POST", "/tokens", &body);
    (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
}

/// Creates roles, tags and tokens before the outage.
fn prepare(rig: &Rig) -> Tokens {
    let reads: Vec<&str> = halligan::protocol::permission::CATALOGUE
        .iter()
        .copied()
        .filter(|name| name.starts_with("deployment.airflow.") && name.rsplit('.').next() == Some("get"))
        .collect();
    for (name, permissions) in [("READER", reads), ("VISITOR", vec!["deployment.airflow.website.get"])] {
        let body = json!({ "name": name, "permissions": permissions, "scopeType": "DEPLOYMENT" });
        call(rig, "POST", "/roles", &body);
    }
    let tags = json!({ "tags": { "etl": ["finance"], "payroll": ["hr"] } });
    call(rig, "PUT", &format!("/deployments/{}/dag-tags", rig.deployment), &tags);
    let on = |entity_type: &str, entity: &str, role: &str| json!([{ "entityType": entity_type, "entityId": entity, "deploymentId": rig.deployment, "role": role }]);
    let tokens = Tokens {
        admin: token(rig, "admin", "DEPLOYMENT_ADMIN", &json!([])),
        viewer: token(rig, "viewer", "READER", &json!([])),
        etl: token(rig, "author of etl", "VISITOR", &on("DAG", "etl", "DAG_AUTHOR")),
        hr: token(rig, "viewer of hr", "VISITOR", &on("DAG_TAG", "hr", "DAG_VIEWER")),
    };
    rig.synced();
    tokens
}

/// Covers the whole outage, from its beginning to the check of the logs.
#[test]
fn airflow_is_reached_in_an_outage_as_far_as_a_role_goes() {
    let Some(venv) = crate::rig::airflow::venv() else { return };
    let _alone = crate::rig::alone();
    let mut rig = Rig::start();
    let config = rig.daemon_config() + "[upstream_identity]\n";
    std::fs::write(rig.path("halligand.toml"), config).unwrap();
    rig.kill_daemon();
    rig.start_daemon();
    let tokens = prepare(&rig);
    let airflow = Airflow::start(&venv, &rig.path("airflow"), &rig.path("node/jwks.json"));
    let Some((url, _nginx)) = front(&rig, airflow.tapped()) else { return };
    rig.kill_control();

    an_administrator_works(&airflow, &url, &tokens);
    a_viewer_reads_and_no_more(&airflow, &url, &tokens);
    rig.kill_daemon();
    rig.start_daemon();
    dag_roles_reach_their_dags_and_no_other(&airflow, &url, &tokens);
    airflow_saw_no_callers_token(&airflow, &tokens);
    every_use_is_on_record(&rig, &tokens);
}

fn an_administrator_works(airflow: &Airflow, url: &str, tokens: &Tokens) {
    let admin = &tokens.admin.1;
    let ask = |arguments: &[&str]| python(airflow, url, admin, arguments).passed();
    assert_eq!(ask(&["list"]), json!(["etl", "payroll"]));
    assert_eq!(ask(&["add-connection", "warehouse", "db.example"])["host"], "db.example");
    let run = ask(&["trigger", "etl"]);
    // Airflow recorded the caller: the token, by its id.
    assert_eq!(run["triggering_user_name"], *tokens.admin.0, "{run}");
    assert_eq!(ask(&["runs", "etl"]), json!([run["dag_run_id"]]));

    let listed = airflowctl(airflow, url, admin, &["dags", "list", "--output", "json"]).passed();
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|dag| dag["dag_id"].clone()).collect();
    assert_eq!(json!(ids), json!(["etl", "payroll"]));
}

fn a_viewer_reads_and_no_more(airflow: &Airflow, url: &str, tokens: &Tokens) {
    let viewer = &tokens.viewer.1;
    let ask = |arguments: &[&str]| python(airflow, url, viewer, arguments);
    assert_eq!(ask(&["list"]).passed(), json!(["etl", "payroll"]));
    assert_eq!(ask(&["connection", "warehouse"]).passed()["host"], "db.example");
    for refused in [&["edit-connection", "warehouse", "evil.example"][..], &["trigger", "etl"]] {
        assert_eq!(ask(refused), Answer::Refused { status: 403, reason: "permission_denied".into() });
    }
    let edit =
        ["connections", "update", "--connection-id", "warehouse", "--conn-type", "http", "--host", "evil"];
    let refused = airflowctl(airflow, url, viewer, &edit);
    assert!(matches!(&refused, Answer::Refused { status: 403, .. }), "{refused:?}");
    let still = python(airflow, url, &tokens.admin.1, &["connection", "warehouse"]).passed();
    assert_eq!(still["host"], "db.example");
}

fn dag_roles_reach_their_dags_and_no_other(airflow: &Airflow, url: &str, tokens: &Tokens) {
    let denied = || Answer::Refused { status: 403, reason: "permission_denied".into() };
    let etl = |arguments: &[&str]| python(airflow, url, &tokens.etl.1, arguments);
    let run = etl(&["trigger", "etl"]).passed();
    assert_eq!(run["triggering_user_name"], *tokens.etl.0);
    assert_eq!(etl(&["dag", "etl"]).passed()["dag_id"], "etl");
    for refused in [&["dag", "payroll"][..], &["trigger", "payroll"], &["list"], &["runs", "~"]] {
        assert_eq!(etl(refused), denied(), "{refused:?}");
    }
    let hr = |arguments: &[&str]| python(airflow, url, &tokens.hr.1, arguments);
    assert_eq!(hr(&["dag", "payroll"]).passed()["dag_id"], "payroll");
    for refused in [&["trigger", "payroll"][..], &["dag", "etl"], &["list"]] {
        assert_eq!(hr(refused), denied(), "{refused:?}");
    }
}

/// Verifies the bytes that Airflow received: no caller's token is among them, and every request has the node's identity
/// token instead.
fn airflow_saw_no_callers_token(airflow: &Airflow, tokens: &Tokens) {
    let seen = airflow.seen();
    for (id, value) in tokens.all() {
        let signature = value.rsplit('.').next().unwrap();
        assert!(!seen.contains(value) && !seen.contains(signature), "the token of {id} reached Airflow");
    }
    let requests = seen.matches(" HTTP/1.").count();
    assert!(requests >= 11, "{requests} requests came through");
    assert_eq!(seen.to_lowercase().matches("authorization: bearer ey").count(), requests);
    // Airflow accepts only the node's identity token: neither a caller's token nor a request without one.
    let direct = format!("{}/api/v2/dags", airflow.url);
    let bare = crate::rig::curl(&[&direct]);
    assert_eq!(bare.status, 401, "{bare:?}");
    let own = format!("Authorization: Bearer {}", tokens.admin.1);
    let own = crate::rig::curl(&["-H", &own, &direct]);
    // Airflow 3.1 answers 500 for an unknown key.
    assert!((400..=500).contains(&own.status), "{own:?}");
}

fn every_use_is_on_record(rig: &Rig, tokens: &Tokens) {
    assert_eq!(rig.json(&["audit", "verify"])["fault"], Value::Null);
    let log = String::from_utf8(rig.cli(&["audit", "tail", "-n", "1000", "--json"]).stdout).unwrap();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |token: &str, reason: &str, method: &str| {
        let of = |event: &&Value| {
            event["token"] == *token && event["reason"] == *reason && event["method"] == *method
        };
        events.iter().filter(of).count()
    };
    assert_eq!(
        count(&tokens.viewer.0, "permission_denied", "PATCH"),
        2,
        "the client's edit and airflowctl's"
    );
    assert_eq!(count(&tokens.etl.0, "ok", "POST"), 1);
    assert_eq!(count(&tokens.hr.0, "permission_denied", "POST"), 1);
}
