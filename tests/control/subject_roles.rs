//! Users and teams have roles on deployments and Dags.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use crate::rig::control::Control;
use crate::rig::estate::Estate;

fn id(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}

/// Creates a member of the organization without another role. Returns the id and the token.
fn member(control: &Control, name: &str) -> (String, String) {
    let body = json!({ "email": format!("{name}@acme.example"), "organizationRole": "ORGANIZATION_MEMBER" });
    let made = control.make("/users", &body);
    (id(&made), made["token"].as_str().unwrap().to_owned())
}

fn on(deployment: &str, role: &str) -> Value {
    json!({ "deploymentId": deployment, "role": role })
}

#[test]
fn a_user_may_do_on_a_deployment_what_their_role_or_their_teams_role_there_allows() {
    let control = Control::start("");
    let Estate { deployment, elsewhere, .. } = &control.estate();
    let (user, token) = member(&control, "one");
    let team = id(&control.make("/teams", &json!({ "name": "ops", "memberIds": [user] })));
    let renamed = |deployment: &str, name: &str| {
        let path = format!("/deployments/{deployment}");
        control.call_as(&token, "POST", &path, Some(&json!({ "name": name })), &[]).status
    };
    assert_eq!((renamed(deployment, "a"), renamed(elsewhere, "b")), (403, 403));
    let of_user = format!("/users/{user}/roles");
    let set = control.make(&of_user, &json!({ "deploymentRoles": [on(deployment, "DEPLOYMENT_ADMIN")] }));
    assert_eq!(set["deploymentRoles"], json!([on(deployment, "DEPLOYMENT_ADMIN")]));
    assert_eq!((renamed(deployment, "a"), renamed(elsewhere, "b")), (200, 403));
    let of_team = format!("/teams/{team}/roles");
    let set = control.make(&of_team, &json!({ "deploymentRoles": [on(elsewhere, "DEPLOYMENT_ADMIN")] }));
    assert_eq!((&set["rolesCount"], set["deploymentRoles"].as_array().unwrap().len()), (&json!(2), 1));
    assert_eq!((renamed(deployment, "c"), renamed(elsewhere, "d")), (200, 200));
    let listed = control.call_as(&token, "GET", "/deployments", None, &[]).json();
    assert_eq!(listed["totalCount"], 2, "they are seen as well");
    // Dag roles and deployment roles are kept independently of each other.
    let dags = json!([
        { "deploymentId": deployment, "dagId": "etl", "role": "DAG_VIEWER" },
        { "deploymentId": deployment, "dagTag": "finance", "role": "DAG_AUTHOR" },
    ]);
    let set = control.make(&of_user, &json!({ "dagRoles": dags }));
    assert_eq!((&set["dagRoles"], set["deploymentRoles"].as_array().unwrap().len()), (&dags, 1));
    for (query, count) in [
        (format!("deploymentId={deployment}"), 1),
        (format!("deploymentId={elsewhere}"), 0),
        ("dagId=etl".into(), 1),
        (format!("dagId=etl&deploymentId={elsewhere}"), 0),
        ("dagTags=daily&dagTags=finance".into(), 1),
        ("dagTags=daily".into(), 0),
    ] {
        assert_eq!(control.get(&format!("/users?{query}"))["totalCount"], count, "{query}");
    }
    let url = format!("{}/v1/users/self", control.url);
    let own = crate::rig::curl(&["-H", &format!("Authorization: Bearer {token}"), &url]).json();
    assert_eq!(own["roles"].as_array().unwrap().len(), 5, "{own}");
    let set = control.make(&of_user, &json!({ "deploymentRoles": [] }));
    assert_eq!((set["deploymentRoles"].as_array().unwrap().len(), &set["dagRoles"]), (0, &dags));
    assert_eq!((renamed(deployment, "e"), renamed(elsewhere, "f")), (403, 200));
    // Deleting a deployment, team or user deletes its roles.
    assert_eq!(control.call("DELETE", &format!("/deployments/{elsewhere}"), None).status, 204);
    assert_eq!(control.get(&format!("/teams/{team}"))["deploymentRoles"], json!([]));
    assert_eq!(control.call("DELETE", &format!("/teams/{team}"), None).status, 204);
    assert_eq!(control.call("DELETE", &format!("/users/{user}"), None).status, 204);
}

