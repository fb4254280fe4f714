//! Query parameters: every one in the API's document has an effect, and any other is refused by name.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{BASES, call, of_people};
use crate::rig::control::Control;
use crate::rig::curl;
use crate::rig::estate::Estate;

/// Public keys of nodes (RFC 8032 section 7.1).
const KEYS: [&str; 2] =
    ["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw"];
/// Lists whose items are reported by hosts. `reconciliation::logs` and `reconciliation::outages` test their parameters.
const TOLD: [&str; 2] =
    ["/organizations/{organization}/deployments/{id}/logs", "/organizations/{organization}/outages"];

/// Returns the calls of people, each as method, route below the base path, and names of its query parameters.
fn calls(control: &Control) -> Vec<(String, String, BTreeSet<String>)> {
    let document = curl(&[format!("{}/openapi.json", control.url)]).json();
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(route) = path.strip_prefix("/v1") else { continue };
        if !of_people(route) {
            continue;
        }
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let queried = parameters.iter().filter(|parameter| parameter["in"] == "query");
            let names = queried.map(|parameter| parameter["name"].as_str().unwrap().to_owned());
            calls.push((method.to_uppercase(), route.to_owned(), names.collect()));
        }
    }
    assert!(calls.len() > 60, "{}", calls.len());
    calls
}

/// Returns a route with ids in place of their names.
fn place(route: &str, organization: &str, id: &str) -> String {
    let named = route.replace("{organization}", organization).replace("{id}", id);
    named.split('/').map(|part| if part.starts_with('{') { "c0" } else { part }).collect::<Vec<_>>().join("/")
}

#[test]
fn no_call_ignores_a_parameter_that_its_description_does_not_name() {
    let control = Control::start("[limits]\ncalls_per_minute = 1000000\nfailures_per_minute = 1000000");
    for (method, route, _) in calls(&control) {
        for base in BASES {
            let path = format!("{base}{}?color=red", place(&route, &control.organization, "c0"));
            let answer = call(&control, &control.owner, &method, &path, None);
            let told = answer.json();
            assert_eq!((answer.status, &told["code"]), (400, &json!("unknown_parameter")), "{method} {path}");
            assert_eq!(told["fieldErrors"][0]["field"], "color", "{method} {path}: {told}");
        }
    }
}

/// A control plane with two objects in every list.
struct Two {
    control: Control,
    estate: Estate,
    team: String,
    user: String,
    user_token: String,
    second: String,
}

fn id(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}

