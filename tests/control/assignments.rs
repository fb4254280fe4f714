//! Assignments of tokens of an organization or a workspace to a deployment. An assigned token stays one object, and
//! only its own scope manages it.

#![allow(clippy::unwrap_used)]

use crate::rig::Rig;
use crate::rig::control::Control;
use serde_json::{Value, json};

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_workspace_owner_assigns_an_organizations_token_and_can_do_no_more_with_it() {
    let control = Control::start("");
    let estate = control.estate();
    let owner = control.user("WORKSPACE_OWNER", &estate.workspace);
    let token = control
        .make("/tokens", &json!({ "name": "ci", "type": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" }));
    let id = text(&token["id"]);
    let here = format!("/deployments/{}/tokens", estate.deployment);
    let call = |method: &str, path: &str, body: Option<Value>| {
        control.call_as(&owner, method, path, body.as_ref(), &[])
    };
    assert_eq!(call("GET", &format!("/tokens/{id}"), None).status, 403, "not seen until it works here");
    let assigned = call("POST", &here, Some(json!({ "tokenId": id, "role": "DEPLOYMENT_ADMIN" })));
    assert_eq!(assigned.status, 200, "{assigned:?}");
    assert_eq!(assigned.json()["id"], token["id"]);
    // The answer lists only the role on this deployment, without the token's roles elsewhere.
    let roles = assigned.json()["roles"].clone();
    assert_eq!(roles.as_array().unwrap().len(), 1);
    assert_eq!(
        (&roles[0]["entityId"], &roles[0]["role"]),
        (&json!(estate.deployment), &json!("DEPLOYMENT_ADMIN"))
    );
    let again = call("POST", &here, Some(json!({ "tokenId": id, "role": "DEPLOYMENT_ADMIN" })));
    assert_eq!((again.status, &again.json()["code"]), (409, &json!("already_assigned")));
    for (method, path, body) in [
        ("POST", format!("/tokens/{id}"), Some(json!({ "name": "mine" }))),
        ("POST", format!("/tokens/{id}/rotate"), None),
        ("DELETE", format!("/tokens/{id}"), None),
    ] {
        assert_eq!(call(method, &path, body).status, 403, "{method} {path}");
    }
    let elsewhere = format!("/deployments/{}/tokens", estate.elsewhere);
    let refused = call("POST", &elsewhere, Some(json!({ "tokenId": id, "role": "DEPLOYMENT_ADMIN" })));
    assert_eq!(refused.status, 403, "another workspace's deployment");

    // The token has its role on this deployment and its role in the organization.
    let value = text(&token["token"]);
    let deployment = format!("/deployments/{}", estate.deployment);
    let renamed =
        |name: &str| control.call_as(value, "POST", &deployment, Some(&json!({ "name": name })), &[]).status;
    assert_eq!(renamed("by-token"), 200);
    let narrowed = call("POST", &format!("{here}/{id}"), Some(json!({ "role": "DEPLOYMENT_ACCESSOR" })));
    assert_eq!(narrowed.status, 200);
    assert_eq!(renamed("again"), 403);
    let dag = json!({ "entityType": "DAG", "entityId": "etl", "deploymentId": estate.deployment, "role": "DAG_VIEWER" });
    let roles = json!({ "roles": [narrowed.json()["roles"][0], dag] });
    assert_eq!(call("POST", &format!("/tokens/{id}/roles"), Some(roles)).status, 200);
    assert_eq!(
        control.get(&format!("/tokens/{id}"))["roles"].as_array().unwrap().len(),
        3,
        "what was not seen stays"
    );

    assert_eq!(call("DELETE", &format!("{here}/{id}"), None).status, 204);
    assert_eq!(call("DELETE", &format!("{here}/{id}"), None).status, 404);
    assert_eq!(call("GET", &format!("/tokens/{id}"), None).status, 403);
    let left = control.get(&format!("/tokens/{id}"));
    assert_eq!(left["roles"].as_array().unwrap().len(), 1, "its Dag roles there went, too");
    assert_eq!(control.call_as(value, "GET", "/roles", None, &[]).status, 200, "it lives on");
}

#[test]
fn a_workspaces_token_works_in_that_workspace_only_and_a_deployments_on_that_deployment_only() {
    let control = Control::start("");
    let estate = control.estate();
    let token = control.make(
        "/tokens",
        &json!({ "name": "ws", "type": "WORKSPACE", "entityId": estate.workspace, "role": "WORKSPACE_ACCESSOR" }),
    );
    let assign = |deployment: &str, token: &Value, role: &str| {
        let path = format!("/deployments/{deployment}/tokens");
        control.call("POST", &path, Some(&json!({ "tokenId": token["id"], "role": role })))
    };
    assert_eq!(assign(&estate.elsewhere, &token, "DEPLOYMENT_ADMIN").status, 422);
    assert_eq!(assign(&estate.deployment, &token, "DAG_VIEWER").status, 422);
    assert_eq!(assign(&estate.deployment, &token, "nothing").status, 422);
    assert_eq!(assign(&estate.deployment, &token, "DEPLOYMENT_ADMIN").status, 200);
    let own =
        control.make("/tokens", &json!({ "name": "d", "type": "DEPLOYMENT", "entityId": estate.deployment }));
    let refused = assign(&estate.elsewhere, &own, "DEPLOYMENT_ADMIN");
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("not_assignable")));
    let listed = control.get(&format!("/deployments/{}/tokens", estate.deployment));
    let tokens = listed["tokens"].as_array().unwrap().iter();
    let mut names: Vec<_> = tokens.map(|token| text(&token["name"])).collect();
    names.sort_unstable();
    assert_eq!(names, ["d", "ws"]);
    // Deleting the deployment deletes the assignment and keeps the token.
    assert_eq!(control.call("DELETE", &format!("/deployments/{}", estate.deployment), None).status, 204);
    assert_eq!(control.get(&format!("/tokens/{}", text(&token["id"])))["roles"].as_array().unwrap().len(), 1);
    assert_eq!(control.call("GET", &format!("/tokens/{}", text(&own["id"])), None).status, 404);
}

#[test]
fn the_command_line_does_it_in_the_words_people_know() {
    let rig = Rig::start();
    let at = ["--deployment-id", &rig.deployment.clone()];
    let run = |arguments: &[&str]| rig.json(&[arguments, &at[..]].concat());
    rig.json(&["token", "create", "-n", "org", "-r", "ORGANIZATION_MEMBER"]);
    rig.json(&["token", "create", "-n", "ws", "--workspace-id", &rig.workspace, "-r", "WORKSPACE_MEMBER"]);
    rig.json(&["role", "create", "ops", "--scope", "deployment", "-p", "deployment.get"]);
    let value =
        rig.cli(&[&["deployment", "token", "create", "-n", "own", "-e", "7", "-c"], &at[..]].concat()).stdout;
    let value = String::from_utf8(value).unwrap();
    assert_eq!(value.trim().split('.').count(), 3, "the value alone");
    run(&["deployment", "token", "organization-token", "add", "org"]);
    run(&["deployment", "token", "workspace-token", "add", "ws", "-r", "ops"]);
    let names = |page: &Value| -> Vec<String> {
        let tokens = page["tokens"].as_array().unwrap().iter();
        let mut names: Vec<String> = tokens.map(|token| text(&token["name"]).to_owned()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(&run(&["deployment", "token", "list"])), ["org", "own", "ws"]);
    assert_eq!(names(&run(&["deployment", "token", "organization-token", "list"])), ["org"]);
    let listed = run(&["deployment", "token", "workspace-token", "list"]);
    assert_eq!(listed["tokens"][0]["roles"][0]["role"], "ops");
    run(&["deployment", "token", "workspace-token", "update", "ws", "-r", "DEPLOYMENT_ADMIN"]);
    let listed = run(&["deployment", "token", "workspace-token", "list"]);
    assert_eq!(listed["tokens"][0]["roles"][0]["role"], "DEPLOYMENT_ADMIN");
    let updated =
        run(&["deployment", "token", "update", "own", "-n", "renamed", "-d", "what for", "-r", "ops"]);
    assert_eq!(
        (&updated["name"], &updated["description"], &updated["roles"][0]["role"]),
        (&json!("renamed"), &json!("what for"), &json!("ops"))
    );
    let rotated = run(&["deployment", "token", "rotate", "renamed", "--force"]);
    assert_ne!(rotated["token"], value.trim());
    let refused = rig
        .cli_command()
        .args([&["deployment", "token", "rotate", "org", "--force"], &at[..]].concat())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("belongs to the organization"));
    rig.cli(&[&["deployment", "token", "organization-token", "remove", "org"], &at[..]].concat());
    rig.cli(&[&["deployment", "token", "delete", "renamed", "--yes"], &at[..]].concat());
    assert_eq!(names(&run(&["deployment", "token", "list"])), ["ws"]);
    assert_eq!(rig.json(&["token", "show", "org"])["roles"].as_array().unwrap().len(), 1);
}

#[test]
fn an_organizations_token_has_roles_in_workspaces_as_far_as_their_owners_give_them() {
    let control = Control::start("");
    let estate = control.estate();
    let owner = control.user("WORKSPACE_OWNER", &estate.workspace);
    let operator = control.user("WORKSPACE_OPERATOR", &estate.workspace);
    let role = |workspace: &str, role: &str| json!({ "entityType": "WORKSPACE", "entityId": workspace, "role": role });
    let made = control.make(
        "/tokens",
        &json!({ "name": "ci", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER",
            "roles": [role(&estate.other_workspace, "WORKSPACE_MEMBER")] }),
    );
    let (id, value) = (text(&made["id"]), text(&made["token"]));
    let path = format!("/tokens/{id}/roles");
    let put = |token: &str, roles: Value| {
        control.call_as(token, "POST", &path, Some(&json!({ "roles": roles })), &[])
    };
    let renamed = |deployment: &str, name: &str| {
        let path = format!("/deployments/{deployment}");
        control.call_as(value, "POST", &path, Some(&json!({ "name": name })), &[]).status
    };
    let listed = || control.call_as(value, "GET", "/deployments", None, &[]).json()["totalCount"].clone();
    assert_eq!((listed(), renamed(&estate.deployment, "mine")), (json!(1), 403));
    // A workspace operator cannot assign roles; the workspace's owner can, in that workspace only.
    let here = json!([role(&estate.workspace, "WORKSPACE_OPERATOR")]);
    assert_eq!(put(&operator, here.clone()).status, 403);
    let given = put(&owner, here);
    assert_eq!(given.status, 200, "{given:?}");
    assert_eq!(given.json()["workspaceRoles"].as_array().unwrap().len(), 1, "what is elsewhere is not shown");
    assert_eq!(
        put(
            &owner,
            json!([
                role(&estate.workspace, "WORKSPACE_OPERATOR"),
                role(&estate.other_workspace, "WORKSPACE_OWNER")
            ])
        )
        .status,
        403
    );
    assert_eq!((listed(), renamed(&estate.deployment, "by-token")), (json!(2), 200));
    assert_eq!(renamed(&estate.elsewhere, "mine"), 403, "a member there, still");
    let seen = control.get(&format!("/tokens/{id}"));
    assert_eq!(seen["roles"].as_array().unwrap().len(), 3, "{seen}");
    for workspace in [&estate.workspace, &estate.other_workspace] {
        assert_eq!(control.get(&format!("/tokens?workspaceId={workspace}"))["totalCount"], 1);
        let effective = control.get(&format!("/deployments/{}/tokens/{id}/permissions", estate.deployment));
        assert!(effective["permissions"].to_string().contains("deployment.environmentVariables.create"));
    }
    assert_eq!(put(&owner, json!([])).status, 200);
    assert_eq!((listed(), renamed(&estate.deployment, "again")), (json!(1), 403));
    // A workspace's or a deployment's token can't have a role in another workspace.
    for (body, field) in [
        (
            json!({ "name": "w", "scope": "WORKSPACE", "entityId": estate.workspace, "role": "WORKSPACE_MEMBER",
                "roles": [role(&estate.other_workspace, "WORKSPACE_MEMBER")] }),
            "entityId",
        ),
        (
            json!({ "name": "d", "scope": "DEPLOYMENT", "entityId": estate.deployment, "role": "DEPLOYMENT_ADMIN",
                "roles": [role(&estate.workspace, "WORKSPACE_MEMBER")] }),
            "entityType",
        ),
        (
            json!({ "name": "o", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER",
                "roles": [role(&estate.workspace, "DEPLOYMENT_ADMIN")] }),
            "role",
        ),
        (
            json!({ "name": "o", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER",
                "roles": [role(&estate.workspace, "WORKSPACE_MEMBER"), role(&estate.workspace, "WORKSPACE_OWNER")] }),
            "roles",
        ),
    ] {
        let refused = control.call("POST", "/tokens", Some(&body));
        assert_eq!(refused.status, 422, "{body}: {refused:?}");
        assert_eq!(refused.json()["fieldErrors"][0]["field"], field, "{refused:?}");
    }
    let unknown = json!({ "name": "o", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER",
        "roles": [role("c0", "WORKSPACE_MEMBER")] });
    assert_eq!(control.call("POST", "/tokens", Some(&unknown)).status, 404);
    assert_eq!(control.get("/tokens")["totalCount"], 1, "nothing was written");
}
