//! Errors: the member that clients print names the fault, and each faulty field has an entry of its own.

use serde_json::json;

use super::expected::Failure;
use super::{BASES, call};
use crate::rig::Answer;
use crate::rig::control::Control;

fn failure(answer: &Answer, status: u16) -> Failure {
    assert_eq!(answer.status, status, "{answer:?}");
    let failure: Failure =
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!(failure.status_code, status);
    assert!(failure.message.len() > 10, "{failure:?}");
    failure
}

#[test]
fn a_query_parameter_that_is_not_known_is_refused_by_name() {
    let control = Control::start("");
    let organization = &control.organization;
    for base in BASES {
        for (path, name) in [
            (format!("/organizations/{organization}/tokens?color=red"), "color"),
            (format!("/organizations/{organization}/tokens?kind=STANDARD&workspaceid=x"), "workspaceid"),
            (format!("/organizations/{organization}?limit=1"), "limit"),
            (format!("/organizations/{organization}/tokens/c0?deploymentId=x"), "deploymentId"),
            ("/authorization/permission-groups?scope=DAG".to_owned(), "scope"),
        ] {
            let answer = call(&control, &control.owner, "GET", &format!("{base}{path}"), None);
            let failure = failure(&answer, 400);
            assert_eq!(failure.field_errors[0].field, name, "{path}: {failure:?}");
            assert!(failure.message.contains(name), "{failure:?}");
        }
    }
    // The parameter is refused before the call has an effect.
    let path = format!("/v1/organizations/{organization}/tokens?dryRun=true");
    let token = json!({ "name": "t", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" });
    failure(&call(&control, &control.owner, "POST", &path, Some(&token)), 400);
    assert_eq!(control.get("/tokens")["totalCount"], 0);
}

#[test]
fn a_fault_of_a_field_is_told_by_its_name_and_nothing_is_written() {
    let control = Control::start("");
    let estate = control.estate();
    let organization = &control.organization;
    let good = json!({ "name": "t", "scope": "DEPLOYMENT", "entityId": estate.deployment });
    for (member, value, status, field) in [
        ("scope", json!("DAG"), 422, "scope"),
        ("scope", json!(null), 422, "scope"),
        ("kind", json!("OTHER"), 422, "kind"),
        ("role", json!("WORKSPACE_OWNER"), 422, "role"),
        ("entityId", json!(estate.workspace), 404, "entityId"),
        ("tokenExpiryPeriodInDays", json!(0), 422, "tokenExpiryPeriodInDays"),
        ("name", json!(7), 422, "name"),
        ("name", json!(""), 422, "name"),
        ("colour", json!("red"), 422, "colour"),
        ("roles", json!([{ "entityType": "DAG", "entityId": "etl", "role": 7 }]), 422, "roles[0].role"),
    ] {
        let mut body = good.clone();
        body[member] = value;
        for base in BASES {
            let path = format!("{base}/organizations/{organization}/tokens");
            let failure = failure(&call(&control, &control.owner, "POST", &path, Some(&body)), status);
            let fields: Vec<&str> = failure.field_errors.iter().map(|error| &*error.field).collect();
            assert_eq!(fields.first().copied().unwrap_or_default(), field, "{body}: {failure:?}");
            assert!(
                failure.field_errors.iter().all(|error| !error.code.is_empty() && !error.message.is_empty())
            );
        }
    }
    let path = format!("/v1/organizations/{organization}/tokens");
    let failure = failure(&call(&control, &control.owner, "POST", &path, Some(&json!({ "name": "t" }))), 422);
    assert_eq!(failure.field_errors[0].field, "scope", "a member that is missing");
    assert_eq!(control.get("/tokens")["totalCount"], 0);
}

#[test]
fn an_id_of_another_kind_is_told_by_the_field_that_has_it_and_nothing_is_written() {
    let control = Control::start("");
    let estate = control.estate();
    let (space, here, plane) = (&estate.workspace, &estate.deployment, &estate.data_plane);
    let user = json!({ "email": "u@acme.example", "organizationRole": "ORGANIZATION_MEMBER" });
    let user = control.make("/users", &user)["id"].as_str().unwrap().to_owned();
    let before = ["/tokens", "/deployments", "/teams", "/roles", "/users"].map(|list| control.get(list));
    let token = |scope: &str, id: &str, role: &str| json!({ "name": "t", "scope": scope, "entityId": id, "role": role });
    let on_dag = json!({ "name": "t", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER",
        "roles": [{ "entityType": "DAG", "entityId": "etl", "deploymentId": space, "role": "DAG_VIEWER" }] });
    let deployment =
        |workspace: &str, plane: &str| json!({ "name": "d", "workspaceId": workspace, "dataPlaneId": plane });
    let role = json!({ "name": "r", "scopeType": "DEPLOYMENT", "permissions": ["deployment.get"],
        "restrictedWorkspaceIds": [here] });
    let team = |members: &str| json!({ "name": "t", "organizationRole": "ORGANIZATION_MEMBER", "memberIds": [members] });
    let roles = format!("/users/{user}/roles");
    for (path, body, status, field) in [
        ("/tokens", token("DEPLOYMENT", space, "DEPLOYMENT_ADMIN"), 404, "entityId"),
        ("/tokens", token("WORKSPACE", here, "WORKSPACE_MEMBER"), 404, "entityId"),
        ("/tokens", token("ORGANIZATION", space, "ORGANIZATION_MEMBER"), 422, "entityId"),
        ("/tokens", on_dag, 404, "deploymentId"),
        ("/deployments", deployment(here, plane), 404, "workspaceId"),
        ("/deployments", deployment(space, here), 404, "dataPlaneId"),
        (
            &format!("/deployments/{here}/tokens"),
            json!({ "tokenId": here, "role": "DEPLOYMENT_ADMIN" }),
            404,
            "tokenId",
        ),
        ("/roles", role, 422, "restrictedWorkspaceIds"),
        ("/teams", team(here), 404, "memberIds"),
        (
            &roles,
            json!({ "workspaceRoles": [{ "workspaceId": here, "role": "WORKSPACE_OWNER" }] }),
            404,
            "workspaceRoles",
        ),
        (
            &roles,
            json!({ "deploymentRoles": [{ "deploymentId": space, "role": "DEPLOYMENT_ADMIN" }] }),
            404,
            "deploymentRoles",
        ),
        (
            &roles,
            json!({ "dagRoles": [{ "deploymentId": space, "dagId": "etl", "role": "DAG_VIEWER" }] }),
            404,
            "dagRoles",
        ),
    ] {
        let failure = failure(&control.call("POST", path, Some(&body)), status);
        assert_eq!(failure.field_errors[0].field, field, "{path} {body}: {failure:?}");
    }
    for (query, field) in
        [(format!("workspaceId={here}"), "workspaceId"), (format!("deploymentId={space}"), "deploymentId")]
    {
        let path = format!("/v1/users/self?{query}");
        let failure = failure(&call(&control, &control.owner, "GET", &path, None), 404);
        assert_eq!(failure.field_errors[0].field, field, "{path}: {failure:?}");
    }
    // An id of an object of another kind is answered with 404.
    for path in [format!("/tokens/{here}"), format!("/deployments/{space}"), format!("/workspaces/{here}")] {
        failure(&control.call("GET", &path, None), 404);
    }
    assert_eq!(
        ["/tokens", "/deployments", "/teams", "/roles", "/users"].map(|list| control.get(list)),
        before
    );
}

#[test]
fn an_error_of_any_kind_has_a_message_and_an_id() {
    let control = Control::start("");
    for (token, method, path, status) in [
        ("wrong", "GET", "/v1/organizations", 401),
        (control.owner.as_str(), "GET", "/v1/nothing", 404),
        (&control.owner, "GET", "/v1/organizations/c0", 404),
        (&control.owner, "PATCH", "/v1/organizations", 405),
    ] {
        let first = failure(&call(&control, token, method, path, None), status);
        let second = failure(&call(&control, token, method, path, None), status);
        assert_ne!(first.request_id, second.request_id, "{path}");
    }
}