impl Two {
    fn start() -> Self {
        let control = Control::start("[limits]\ncalls_per_minute = 1000000\nfailures_per_minute = 1000000");
        let estate = control.estate();
        let (here, space) = (&estate.deployment, &estate.workspace);
        control.make("/data-planes", &json!({ "name": "us" }));
        for (number, x) in KEYS.into_iter().enumerate() {
            let node =
                json!({ "name": format!("n{number}"), "key": { "kty": "OKP", "crv": "Ed25519", "x": x } });
            control.make(&format!("/data-planes/{}/nodes", estate.data_plane), &node);
            control.make(&format!("/deployments/{here}/deploys"), &json!({ "type": "DAG_ONLY" }));
        }
        let user = json!({ "email": "u@acme.example", "organizationRole": "ORGANIZATION_MEMBER" });
        let user = control.make("/users", &user);
        let (user, user_token) = (id(&user), user["token"].as_str().unwrap().to_owned());
        let roles = json!({
            "workspaceRoles": [{ "workspaceId": space, "role": "WORKSPACE_MEMBER" }],
            "deploymentRoles": [{ "deploymentId": here, "role": "DEPLOYMENT_ADMIN" }],
            "dagRoles": [
                { "deploymentId": here, "dagId": "etl", "role": "DAG_VIEWER" },
                { "deploymentId": here, "dagTag": "finance", "role": "DAG_VIEWER" },
            ],
        });
        control.make(&format!("/users/{user}/roles"), &roles);
        let second = json!({ "email": "z@acme.example", "organizationRole": "ORGANIZATION_OWNER" });
        let second = control.make("/users", &second)["token"].as_str().unwrap().to_owned();
        let members = json!({ "name": "a", "organizationRole": "ORGANIZATION_MEMBER", "memberIds": [user, control.owner_id] });
        let team = id(&control.make("/teams", &members));
        control.make("/teams", &json!({ "name": "b", "organizationRole": "ORGANIZATION_MEMBER" }));
        let roles = json!({ "workspaceRoles": [{ "workspaceId": space, "role": "WORKSPACE_MEMBER" }] });
        control.make(&format!("/teams/{team}/roles"), &roles);
        for (name, scope) in [("one", "DEPLOYMENT"), ("two", "DAG")] {
            let permissions = ["deployment.airflow.dag.get"];
            control.make("/roles", &json!({ "name": name, "scopeType": scope, "permissions": permissions }));
        }
        control
            .make("/tokens", &json!({ "name": "o", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" }));
        for (name, kind, entity_type) in [("d", "DIRECT_ACCESS", "DAG"), ("t", "STANDARD", "DAG_TAG")] {
            let on = if entity_type == "DAG" { "etl" } else { "finance" };
            let roles = json!([{ "entityType": entity_type, "entityId": on, "role": "DAG_VIEWER" }]);
            control.make(
                "/tokens",
                &json!({
                    "name": name, "scope": "DEPLOYMENT", "entityId": here, "kind": kind, "roles": roles,
                    "role": "DEPLOYMENT_ACCESSOR", "tokenExpiryPeriodInDays": 1,
                }),
            );
        }
        let by_second = json!({ "name": "x", "scope": "DEPLOYMENT", "entityId": estate.elsewhere });
        assert_eq!(control.call_as(&second, "POST", "/tokens", Some(&by_second), &[]).status, 200);
        assert_eq!(control.call("POST", "/dual-control", Some(&json!({ "enabled": true }))).status, 200);
        let mut asked = String::new();
        for name in ["p", "q"] {
            let new = json!({ "name": name, "scope": "DEPLOYMENT", "entityId": here, "kind": "DIRECT_ACCESS", "tokenExpiryPeriodInDays": 1 });
            let request = control.call("POST", "/tokens", Some(&new));
            assert_eq!(request.status, 202, "{request:?}");
            asked = id(&request.json());
        }
        let rejected = format!("/token-requests/{asked}/reject");
        assert_eq!(
            control.call_as(&second, "POST", &rejected, Some(&json!({ "reason": "no" })), &[]).status,
            200
        );
        Self { control, estate, team, user, user_token, second }
    }

    /// Returns the answer without the members that repeat the parameters.
    fn get(&self, path: &str) -> Value {
        let answer = call(&self.control, &self.control.owner, "GET", &format!("/v1{path}"), None);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let mut answer = answer.json();
        for member in ["limit", "offset"] {
            answer.as_object_mut().map(|members| members.remove(member));
        }
        answer
    }

    /// Returns the id of the object of a route.
    fn id(&self, route: &str) -> &str {
        match route.split('/').nth(3).unwrap_or_default() {
            "deployments" => &self.estate.deployment,
            "data-planes" => &self.estate.data_plane,
            "teams" => &self.team,
            _ => "c0",
        }
    }

    /// Returns each filter of each list with a value that only some items match.
    fn filters(&self) -> Vec<(&'static str, &'static str, String)> {
        let Estate { workspace, elsewhere, deployment, .. } = &self.estate;
        let mut filters: Vec<(&str, &str, &str)> = vec![
            ("workspaces", "workspaceIds", workspace),
            ("workspaces", "names", "data"),
            ("deployments", "deploymentIds", elsewhere),
            ("deployments", "names", "prod"),
            ("deployments", "workspaceIds", workspace),
            ("users", "workspaceId", workspace),
            ("users", "deploymentId", deployment),
            ("users", "dagId", "etl"),
            ("users", "dagTags", "finance"),
            ("teams", "names", "b"),
            ("teams", "workspaceId", workspace),
            ("roles", "scopeTypes", "DAG"),
            ("tokens", "scope", "ORGANIZATION"),
            ("tokens", "kind", "DIRECT_ACCESS"),
            ("tokens", "entityId", elsewhere),
            ("tokens", "deploymentId", elsewhere),
            ("tokens", "workspaceId", workspace),
            ("tokens", "dagId", "etl"),
            ("tokens", "dagTags", "finance"),
            ("tokens", "includeOnlyOrganizationTokens", "true"),
            ("tokens", "createdBy", &self.control.owner_id),
            ("tokens", "search", "x"),
            ("token-requests", "state", "REJECTED"),
        ];
        for log in ["audit-log", "audit-logs"] {
            filters.extend([
                (log, "actor", self.control.owner_id.as_str()),
                (log, "target", &self.user),
                (log, "call", "POST /tokens"),
                (log, "outcome", "REFUSED"),
            ]);
        }
        filters.into_iter().map(|(list, name, value)| (list, name, value.to_owned())).collect()
    }
}

/// Returns the items of a list: its only member that is a list.
fn items(answer: &Value) -> Vec<Value> {
    answer.as_object().unwrap().values().find_map(Value::as_array).cloned().unwrap_or_default()
}

#[test]
fn each_parameter_of_the_document_changes_the_answer() {
    let two = Two::start();
    let control = &two.control;
    // Two refused calls by different callers become entries of the audit log.
    assert_eq!(control.call("DELETE", "/tokens/c0", None).status, 404);
    assert_eq!(control.call_as(&two.second, "DELETE", "/workspaces/c0", None, &[]).status, 404);
    let filters = two.filters();
    for (_, route, names) in calls(control).into_iter().filter(|(method, ..)| method == "GET") {
        if TOLD.contains(&&*route) {
            continue;
        }
        let path = place(&route, &control.organization, two.id(&route));
        let list = route.rsplit('/').next().unwrap();
        for name in &names {
            let with = |query: &str| two.get(&format!("{path}?{query}"));
            let all = || items(&with("limit=1000"));
            let why = format!("{route} {name}");
            match &**name {
                // There is one organization only, so its list has no order and no second page.
                "sorts" | "cursor" if list == "organizations" => {
                    let wrong = call(control, &control.owner, "GET", &format!("/v1{path}?{name}=x"), None);
                    assert_eq!(wrong.json()["fieldErrors"][0]["field"], **name, "{wrong:?}");
                }
                "limit" => {
                    assert!(items(&with("limit=0")).is_empty(), "{why}");
                    assert_eq!(items(&with("limit=1")), all()[..1], "{why}");
                }
                "offset" => assert_eq!(items(&with("offset=1&limit=1000")), all()[1..], "{why}"),
                "cursor" => {
                    let first = with("limit=1");
                    let cursor = first["nextCursor"].as_str().unwrap_or_else(|| panic!("{why}: {first}"));
                    assert_eq!(items(&with(&format!("cursor={cursor}&limit=1000"))), all()[1..], "{why}");
                }
                "sorts" => {
                    let field = if list == "users" { "username" } else { "name" };
                    let up = items(&with(&format!("sorts={field}:asc&limit=1000")));
                    let mut down = items(&with(&format!("sorts={field}:desc&limit=1000")));
                    assert!(up != down && up.len() > 1, "{why}");
                    down.reverse();
                    assert_eq!(up, down, "{why}");
                }
                "since" => assert!(items(&with("since=2100-01-01T00:00:00Z")).is_empty(), "{why}"),
                "until" => assert!(items(&with("until=2000-01-01T00:00:00Z")).is_empty(), "{why}"),
                "includeDefaultRoles" => {
                    let built_in = with("includeDefaultRoles=true")["defaultRoles"].clone();
                    assert!(!built_in.as_array().unwrap().is_empty(), "{why}");
                    assert_eq!(with("includeDefaultRoles=false").get("defaultRoles"), None, "{why}");
                }
                "scopeType" => {
                    assert_ne!(two.get(&path), with("scopeType=DAG"), "{why}");
                    assert_ne!(with("scopeType=DEPLOYMENT"), with("scopeType=DAG"), "{why}");
                }
                "workspaceId" | "deploymentId" if list == "self" => {
                    let id = match &**name {
                        "workspaceId" => &two.estate.workspace,
                        _ => &two.estate.deployment,
                    };
                    let get = |query: &str| {
                        call(control, &two.user_token, "GET", &format!("/v1{path}{query}"), None).json()
                    };
                    let there = get(&format!("?{name}={id}"));
                    assert!(there["operations"].is_array(), "{why}: {there}");
                    assert_ne!(get("")["operations"], there["operations"], "{why}");
                }
                name => {
                    let found = filters.iter().find(|(of, filter, _)| *of == list && *filter == name);
                    let (_, _, value) = found.unwrap_or_else(|| panic!("{why} is not tried"));
                    let value = value.replace(' ', "%20");
                    let some = items(&with(&format!("{name}={value}&limit=1000"))).len();
                    let all = all().len();
                    assert!(0 < some && some < all, "{why}: {some} of {all}");
                }
            }
        }
    }
    // A call with two places is refused, because one of them would be ignored.
    let Estate { workspace, deployment, .. } = &two.estate;
    let both = format!("/v1/users/self?workspaceId={workspace}&deploymentId={deployment}");
    let refused = call(control, &control.owner, "GET", &both, None);
    assert_eq!((refused.status, &refused.json()["fieldErrors"][0]["field"]), (422, &json!("workspaceId")));
}
