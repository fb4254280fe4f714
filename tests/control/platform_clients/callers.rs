//! Calls by which callers read their identity, their roles, and their permissions in a place.

use serde_json::json;

use super::expected::{EntityType, Id, SelfUser};
use super::{BASES, call, decoded};
use crate::rig::control::Control;

fn who(control: &Control, token: &str, base: &str, query: &str) -> SelfUser {
    decoded(&call(control, token, "GET", &format!("{base}/users/self{query}"), None))
}

#[test]
fn a_user_learns_who_they_are_and_what_they_may_do_here() {
    let control = Control::start("");
    let estate = control.estate();
    let author = control.user("WORKSPACE_AUTHOR", &estate.workspace);
    for base in BASES {
        let owner = who(&control, &control.owner, base, "");
        assert_eq!((&owner.id.0, &*owner.username), (&control.owner_id, "owner@acme.example"));
        assert_eq!(owner.organization_id, Some(Id(control.organization.clone())));
        assert!(owner.operations.iter().any(|operation| operation == "MANAGE_DIRECT_ACCESS"));
        let user = who(&control, &author, base, "");
        assert_eq!((&*user.full_name, &*user.avatar_url, &*user.status), (&*user.username, "", "ACTIVE"));
        let roles = user.roles.unwrap();
        let role = |entity: EntityType| roles.iter().find(|role| role.entity_type == entity).unwrap();
        assert_eq!(role(EntityType::Organization).role, "ORGANIZATION_MEMBER");
        let here = role(EntityType::Workspace);
        assert_eq!((&here.entity_id, &*here.role), (&estate.workspace, "WORKSPACE_AUTHOR"));
        assert!(
            user.permissions.is_empty() && !user.operations.iter().any(|name| name == "PUBLISH_DAG_TAGS")
        );
        let here = who(&control, &author, base, &format!("?workspaceId={}", estate.workspace));
        assert!(here.operations.iter().any(|name| name == "PUBLISH_DAG_TAGS"));
        let here = who(&control, &author, base, &format!("?deploymentId={}", estate.deployment));
        assert!(here.permissions.iter().any(|name| name == "deployment.deploys.create"));
        let there = who(&control, &author, base, &format!("?deploymentId={}", estate.elsewhere));
        assert!(
            there.permissions.is_empty() && !there.operations.iter().any(|name| name == "READ_DEPLOYMENTS")
        );
        for (query, status) in [
            (format!("?workspaceId={}", estate.other_workspace), 404),
            ("?workspaceId=c0".to_owned(), 404),
            ("?deploymentId=c0".to_owned(), 404),
            ("?deployment=c0".to_owned(), 400),
        ] {
            let answer = call(&control, &author, "GET", &format!("{base}/users/self{query}"), None);
            assert_eq!(answer.status, status, "{query}: {answer:?}");
        }
    }
}

#[test]
fn a_user_has_the_higher_of_their_own_role_and_their_teams() {
    let control = Control::start("");
    let estate = control.estate();
    let author = control.user("WORKSPACE_AUTHOR", &estate.workspace);
    let id = who(&control, &author, "/v1", "").id.0;
    control.make(
        "/teams",
        &json!({ "name": "ops", "memberIds": [id],
        "workspaceRoles": [{ "workspaceId": estate.workspace, "role": "WORKSPACE_OWNER" }] }),
    );
    let roles = who(&control, &author, "/v1", "").roles.unwrap();
    let names: Vec<&str> = roles.iter().map(|role| &*role.role).collect();
    assert_eq!(names, ["ORGANIZATION_MEMBER", "WORKSPACE_OWNER"]);
}

#[test]
fn a_token_learns_which_token_it_is() {
    let control = Control::start("");
    let estate = control.estate();
    let new = json!({ "name": "ci", "scope": "DEPLOYMENT", "entityId": estate.deployment, "role": "DEPLOYMENT_ADMIN",
        "roles": [{ "entityType": "DAG", "entityId": "etl", "role": "DAG_VIEWER" }] });
    let made = control.make("/tokens", &new);
    let token = made["token"].as_str().unwrap();
    let found = who(&control, token, "/v1", &format!("?deploymentId={}", estate.deployment));
    assert_eq!((found.id.0.as_str(), &*found.username), (made["id"].as_str().unwrap(), "ci"));
    assert!(found.permissions.iter().any(|name| name == "deployment.environmentVariables.create"));
    assert!(!found.permissions.iter().any(|name| name == "deployment.alerts.create"));
    let roles = found.roles.unwrap();
    let dag = roles.iter().find(|role| role.entity_type == EntityType::Dag).unwrap();
    assert_eq!((&*dag.entity_id, dag.deployment_id.as_ref()), ("etl", Some(&estate.deployment)));
    // The control plane refuses direct-access tokens, which are valid on data planes only.
    let new = json!({ "name": "d", "scope": "DEPLOYMENT", "kind": "DIRECT_ACCESS", "entityId": estate.deployment,
        "tokenExpiryPeriodInDays": 1 });
    let made = control.make("/tokens", &new);
    let answer = call(&control, made["token"].as_str().unwrap(), "GET", "/v1/users/self", None);
    assert_eq!(answer.status, 401);
}

#[test]
fn the_audit_log_is_read_under_the_platforms_name_and_the_earlier_one() {
    let control = Control::start("");
    control.estate();
    let earlier = control.get("/audit-log?limit=3");
    assert_eq!(control.get("/audit-logs?limit=3"), earlier);
    assert_eq!(earlier["entries"].as_array().unwrap().len(), 3);
    let refused = control.call("GET", "/audit-logs?earliest=2020-01-01T00:00:00Z", None);
    assert_eq!((refused.status, refused.json()["fieldErrors"][0]["field"].as_str()), (400, Some("earliest")));
}
