//! Nouns and flags that `halligan` shares with the platform's command line.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::rig::control::Control;
use crate::rig::estate::Estate;

/// Runs `halligan` without a terminal. The owner's token is in `ASTRO_API_TOKEN`, as for users of the platform's
/// command line.
fn run(control: &Control, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_halligan"))
        .args(words)
        .env_clear()
        .env("HALLIGAN_URL", &control.url)
        .env("ASTRO_API_TOKEN", &control.owner)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Returns the output of a command.
fn said(control: &Control, words: &[&str]) -> String {
    let output = run(control, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn names(control: &Control, words: &[&str]) -> Vec<String> {
    let page: Value = serde_json::from_str(&said(control, words)).unwrap();
    let tokens = page["tokens"].as_array().unwrap_or_else(|| panic!("{page}"));
    tokens.iter().map(|token| token["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn tokens_are_managed_under_the_noun_of_their_scope_by_name() {
    let control = Control::start("");
    let Estate { workspace, deployment, .. } = &control.estate();
    for (noun, role, lower) in [
        (vec!["organization", "token"], "ORGANIZATION_OWNER", "ORGANIZATION_MEMBER"),
        (vec!["workspace", "token", "--workspace-id", workspace], "WORKSPACE_OWNER", "WORKSPACE_MEMBER"),
        (vec!["deployment", "token"], "DEPLOYMENT_ADMIN", "DEPLOYMENT_ACCESSOR"),
    ] {
        let on = if noun[0] == "deployment" { vec!["--deployment-id", deployment.as_str()] } else { vec![] };
        let command = |words: &[&str]| said(&control, &[&noun[..], words, &on].concat());
        let value = command(&[
            "create",
            "--name",
            "ci",
            "--description",
            "what for",
            "--role",
            role,
            "--expiration",
            "30",
            "--clean-output",
        ]);
        assert!(value.starts_with("eyJ") && value.lines().count() == 1, "{noun:?}: {value}");
        command(&["update", "--name", "ci", "--new-name", "deploy", "--role", lower]);
        let list = [&noun[..], &["list", "--json"], &on].concat();
        assert_eq!(names(&control, &list), ["deploy"], "{noun:?}");
        let rotated = command(&["rotate", "--name", "deploy", "--force", "--clean-output"]);
        assert!(rotated.starts_with("eyJ") && rotated != value, "{noun:?}: {rotated}");
        let shown = control.get("/tokens?search=deploy");
        assert_eq!(shown["tokens"][0]["roles"][0]["role"], lower, "{noun:?}");
        command(&["delete", "--name", "deploy", "--force"]);
        assert_eq!(control.get("/tokens")["totalCount"], 0, "{noun:?}");
    }
}

#[test]
fn a_noun_names_the_tokens_of_its_own_scope_only() {
    let control = Control::start("");
    let estate = control.estate();
    let here = json!({ "name": "ci", "scope": "WORKSPACE", "entityId": estate.workspace, "role": "WORKSPACE_MEMBER" });
    let there = json!({ "name": "ci", "scope": "WORKSPACE", "entityId": estate.other_workspace, "role": "WORKSPACE_MEMBER" });
    let (here, there) = (control.make("/tokens", &here), control.make("/tokens", &there));
    let words =
        ["workspace", "token", "--workspace-id", &estate.workspace, "delete", "--name", "ci", "--force"];
    said(&control, &words);
    let left = control.get("/tokens");
    assert_eq!((&left["tokens"][0]["id"], &left["totalCount"]), (&there["id"], &json!(1)));
    assert_ne!(here["id"], there["id"]);
    for words in [
        vec!["organization", "token", "delete", "--name", "ci", "--force"],
        vec!["workspace", "token", "delete", "--name", "ci", "--force"],
        vec!["deployment", "token", "delete", "--name", "ci", "--force"],
        vec!["deployment", "token", "update", "ci", "--name", "a", "--new-name", "b"],
        vec!["deployment", "token", "update", "--name", "ci"],
        vec!["deployment", "inspect"],
        vec!["deployment", "inspect", "--name", "nothing"],
    ] {
        let output = run(&control, &words);
        assert_eq!(output.status.code(), Some(64), "{words:?}: {output:?}");
    }
    assert_eq!(control.get("/tokens")["totalCount"], 1);
}

#[test]
fn tokens_from_elsewhere_are_put_on_a_deployment_by_name() {
    let control = Control::start("");
    let estate = control.estate();
    let on = estate.deployment.as_str();
    control.make(
        "/tokens",
        &json!({ "name": "shared", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" }),
    );
    let workspace = json!({ "name": "etl", "scope": "WORKSPACE", "entityId": estate.workspace, "role": "WORKSPACE_MEMBER" });
    control.make("/tokens", &workspace);
    for (noun, flag, name) in [
        ("organization-token", "--org-token-name", "shared"),
        ("workspace-token", "--workspace-token-name", "etl"),
    ] {
        let command = |words: &[&str]| {
            said(&control, &[&["deployment", "token", noun], words, &["--deployment-id", on]].concat())
        };
        command(&["add", flag, name, "--role", "DEPLOYMENT_ADMIN"]);
        let list = ["deployment", "token", noun, "list", "--deployment-id", on, "--json"];
        assert_eq!(names(&control, &list), [name]);
        command(&["remove", flag, name]);
        assert!(names(&control, &list).is_empty());
    }
}

#[test]
fn a_deployment_is_inspected_by_id_or_name() {
    let control = Control::start("");
    let estate = control.estate();
    for words in [
        vec!["deployment", "inspect", &estate.deployment],
        vec!["deployment", "inspect", "--name", "prod"],
        vec!["deployment", "inspect", "--deployment-name", "prod"],
    ] {
        let shown: Value = serde_json::from_str(&said(&control, &words)).unwrap();
        assert_eq!((shown["id"].as_str(), &shown["executor"]), (Some(&*estate.deployment), &json!("CELERY")));
    }
}