#[test]
fn nobody_gives_a_role_on_a_deployment_that_they_do_not_manage_or_that_exceeds_theirs() {
    let control = Control::start("");
    let estate = control.estate();
    let owner = control.user("WORKSPACE_OWNER", &estate.workspace);
    let operator = control.user("WORKSPACE_OPERATOR", &estate.workspace);
    let (user, _) = member(&control, "one");
    let path = format!("/users/{user}/roles");
    let set = |token: &str, roles: Value| {
        let body = json!({ "deploymentRoles": roles });
        control.call_as(token, "POST", &path, Some(&body), &[]).status
    };
    let (here, there) = (&estate.deployment, &estate.elsewhere);
    assert_eq!(set(&operator, json!([on(here, "DEPLOYMENT_ACCESSOR")])), 403);
    assert_eq!(set(&owner, json!([on(there, "DEPLOYMENT_ACCESSOR")])), 403);
    assert_eq!(set(&owner, json!([on(here, "DEPLOYMENT_ADMIN")])), 200);
    // Another caller may neither repeat the assignment nor remove it.
    assert_eq!(set(&operator, json!([on(here, "DEPLOYMENT_ADMIN")])), 403);
    assert_eq!(set(&operator, json!([])), 403);
    // A caller with a role that manages users cannot assign permissions that it lacks.
    let role = json!({ "name": "people", "scopeType": "DEPLOYMENT", "permissions": ["deployment.users.update", "deployment.get"] });
    let role = id(&control.make("/roles", &role));
    let (_, people) = {
        let (id, token) = member(&control, "two");
        control.make(&format!("/users/{id}/roles"), &json!({ "deploymentRoles": [on(here, "people")] }));
        (id, token)
    };
    let other = member(&control, "three").0;
    let give = |role: &str| {
        let body = json!({ "deploymentRoles": [on(here, role)] });
        control.call_as(&people, "POST", &format!("/users/{other}/roles"), Some(&body), &[])
    };
    let refused = give("DEPLOYMENT_ADMIN");
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("role_exceeds_yours")));
    assert_eq!(give("people").status, 200);
    let in_use = control.call("DELETE", &format!("/roles/{role}"), None);
    assert_eq!((in_use.status, &in_use.json()["code"]), (409, &json!("role_in_use")));
    let narrow = json!({ "restrictedWorkspaceIds": [estate.other_workspace] });
    assert_eq!(control.call("POST", &format!("/roles/{role}"), Some(&narrow)).status, 409);
}

#[test]
fn what_can_be_no_role_on_a_deployment_is_refused_by_its_field_and_nothing_is_written() {
    let control = Control::start("");
    let estate = control.estate();
    let (user, _) = member(&control, "one");
    let here = &estate.deployment;
    let dag = |members: Value| {
        let mut role = json!({ "deploymentId": here, "role": "DAG_VIEWER" });
        role.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({ "dagRoles": [role] })
    };
    for (body, status, field) in [
        (json!({ "deploymentRoles": [on(here, "DAG_VIEWER")] }), 422, "deploymentRoles"),
        (json!({ "deploymentRoles": [on(here, "WORKSPACE_OWNER")] }), 422, "deploymentRoles"),
        (json!({ "deploymentRoles": [on("c0", "DEPLOYMENT_ADMIN")] }), 404, "deploymentRoles"),
        (json!({ "deploymentRoles": [on(&estate.workspace, "DEPLOYMENT_ADMIN")] }), 404, "deploymentRoles"),
        (
            json!({ "deploymentRoles": [on(here, "DEPLOYMENT_ADMIN"), on(here, "DEPLOYMENT_ACCESSOR")] }),
            422,
            "deploymentRoles",
        ),
        (json!({ "deploymentRoles": [{ "role": "DEPLOYMENT_ADMIN" }] }), 422, "deploymentRoles[0]"),
        (dag(json!({})), 422, "dagRoles"),
        (dag(json!({ "dagId": "etl", "dagTag": "finance" })), 422, "dagRoles"),
        (dag(json!({ "dagId": "" })), 422, "dagRoles"),
        (dag(json!({ "dagId": "etl", "role": "DEPLOYMENT_ADMIN" })), 422, "dagRoles"),
    ] {
        let answer = control.call("POST", &format!("/users/{user}/roles"), Some(&body));
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        let error = answer.json();
        assert_eq!(error["fieldErrors"][0]["field"].as_str().unwrap_or_default(), field, "{body}: {error}");
    }
    let shown = control.get(&format!("/users/{user}"));
    assert_eq!((&shown["deploymentRoles"], &shown["dagRoles"]), (&json!([]), &json!([])));
}
