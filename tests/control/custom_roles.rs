//! Custom roles: a version never changes. Standard tokens use the newest version, direct-access tokens keep their own.

#![allow(clippy::unwrap_used)]

use crate::rig::Rig;
use crate::rig::control::Control;
use serde_json::{Value, json};

const READ: &str = "deployment.airflow.dag.get";
const RUN: &str = "deployment.airflow.dagRun.create";
const VARIABLES: &str = "deployment.airflow.variable.get";

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

#[test]
fn standard_tokens_follow_a_role_and_direct_access_tokens_stay_with_their_version() {
    let rig = Rig::start();
    let made = rig.json(&["role", "create", "night", "--scope", "deployment", "-p", READ, "-p", VARIABLES]);
    assert_eq!((&made["version"], &made["scopeType"]), (&json!(1), &json!("DEPLOYMENT")));
    let create = |name: &str, more: &[&str]| {
        let at = ["token", "create", "-n", name, "--deployment-id", &rig.deployment, "-r", "night"];
        rig.json(&[&at[..], more].concat())
    };
    let early = create("early", &["--direct-access", "-e", "30"]);
    let standard = create("standard", &[]);
    rig.synced();
    let value = |token: &Value| token["token"].as_str().unwrap().to_owned();
    let may = |token: &str, method: &str, path: &str| rig.authorize(token, method, path).status == 200;
    assert!(may(&value(&early), "GET", "/api/v2/dags") && may(&value(&early), "GET", "/api/v2/variables"));
    assert!(!may(&value(&early), "POST", "/api/v2/dags/etl/dagRuns"));

    let changed = rig.json(&["role", "update", "night", "--add", RUN, "--remove", VARIABLES]);
    assert_eq!(changed["version"], 2);
    assert_ne!(changed["digest"], made["digest"]);
    let late = create("late", &["--direct-access", "-e", "30"]);
    rig.synced();
    // The role has a new version; the early token keeps the permissions of its own version.
    assert!(may(&value(&early), "GET", "/api/v2/variables"));
    assert!(!may(&value(&early), "POST", "/api/v2/dags/etl/dagRuns"));
    assert!(may(&value(&late), "POST", "/api/v2/dags/etl/dagRuns"));
    assert!(!may(&value(&late), "GET", "/api/v2/variables"));
    // A rotation keeps the token's version of the role.
    let rotated = rig.json(&["token", "rotate", "early", "--force"]);
    rig.synced();
    assert!(!may(&value(&early), "GET", "/api/v2/dags"));
    assert!(may(&value(&rotated), "GET", "/api/v2/variables"));
    assert!(!may(&value(&rotated), "POST", "/api/v2/dags/etl/dagRuns"));

    let shown = rig.json(&["token", "show", "early"]);
    let role = &shown["roles"][0];
    assert_eq!((&role["role"], &role["roleVersion"]), (&json!("night"), &json!(1)));
    assert_eq!(role["roleDigest"], made["digest"]);
    assert_eq!(role["newest"], json!({ "version": 2, "added": [RUN], "removed": [VARIABLES] }));
    let text = String::from_utf8(rig.cli(&["token", "show", "early"]).stdout).unwrap();
    for line in [
        "stays with night@1; the newest version, 2, adds 1 permission and takes away 1 permission",
        &format!("+ {RUN}"),
        &format!("- {VARIABLES}"),
    ] {
        assert!(text.contains(line), "{text}");
    }
    let followed = rig.json(&["token", "show", "standard"]);
    assert_eq!(
        (&followed["roles"][0]["roleVersion"], &followed["roles"][0]["newest"]),
        (&json!(2), &Value::Null)
    );
    let id = standard["id"].as_str().unwrap();
    let allowed = rig.json(&["token", "access", "show", id, "--deployment-id", &rig.deployment]);
    assert_eq!(names(&allowed["permissions"]), [READ, RUN]);

    let versions = rig.json(&["role", "versions", "night"]);
    let told: Vec<_> =
        versions.as_array().unwrap().iter().map(|v| (&v["version"], names(&v["permissions"]))).collect();
    assert_eq!(told, [(&json!(2), vec![READ, RUN]), (&json!(1), vec![READ, VARIABLES])]);
    assert_eq!(versions[1]["digest"], made["digest"]);

    // A role that a token has cannot be deleted. After the deletion of an unused role, its version numbers are not
    // reused.
    let refused = rig.cli_command().args(["role", "delete", "night", "--force"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(65));
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(why.contains("role_in_use") && why.contains("3 tokens, users or teams have this role"), "{why}");
    for token in ["early", "late", "standard"] {
        rig.cli(&["token", "delete", token, "--force"]);
    }
    rig.cli(&["role", "delete", "night", "--yes"]);
    let again = rig.json(&["role", "create", "night", "--scope", "deployment", "-p", READ]);
    assert_eq!(again["version"], 3);
    assert_ne!(again["id"], made["id"]);
}

fn role(name: &str, scope: &str, permissions: &[&str]) -> Value {
    json!({ "name": name, "scopeType": scope, "permissions": permissions })
}

#[test]
fn what_can_be_no_role_is_refused_by_the_field_that_is_wrong() {
    let control = Control::start("");
    control.make("/roles", &role("ops", "DEPLOYMENT", &[READ]));
    let long = "x".repeat(65);
    for (body, status, what) in [
        (role("two  spaces", "DEPLOYMENT", &[READ]), 422, "name"),
        (role(" before", "DEPLOYMENT", &[READ]), 422, "name"),
        (role("after ", "DEPLOYMENT", &[READ]), 422, "name"),
        (role("tab\tbed", "DEPLOYMENT", &[READ]), 422, "name"),
        (role("DEPLOYMENT OPERATOR", "DEPLOYMENT", &[READ]), 422, "kept for built-in roles"),
        (role("dag viewer", "DAG", &[READ]), 409, "built-in"),
        (role("agents", "DEPLOYMENT", &["deployment.agentTokens.get"]), 422, "deployment.agentTokens.get"),
        (role("", "DEPLOYMENT", &[READ]), 422, "name"),
        (role(&long, "DEPLOYMENT", &[READ]), 422, "name"),
        (role("rol_mine", "DEPLOYMENT", &[READ]), 422, "name"),
        (role("ops", "DEPLOYMENT", &[READ]), 409, "name"),
        (role("dag_viewer", "DAG", &[READ]), 409, "built-in"),
        (role("DEPLOYMENT_OPERATOR", "DEPLOYMENT", &[READ]), 422, "kept for built-in roles"),
        (role("none", "DEPLOYMENT", &[]), 422, "permissions"),
        (role("all", "DEPLOYMENT", &["deployment.everything"]), 422, "deployment.everything"),
        (role("wide", "DAG", &["deployment.update"]), 422, "deployment.update can't be held on a Dag"),
        (role("org", "ORGANIZATION", &[READ]), 422, "scopeType"),
        (json!({ "name": "x", "scopeType": "DEPLOYMENT" }), 422, "permissions"),
        (
            json!({ "name": "x", "scopeType": "DEPLOYMENT", "permissions": [READ], "restrictedWorkspaceIds": ["wsp_x"] }),
            422,
            "restrictedWorkspaceIds",
        ),
    ] {
        let answer = control.call("POST", "/roles", Some(&body));
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(what), "{answer:?}");
    }
    for built_in in ["DEPLOYMENT_ADMIN", "DAG_VIEWER", "WORKSPACE_OWNER", "ORGANIZATION_OWNER"] {
        let path = format!("/roles/{built_in}");
        let changed = control.call("POST", &path, Some(&json!({ "permissions": [READ] })));
        assert_eq!((changed.status, &changed.json()["code"]), (409, &json!("role_built_in")));
        assert_eq!(control.call("DELETE", &path, None).status, 409);
    }
    assert_eq!(control.call("DELETE", "/roles/nobody", None).status, 404);
}

