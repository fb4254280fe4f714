//! Lifecycle of a token at the control plane, on the data plane and at the command line.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::rig::Rig;
use crate::rig::control::Control;
use serde_json::{Value, json};

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_deployment_token_has_by_default_what_a_workspace_operator_has_there_and_no_more() {
    let rig = Rig::start();
    let (id, value) = rig.direct_access_token("default", &rig.deployment);
    let shown = rig.json(&["token", "show", "default"]);
    assert_eq!(shown["roles"][0]["role"], "DEPLOYMENT_ADMIN");
    let allowed = rig.json(&["token", "access", "show", &id, "--deployment-id", &rig.deployment]);
    let may =
        |permission: &str| allowed["permissions"].as_array().unwrap().iter().any(|name| name == permission);
    assert!(may("deployment.environmentVariables.create") && may("deployment.environmentVariables.update"));
    assert!(!may("deployment.alerts.create") && !may("deployment.apiTokens.create"));
    let operator = rig.json(&["role", "show", "WORKSPACE_OPERATOR"]);
    let operator: Vec<&str> = operator["permissions"].as_array().unwrap().iter().map(text).collect();
    assert!(allowed["permissions"].as_array().unwrap().iter().all(|name| operator.contains(&text(name))));
    rig.synced();
    assert_eq!(rig.authorize(&value, "POST", "/api/v2/variables").status, 200);
}

#[test]
fn a_rotation_keeps_all_but_the_value_and_its_end() {
    let rig = Rig::start();
    let made = rig.json(&[
        "token",
        "create",
        "-n",
        "oncall",
        "-d",
        "for the night",
        "--deployment-id",
        &rig.deployment,
        "--direct-access",
        "-e",
        "30",
        "-r",
        "DEPLOYMENT_ACCESSOR",
        "--dag",
        "etl=DAG_AUTHOR",
    ]);
    let standard = rig.json(&["token", "create", "-n", "ci", "-r", "ORGANIZATION_OWNER"]);
    rig.synced();
    let old = text(&made["token"]);
    assert_eq!(rig.authorize(old, "GET", "/api/v2/dags/etl").status, 200);
    let rotated = rig.json(&["token", "rotate", "oncall", "--yes"]);
    for kept in ["id", "name", "description", "kind", "roles", "createdAt", "startAt", "expiryPeriodInDays"] {
        assert_eq!(rotated[kept], made[kept], "{kept}");
    }
    assert!(text(&rotated["endAt"]) >= text(&made["endAt"]), "thirty days from the rotation on");
    rig.synced();
    let gone = rig.authorize(old, "GET", "/api/v2/dags/etl");
    assert_eq!((gone.status, gone.reason()), (401, "token_rotated"));
    assert_eq!(rig.authorize(text(&rotated["token"]), "GET", "/api/v2/dags/etl").status, 200);
    // The old value of a standard token is refused at the control plane.
    let call = |token: &Value| {
        let mut command = rig.cli_command();
        command
            .env_remove("HALLIGAN_API_TOKEN")
            .env("ASTRO_API_TOKEN", text(token))
            .args(["workspace", "list"]);
        command.output().unwrap().status.code()
    };
    assert_eq!(call(&standard["token"]), Some(0));
    let renewed = rig.json(&["token", "rotate", "ci", "--force"]);
    assert_eq!(call(&standard["token"]), Some(77));
    assert_eq!(call(&renewed["token"]), Some(0));
    let shown = rig.json(&["token", "show", "ci"]);
    assert!(shown["lastRotatedAt"].is_string() && shown.get("token").is_none());
}

