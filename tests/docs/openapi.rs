//! Agreement of the control plane with its OpenAPI document, tested by schemathesis: it makes valid and invalid calls
//! and compares every answer with the document.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use crate::rig::control::Control;
use crate::rig::{component, curl};
use serde_json::{Value, json};

fn id(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}

/// Returns settings that schemathesis cannot derive from the document: ids of existing objects, and calls that can be
/// refused although each field is valid.
fn settings(control: &Control) -> String {
    let workspace = id(&control.make("/workspaces", &json!({ "name": "data" })));
    let plane = id(&control.make("/data-planes", &json!({ "name": "eu" })));
    let deployment = json!({ "name": "prod", "workspaceId": workspace, "dataPlaneId": plane });
    let deployment = id(&control.make("/deployments", &deployment));
    let token = |token_type: &str, entity: Option<&str>, role: &str| {
        let token = json!({ "name": "t", "type": token_type, "entityId": entity, "role": role });
        id(&control.make("/tokens", &token))
    };
    let token = token("DEPLOYMENT", Some(&deployment), "DEPLOYMENT_ADMIN");
    let role = json!({ "name": "RUNNER", "scopeType": "DEPLOYMENT", "permissions": ["deployment.get"] });
    let role = id(&control.make("/roles", &role));
    let user = json!({ "email": "u@acme.example", "organizationRole": "ORGANIZATION_MEMBER" });
    let user = id(&control.make("/users", &user));
    let organization = &control.organization;
    let mut text = format!(
        "[parameters]\n\"path.organization\" = {organization:?}\n\
         [checks.positive_data_acceptance]\n\
         # A call can be right in each field, and still contradict itself or name what is not there.\n\
         expected-statuses = [\"2xx\", 401, 403, 404, 409, 412, 422, 429]\n\
         [checks.negative_data_rejection]\n\
         # 412, too: what has changed since it was seen is left as it is, whatever it was to become.\n\
         expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 429]\n"
    );
    for (of, id) in [
        ("workspaces", &workspace),
        ("data-planes", &plane),
        ("deployments", &deployment),
        ("tokens", &token),
        ("roles", &role),
        ("users", &user),
    ] {
        let at = format!("include-path-regex = \"/organizations/[^/]*/{of}/[{{]id[}}]\"");
        text.extend(["[[operations]]\n", &at, &format!("\nparameters = {{ \"path.id\" = {id:?} }}\n")]);
    }
    let deploys = format!("/deployments/{deployment}/deploys");
    let deploy = id(&control.make(&deploys, &json!({ "type": "DAG_ONLY" })));
    let at = "include-path-regex = \"/deployments/[{]id[}]/deploys/[{]deploy[}]\"";
    let ids = format!("\nparameters = {{ \"path.id\" = {deployment:?}, \"path.deploy\" = {deploy:?} }}\n");
    text.extend(["[[operations]]\n", at, &ids]);
    // These bodies are lines of JSON that are signed or hashed. schemathesis can't write them;
    // tests/recovery/reconcile.rs does.
    text + "[[operations]]\ninclude-path-regex = \"/v1/data-planes/.*/(events|revocations)\"\nenabled = false\n"
}

#[test]
fn every_answer_is_as_the_document_says() {
    let Some(schemathesis) = component("schemathesis") else { return };
    let control = Control::start("[limits]\ncalls_per_minute = 1000000\nfailures_per_minute = 1000000");
    let document = curl(&[format!("{}/openapi.json", control.url)]);
    assert_eq!(document.json()["openapi"], "3.1.0");
    let file = control.directory.path().join("schemathesis.toml");
    std::fs::write(&file, settings(&control)).unwrap();
    let output = Command::new(schemathesis)
        .arg("--config-file")
        .arg(file)
        .args(["run", &format!("{}/openapi.json", control.url)])
        .args(["--header", &format!("Authorization: Bearer {}", control.owner)])
        // The seed makes the calls of every run equal. Only these phases end by themselves.
        .args(["--seed", "1", "--phases", "examples,coverage,fuzzing", "--max-examples", "15"])
        .args(["--workers", "1", "--continue-on-failure", "--no-color", "--warnings", "off"])
        .env("HYPOTHESIS_STORAGE_DIRECTORY", control.directory.path())
        .current_dir(control.directory.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("Tested"), "{told}");
    let log = std::fs::read_to_string(control.log()).unwrap();
    assert!(!log.contains("a call failed") && !log.contains("panicked"), "{log}");
}