#[test]
fn built_in_roles_and_the_catalogue_are_listed_with_what_they_allow() {
    let control = Control::start("");
    control.make("/roles", &role("ops", "DEPLOYMENT", &[READ]));
    let page = control.get("/roles?includeDefaultRoles=true");
    let lists = [&page["defaultRoles"], &page["roles"]];
    let roles: Vec<&Value> = lists.iter().flat_map(|list| list.as_array().unwrap()).collect();
    let of = |name: &str| names(&roles.iter().find(|role| role["name"] == name).unwrap()["permissions"]);
    for (scope, count) in [("ORGANIZATION", 3), ("WORKSPACE", 5), ("DEPLOYMENT", 3), ("DAG", 2)] {
        let found = control.get(&format!("/roles?scopeTypes={scope}&includeDefaultRoles=true"));
        let built_in = found["defaultRoles"].as_array().unwrap().len();
        assert_eq!(built_in as u64 + found["totalCount"].as_u64().unwrap(), count, "{scope}");
    }
    assert!(of("WORKSPACE_ACCESSOR").is_empty() && of("DEPLOYMENT_ACCESSOR").is_empty());
    assert!(!of("WORKSPACE_MEMBER").contains(&RUN) && of("WORKSPACE_AUTHOR").contains(&RUN));
    assert!(of("DAG_VIEWER").contains(&READ) && !of("DAG_VIEWER").contains(&RUN));
    assert_eq!(of("ops"), [READ]);
    assert_eq!(control.get("/roles/ops")["builtIn"], false);
    let custom = control.get("/roles");
    assert_eq!((custom["totalCount"].as_u64(), &custom["defaultRoles"]), (Some(1), &Value::Null));

    let templates = control.get("/role-templates");
    for (number, template) in templates.as_array().unwrap().iter().enumerate() {
        let name = format!("from-{number}");
        let permissions = names(&template["permissions"]);
        control.make("/roles", &role(&name, template["scopeType"].as_str().unwrap(), &permissions));
    }
    let groups = control.call_at("GET", "/v1/authorization/permission-groups?scopeType=DAG").json();
    let group =
        groups.as_array().unwrap().iter().find(|group| group["name"] == "deployment.airflow.dagRun").unwrap();
    let actions: Vec<_> =
        group["permissions"].as_array().unwrap().iter().map(|p| p["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "delete", "get", "update"]);
    assert!(groups.as_array().unwrap().iter().all(|group| group["name"] != "deployment.airflow.connection"));
}

#[test]
fn a_role_can_be_kept_to_some_workspaces() {
    let control = Control::start("");
    let estate = control.estate();
    let body = json!({
        "name": "ops", "scopeType": "DEPLOYMENT", "permissions": [READ], "restrictedWorkspaceIds": [estate.other_workspace],
    });
    control.make("/roles", &body);
    let token = |deployment: &str| json!({ "name": "t", "type": "DEPLOYMENT", "entityId": deployment, "role": "ops" });
    let refused = control.call("POST", "/tokens", Some(&token(&estate.deployment)));
    assert_eq!(refused.status, 422, "{refused:?}");
    control.make("/tokens", &token(&estate.elsewhere));
    // A role cannot be restricted away from a workspace in which a token has it.
    let moved = json!({ "restrictedWorkspaceIds": [estate.workspace] });
    let refused = control.call("POST", "/roles/ops", Some(&moved));
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("role_in_use")));
    let both = json!({ "restrictedWorkspaceIds": [estate.workspace, estate.other_workspace] });
    let widened = control.call("POST", "/roles/ops", Some(&both));
    assert_eq!(
        (widened.status, &widened.json()["version"]),
        (200, &json!(1)),
        "no other permissions, no other version"
    );
    control.make("/tokens", &token(&estate.deployment));
}