/// Runs the CLI on a terminal and types `answer`.
fn typed(rig: &Rig, arguments: &str, answer: &str) -> (bool, String) {
    let command = rig.cli_command();
    let program = command.get_program().to_str().unwrap().to_owned();
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{program} {arguments}"), "/dev/null"]);
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap());
    }
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{answer}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_deletion_is_typed_out_or_forced() {
    if crate::rig::component("script").is_none() {
        return;
    }
    let rig = Rig::start();
    for name in ["first", "second", "third"] {
        rig.direct_access_token(name, &rig.deployment);
    }
    let unasked = rig.cli_command().args(["token", "delete", "first"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(unasked.status.code(), Some(64), "without a terminal nobody can be asked");
    for wrong in ["yes", "", "second"] {
        let (done, said) = typed(&rig, "token delete first", wrong);
        assert!(!done && said.contains("nothing was done"), "{said}");
        assert!(said.contains("used"), "it says what used it last: {said}");
    }
    assert_eq!(rig.json(&["token", "list"])["totalCount"], 3);
    assert!(typed(&rig, "token delete first", "first").0);
    assert!(typed(&rig, "token delete second", "Delete").0);
    rig.cli(&["token", "delete", "third", "--yes"]);
    assert_eq!(rig.json(&["token", "list"])["totalCount"], 0);
}

#[test]
fn nobody_hands_out_or_takes_over_more_than_they_have() {
    let control = Control::start("");
    let estate = control.estate();
    let operator = control.user("WORKSPACE_OPERATOR", &estate.workspace);
    let owner = control.user("WORKSPACE_OWNER", &estate.workspace);
    let workspace =
        |role: &str| json!({ "name": role, "type": "WORKSPACE", "entityId": estate.workspace, "role": role });
    let call = |caller: &str, method: &str, path: &str, body: Option<&Value>| {
        let answer = control.call_as(caller, method, path, body, &[]);
        (answer.status, answer.body.contains("role_exceeds_yours"))
    };
    assert_eq!(call(&operator, "POST", "/tokens", Some(&workspace("WORKSPACE_OPERATOR"))), (200, false));
    assert_eq!(call(&operator, "POST", "/tokens", Some(&workspace("WORKSPACE_OWNER"))), (403, true));
    let mighty = control.make("/tokens", &workspace("WORKSPACE_OWNER"));
    let path = |token: &Value, what: &str| format!("/tokens/{}{what}", text(&token["id"]));
    // A rotation would give the operator the value of a more powerful token; updating and deleting follow the same
    // rule.
    assert_eq!(call(&operator, "POST", &path(&mighty, "/rotate"), None), (403, true));
    assert_eq!(call(&operator, "POST", &path(&mighty, ""), Some(&json!({ "name": "mine" }))), (403, true));
    assert_eq!(call(&operator, "DELETE", &path(&mighty, ""), None), (403, true));
    let lowered = json!({ "roles": [{ "entityType": "WORKSPACE", "entityId": estate.workspace, "role": "WORKSPACE_MEMBER" }] });
    assert_eq!(call(&operator, "POST", &path(&mighty, "/roles"), Some(&lowered)), (403, true));
    assert_eq!(call(&owner, "POST", &path(&mighty, "/rotate"), None).0, 200);

    // A token that may create tokens of its deployment cannot create one with more permissions than its own.
    let role = json!({
        "name": "maker", "scopeType": "DEPLOYMENT",
        "permissions": ["deployment.apiTokens.create", "deployment.apiTokens.get", "deployment.get"],
    });
    control.make("/roles", &role);
    let deployment = |role: Option<&str>, kind: &str| json!({ "name": "t", "type": "DEPLOYMENT", "kind": kind, "entityId": estate.deployment, "role": role, "tokenExpiryPeriodInDays": 1 });
    let maker = control.make("/tokens", &deployment(Some("maker"), "STANDARD"));
    let maker = text(&maker["token"]);
    assert_eq!(call(maker, "POST", "/tokens", Some(&deployment(Some("maker"), "STANDARD"))), (200, false));
    assert_eq!(call(maker, "POST", "/tokens", Some(&deployment(None, "STANDARD"))), (403, true));
    for caller in [maker, &operator, &owner] {
        let refused = control.call_as(
            caller,
            "POST",
            "/tokens",
            Some(&deployment(Some("maker"), "DIRECT_ACCESS")),
            &[],
        );
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("owner_required")));
    }
    control.make("/tokens", &deployment(Some("maker"), "DIRECT_ACCESS"));
}

/// Covers every kind of token and every kind of caller.
#[test]
fn who_may_not_rotate_a_token_may_not_change_or_delete_it_either() {
    let control = Control::start("");
    let estate = control.estate();
    let all =
        ["create", "get", "update", "rotate", "delete"].map(|verb| format!("deployment.apiTokens.{verb}"));
    let role = |name: &str, more: &[&str]| {
        let permissions: Vec<_> =
            all.iter().map(String::as_str).chain(["deployment.get"]).chain(more.iter().copied()).collect();
        control
            .make("/roles", &json!({ "name": name, "scopeType": "DEPLOYMENT", "permissions": permissions }));
    };
    role("keeper", &[]);
    role("keeper-and-more", &["deployment.airflow.dag.get"]);
    let token = |kind: &str, entity: Option<&str>, role: Option<&str>| json!({ "name": "t", "type": kind, "entityId": entity, "role": role, "tokenExpiryPeriodInDays": 1 });
    let workspace = |role: &str| token("WORKSPACE", Some(&estate.workspace), Some(role));
    let deployment = |role: Option<&str>| token("DEPLOYMENT", Some(&estate.deployment), role);
    let keeper = control.make("/tokens", &deployment(Some("keeper")));
    let (keeper, operator, owner) = (
        text(&keeper["token"]).to_owned(),
        control.user("WORKSPACE_OPERATOR", &estate.workspace),
        control.user("WORKSPACE_OWNER", &estate.workspace),
    );
    for (what, caller, target, may) in [
        ("operator, owner's", &operator, workspace("WORKSPACE_OWNER"), false),
        ("operator, operator's", &operator, workspace("WORKSPACE_OPERATOR"), true),
        ("operator, member's", &operator, workspace("WORKSPACE_MEMBER"), true),
        ("owner, owner's", &owner, workspace("WORKSPACE_OWNER"), true),
        (
            "owner, the organization's",
            &owner,
            token("ORGANIZATION", None, Some("ORGANIZATION_MEMBER")),
            false,
        ),
        ("keeper, keeper's", &keeper, deployment(Some("keeper")), true),
        ("keeper, one permission more", &keeper, deployment(Some("keeper-and-more")), false),
        ("keeper, an admin's", &keeper, deployment(None), false),
        ("keeper, a workspace's", &keeper, workspace("WORKSPACE_MEMBER"), false),
    ] {
        let made = control.make("/tokens", &target);
        let path = format!("/tokens/{}", text(&made["id"]));
        let update = json!({ "name": "mine" });
        let calls = [
            ("POST", format!("{path}/rotate"), None),
            ("POST", path.clone(), Some(&update)),
            ("DELETE", path, None),
        ];
        for (method, path, body) in calls {
            let answer = control.call_as(caller, method, &path, body, &[]);
            assert_eq!(answer.status < 300, may, "{what}: {method} {path}: {answer:?}");
            assert!(may || [403, 404].contains(&answer.status), "{what}: {method} {path}: {answer:?}");
        }
    }
}

