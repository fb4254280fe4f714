//! Every call of tokens, under every base path, as the platform's clients make and decode it.

use serde_json::{Value, json};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::expected::{ApiTokens, EntityType, Kind, OlderApiToken, Scope, SubjectRoles, SubjectType};
use super::{BASES, call, decoded};
use crate::rig::control::Control;

/// Reads the claims of a token without a look at its signature, as the command line does.
pub(super) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn every_call_of_a_token_decodes_under_every_base_path() {
    let control = Control::start("");
    let estate = control.estate();
    let owner = &control.owner;
    for base in BASES {
        let tokens = format!("{base}/organizations/{}/tokens", control.organization);
        // The older clients name the scope `type`.
        let scope = if base == "/v1" { "scope" } else { "type" };
        for (value, expected, entity, role) in [
            ("ORGANIZATION", Scope::Organization, None, "ORGANIZATION_MEMBER"),
            ("WORKSPACE", Scope::Workspace, Some(&estate.workspace), "WORKSPACE_MEMBER"),
            ("DEPLOYMENT", Scope::Deployment, Some(&estate.deployment), "DEPLOYMENT_ADMIN"),
        ] {
            let body = json!({
                "name": "ci", "description": "what for", scope: value, "entityId": entity, "role": role,
                "tokenExpiryPeriodInDays": 30,
            });
            let made: OlderApiToken = decoded(&call(&control, owner, "POST", &tokens, Some(&body)));
            assert_eq!((&made.scope, &made.token.scope), (&expected, &expected));
            let token = made.token;
            assert_eq!((&*token.name, &*token.description, token.kind), ("ci", "what for", Kind::Standard));
            let value = token.token.unwrap();
            assert!(value.ends_with(&token.short_token) && token.expiry_period_in_days == Some(30));
            assert!(
                token.end_at.is_some() && token.last_used_at.is_none() && token.last_rotated_at.is_none()
            );
            let by = token.created_by.unwrap();
            assert_eq!((&by.id, by.subject_type), (&control.owner_id, SubjectType::User));
            assert_eq!(by.username.as_deref(), Some("owner@acme.example"));
            assert_eq!(by.full_name.as_deref(), Some("owner@acme.example"));
            assert_eq!((by.avatar_url.as_deref(), by.api_token_name), (Some(""), None));
            let roles = token.roles.unwrap();
            assert_eq!((roles.len(), &*roles[0].role), (1, role));

            let one = format!("{tokens}/{}", token.id.0);
            let seen: OlderApiToken = decoded(&call(&control, owner, "GET", &one, None));
            assert_eq!((&seen.token.id, seen.token.token), (&token.id, None));
            let update = json!({ "name": "renamed", "description": "" });
            let updated: OlderApiToken = decoded(&call(&control, owner, "POST", &one, Some(&update)));
            assert_eq!((&*updated.token.name, &*updated.token.description), ("renamed", ""));
            let rotated: OlderApiToken =
                decoded(&call(&control, owner, "POST", &format!("{one}/rotate"), None));
            assert!(rotated.token.last_rotated_at.is_some() && rotated.token.token.unwrap() != value);
            assert_eq!(call(&control, owner, "DELETE", &one, None).status, 204);
        }
    }
}