#[test]
fn a_role_with_spaces_in_its_name_is_one_word_on_a_host() {
    let control = Control::start("");
    let estate = control.estate();
    let made = control.make("/roles", &role("Night shift", "DEPLOYMENT", &[READ]));
    assert_eq!(made["name"], "Night shift");
    assert_eq!(control.get("/roles/Night%20shift")["id"], made["id"]);
    let token = |name: &str, role: &str| {
        control.make(
            "/tokens",
            &json!({ "name": name, "scope": "DEPLOYMENT", "kind": "DIRECT_ACCESS", "entityId": estate.deployment,
                "role": role, "tokenExpiryPeriodInDays": 1 }),
        )
    };
    let token = token("oncall", "Night shift");
    assert_eq!(token["roles"][0]["role"], "Night shift");
    let payload = token["token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["role"]["id"], "Night_shift@1");
    // Names that a host could not tell apart are refused, and a version number of a name is never reused.
    for name in ["Night_shift", "Night shift"] {
        let answer = control.call("POST", "/roles", Some(&role(name, "DEPLOYMENT", &[READ])));
        assert_eq!((answer.status, &answer.json()["code"]), (409, &json!("name_taken")), "{name}");
    }
    let id = made["id"].as_str().unwrap();
    let renamed = control.make(&format!("/roles/{id}"), &json!({ "name": "Day shift" }));
    assert_eq!((&renamed["name"], &renamed["version"]), (&json!("Day shift"), &json!(2)));
    let again = control.make("/roles", &role("Night_shift", "DEPLOYMENT", &[READ]));
    assert_eq!(again["version"], 2, "Night_shift@1 stands for other bytes");
    let versions = control.get("/roles/Day%20shift/versions");
    assert_eq!((&versions[0]["name"], &versions[1]["name"]), (&json!("Day shift"), &json!("Night shift")));
}

#[test]
fn agent_tokens_can_be_made_changed_and_deleted() {
    let control = Control::start("");
    let groups = control.call_at("GET", "/v1/authorization/permission-groups").json();
    let group =
        groups.as_array().unwrap().iter().find(|group| group["name"] == "deployment.agentTokens").unwrap();
    let mut actions: Vec<&str> =
        group["permissions"].as_array().unwrap().iter().map(|one| one["action"].as_str().unwrap()).collect();
    actions.sort_unstable();
    assert_eq!(actions, ["create", "delete", "update"]);
    let permissions =
        ["deployment.agentTokens.create", "deployment.agentTokens.update", "deployment.agentTokens.delete"];
    control.make("/roles", &role("agents", "DEPLOYMENT", &permissions));
}