#[test]
fn what_can_be_no_token_is_refused_by_the_field_that_is_wrong() {
    let control = Control::start("");
    let estate = control.estate();
    let with = |change: Value| {
        let mut body = json!({ "name": "t", "type": "DEPLOYMENT", "entityId": estate.deployment });
        for (member, value) in change.as_object().unwrap() {
            body[member] = value.clone();
        }
        body
    };
    for (body, status, what) in [
        (with(json!({ "name": "" })), 422, "name"),
        (with(json!({ "name": "a\nb" })), 422, "name"),
        (with(json!({ "description": "x".repeat(501) })), 422, "description"),
        (with(json!({ "tokenExpiryPeriodInDays": 0 })), 422, "tokenExpiryPeriodInDays"),
        (with(json!({ "tokenExpiryPeriodInDays": 3651 })), 422, "tokenExpiryPeriodInDays"),
        (with(json!({ "kind": "DIRECT_ACCESS" })), 422, "tokenExpiryPeriodInDays"),
        (
            with(
                json!({ "kind": "DIRECT_ACCESS", "type": "WORKSPACE", "entityId": estate.workspace, "role": "WORKSPACE_OWNER", "tokenExpiryPeriodInDays": 1 }),
            ),
            422,
            "scope",
        ),
        (with(json!({ "role": "WORKSPACE_OWNER" })), 422, "role"),
        (with(json!({ "role": "DAG_VIEWER" })), 422, "role"),
        (with(json!({ "type": "WORKSPACE", "entityId": estate.workspace })), 422, "role"),
        (with(json!({ "type": "ORGANIZATION", "role": "ORGANIZATION_OWNER" })), 422, "entityId"),
        (with(json!({ "entityId": null })), 422, "entityId"),
        (with(json!({ "entityId": "dep_none" })), 404, "deployment"),
        (
            with(json!({ "type": "WORKSPACE", "entityId": "wsp_none", "role": "WORKSPACE_OWNER" })),
            404,
            "workspace",
        ),
        (with(json!({ "color": "red" })), 422, "color"),
    ] {
        let answer = control.call("POST", "/tokens", Some(&body));
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(what), "{answer:?}");
    }
    assert_eq!(control.get("/tokens")["totalCount"], 0, "nothing was written");
}

/// Returns every file below `directory`.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn nothing_of_a_tokens_value_is_on_any_disk() {
    let mut rig = Rig::start();
    let (id, direct) = rig.direct_access_token("direct", &rig.deployment);
    let rotated = rig.json(&["token", "rotate", &id, "--yes"]);
    let standard = rig.json(&["token", "create", "-n", "standard", "-r", "ORGANIZATION_OWNER"]);
    let user = rig.json(&["user", "create", "u@acme.example"]);
    rig.synced();
    let values = [
        &direct,
        text(&rotated["token"]),
        text(&standard["token"]),
        text(&user["token"]),
        &rig.owner_token.clone(),
    ];
    for value in values {
        // Accepted and denied uses may both leave traces in logs.
        rig.authorize(value, "GET", "/api/v2/dags");
        rig.authorize(&value[..value.len() - 1], "GET", "/api/v2/dags");
        let mut command = rig.cli_command();
        command.env("HALLIGAN_API_TOKEN", value).args(["workspace", "create", "x"]).output().unwrap();
    }
    // The programs are killed so that the databases keep their write-ahead logs.
    rig.kill_control();
    rig.kill_daemon();
    // The search also finds the id, which is not secret, to show that the search works. It looks for the middle of the
    // id, as for that of a signature: the audit log is compressed, and the ends may be stored as references to equal
    // bytes elsewhere.
    let drawn = &id.as_bytes()[2..][..20];
    let mut known_in = 0;
    for path in files(rig.directory.path()) {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        known_in += usize::from(bytes.windows(drawn.len()).any(|window| window == drawn));
        for value in values {
            // A quarter of the signature is searched for: an attacker cannot guess it, and no file may hold that much
            // of it.
            let signature = value.rsplit('.').next().unwrap();
            let part = &signature.as_bytes()[..20];
            let found = bytes.windows(part.len()).any(|window| window == part);
            assert!(!found, "{} holds a token", path.display());
        }
    }
    assert!(known_in >= 3, "the token's id is in {known_in} files only");
}