#[test]
fn a_change_of_roles_is_answered_with_the_roles_by_kind_of_object() {
    let control = Control::start("");
    let estate = control.estate();
    let organization = &control.organization;
    let token = json!({ "name": "t", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" });
    let made = control.make("/tokens", &token);
    let path = format!("/v1/organizations/{organization}/tokens/{}/roles", made["id"].as_str().unwrap());
    let roles = json!({ "roles": [
        { "entityType": "ORGANIZATION", "entityId": organization, "role": "ORGANIZATION_OWNER" },
        { "entityType": "DEPLOYMENT", "entityId": estate.deployment, "role": "DEPLOYMENT_ADMIN" },
        { "entityType": "DAG", "entityId": "etl", "deploymentId": estate.elsewhere, "role": "DAG_VIEWER" },
        { "entityType": "DAG_TAG", "entityId": "finance", "deploymentId": estate.elsewhere, "role": "DAG_AUTHOR" },
    ] });
    let answer = call(&control, &control.owner, "POST", &path, Some(&roles));
    assert!(answer.header("etag").is_some());
    let changed: SubjectRoles = decoded(&answer);
    assert_eq!(changed.organization_role.as_deref(), Some("ORGANIZATION_OWNER"));
    assert!(changed.workspace_roles.unwrap().is_empty());
    let on = &changed.deployment_roles.unwrap()[0];
    assert_eq!((&on.deployment_id, &*on.role), (&estate.deployment, "DEPLOYMENT_ADMIN"));
    let dags = changed.dag_roles.unwrap();
    assert_eq!(dags.len(), 2);
    for dag in dags {
        assert_eq!(dag.deployment_id, estate.elsewhere);
        match dag.role.as_str() {
            "DAG_VIEWER" => assert_eq!((dag.dag_id.as_deref(), dag.dag_tag), (Some("etl"), None)),
            _ => assert_eq!((dag.dag_id, dag.dag_tag.as_deref()), (None, Some("finance"))),
        }
    }
    // The role of a workspace's token in its own workspace can be changed.
    let token =
        json!({ "name": "w", "scope": "WORKSPACE", "entityId": estate.workspace, "role": "WORKSPACE_OWNER" });
    let made = control.make("/tokens", &token);
    let path = format!("/v1/organizations/{organization}/tokens/{}/roles", made["id"].as_str().unwrap());
    let roles = json!({ "roles": [
        { "entityType": "WORKSPACE", "entityId": estate.workspace, "role": "WORKSPACE_MEMBER" },
    ] });
    let changed: SubjectRoles = decoded(&call(&control, &control.owner, "POST", &path, Some(&roles)));
    let on = &changed.workspace_roles.unwrap()[0];
    assert_eq!((&on.workspace_id, &*on.role), (&estate.workspace, "WORKSPACE_MEMBER"));
}

#[test]
fn a_list_of_tokens_honours_every_filter() {
    let control = Control::start("");
    let estate = control.estate();
    let make = |body: Value| control.make("/tokens", &body)["id"].as_str().unwrap().to_owned();
    let organization = make(json!({ "name": "o", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" }));
    let workspace = make(
        json!({ "name": "w", "scope": "WORKSPACE", "entityId": estate.workspace, "role": "WORKSPACE_MEMBER" }),
    );
    let on_dag = |name: &str, kind: &str, dag: &str| {
        make(json!({
            "name": name, "scope": "DEPLOYMENT", "entityId": estate.deployment, "role": "DEPLOYMENT_ACCESSOR",
            "kind": if kind == "DAG" { "DIRECT_ACCESS" } else { "STANDARD" }, "tokenExpiryPeriodInDays": 1,
            "roles": [{ "entityType": kind, "entityId": dag, "role": "DAG_VIEWER" }],
        }))
    };
    let (dag, tag) = (on_dag("d", "DAG", "etl"), on_dag("t", "DAG_TAG", "finance"));
    let other = make(json!({ "name": "x", "scope": "DEPLOYMENT", "entityId": estate.elsewhere }));
    let (here, there, space) = (&estate.deployment, &estate.elsewhere, &estate.workspace);
    for base in BASES {
        let list = |query: &str| -> ApiTokens {
            let path = format!("{base}/organizations/{}/tokens?{query}", control.organization);
            decoded(&call(&control, &control.owner, "GET", &path, None))
        };
        for (query, expected) in [
            (String::new(), vec![&organization, &workspace, &dag, &tag, &other]),
            ("includeOnlyOrganizationTokens=true".into(), vec![&organization]),
            (
                "includeOnlyOrganizationTokens=false&kind=STANDARD".into(),
                vec![&organization, &workspace, &tag, &other],
            ),
            ("kind=DIRECT_ACCESS".into(), vec![&dag]),
            (format!("workspaceId={space}"), vec![&workspace, &dag, &tag]),
            (format!("deploymentId={there}"), vec![&other]),
            (format!("deploymentId={here}&dagId=etl"), vec![&dag]),
            (format!("deploymentId={there}&dagId=etl"), vec![]),
            (format!("deploymentId={here}&dagTags=daily&dagTags=finance"), vec![&tag]),
            ("dagTags=daily".into(), vec![]),
            ("sorts=name:desc&limit=2".into(), vec![&other, &workspace]),
            ("sorts=description:asc&sorts=name:asc&limit=2&offset=1".into(), vec![&organization, &tag]),
        ] {
            let page = list(&query);
            let mut ids: Vec<&String> = page.tokens.iter().map(|token| &token.token.id.0).collect();
            let mut expected = expected;
            // Without `sorts`, the order of tokens that were made in the same second is not defined.
            if !query.contains("sorts") {
                ids.sort();
                expected.sort();
            }
            assert_eq!(ids, expected, "{query}");
            assert!(page.total_count >= ids.len() as u64, "{query}");
        }
        let page = list("");
        assert_eq!((page.total_count, page.limit, page.offset), (5, 20, 0));
        let page = list("limit=0");
        assert_eq!((page.total_count, page.limit, page.tokens.len()), (5, 0, 0));
        let found = list(&format!("deploymentId={here}&dagId=etl"));
        let roles = found.tokens[0].token.roles.as_ref().unwrap();
        assert!(roles.iter().any(|role| role.entity_type == EntityType::Dag
            && role.entity_id == "etl"
            && role.deployment_id.as_ref() == Some(here)));
    }
}

#[test]
fn who_may_assign_tokens_learns_which_the_organization_has_and_no_more() {
    let control = Control::start("");
    let estate = control.estate();
    let token = json!({ "name": "ci", "description": "what for", "scope": "ORGANIZATION", "role": "ORGANIZATION_OWNER" });
    let made = control.make("/tokens", &token);
    let list = |token: &str, query: &str| -> ApiTokens {
        let path = format!("/v1/organizations/{}/tokens?{query}", control.organization);
        decoded(&call(&control, token, "GET", &path, None))
    };
    let owner = control.user("WORKSPACE_OWNER", &estate.workspace);
    assert_eq!(list(&owner, "").total_count, 0);
    let found = list(&owner, "includeOnlyOrganizationTokens=true");
    assert_eq!((found.total_count, found.tokens.len()), (1, 1));
    let seen = &found.tokens[0].token;
    assert_eq!((seen.id.0.as_str(), &*seen.name), (made["id"].as_str().unwrap(), "ci"));
    assert!(seen.description.is_empty() && seen.short_token.is_empty() && seen.token.is_none());
    assert!(seen.created_by.is_none() && seen.updated_by.is_none() && seen.last_used_at.is_none());
    assert!(seen.roles.as_ref().is_none_or(Vec::is_empty));
    assert_eq!(
        list(&owner, "includeOnlyOrganizationTokens=true&search=what").total_count,
        0,
        "nor by search"
    );
    let author = control.user("WORKSPACE_AUTHOR", &estate.workspace);
    assert_eq!(list(&author, "includeOnlyOrganizationTokens=true").total_count, 0);
    // The list shows the token so that it can be assigned here. Once it is assigned, its role here is shown too.
    let assign =
        format!("/v1/organizations/{}/deployments/{}/tokens", control.organization, estate.deployment);
    let body = json!({ "tokenId": seen.id.0, "role": "DEPLOYMENT_ADMIN" });
    let _: OlderApiToken = decoded(&call(&control, &owner, "POST", &assign, Some(&body)));
    let found = list(&owner, "includeOnlyOrganizationTokens=true");
    assert_eq!(found.tokens[0].token.roles.as_ref().unwrap().len(), 1);
}

#[test]
fn a_standard_token_says_what_it_belongs_to() {
    let control = Control::start("");
    let estate = control.estate();
    let organization = format!("organizationId:{}", control.organization);
    let (workspace, deployment) =
        (format!("workspaceId:{}", estate.workspace), format!("deploymentId:{}", estate.deployment));
    for (scope, entity, role, places) in [
        ("ORGANIZATION", None, "ORGANIZATION_MEMBER", vec![&organization]),
        ("WORKSPACE", Some(&estate.workspace), "WORKSPACE_MEMBER", vec![&organization, &workspace]),
        (
            "DEPLOYMENT",
            Some(&estate.deployment),
            "DEPLOYMENT_ADMIN",
            vec![&organization, &workspace, &deployment],
        ),
    ] {
        let body = json!({ "name": "ci", "scope": scope, "entityId": entity, "role": role, "tokenExpiryPeriodInDays": 1 });
        let made = control.make("/tokens", &body);
        let claims = claims(made["token"].as_str().unwrap());
        let permissions: Vec<&str> =
            claims["permissions"].as_array().unwrap().iter().map(|place| place.as_str().unwrap()).collect();
        let own = format!("apiTokenId:{}", made["id"].as_str().unwrap());
        assert!(permissions.contains(&&*own), "{claims}");
        assert!(places.iter().all(|place| permissions.contains(&place.as_str())), "{claims}");
        assert_eq!(permissions.len(), places.len() + 1, "{claims}");
        assert!(claims["exp"].is_i64(), "{claims}");
    }
    // A direct-access token is for the data plane, which reads no such claim.
    let body = json!({ "name": "d", "scope": "DEPLOYMENT", "kind": "DIRECT_ACCESS", "entityId": estate.deployment,
        "tokenExpiryPeriodInDays": 1 });
    let made = control.make("/tokens", &body);
    assert_eq!(claims(made["token"].as_str().unwrap())["permissions"], Value::Null);
}
