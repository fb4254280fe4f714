//! The calls that each command of the platform's command line makes, one after the other, with a token in
//! `ASTRO_API_TOKEN`.

use serde_json::{Value, json};

use super::expected::{
    ApiToken, ApiTokens, Deployment, Deployments, EntityType, Organizations, Scope, SubjectRoles, Workspaces,
};
use super::tokens::claims;
use super::{call, decoded};
use crate::rig::control::Control;
use crate::rig::estate::Estate;

/// Command line with a token.
struct CommandLine<'a> {
    control: &'a Control,
    token: String,
    organization: String,
}

impl<'a> CommandLine<'a> {
    /// Starts as each command does: it reads the organization's id from the token, and requests the organization's
    /// name.
    fn start(control: &'a Control, token: String) -> Self {
        let claims = claims(&token);
        let places = claims["permissions"].as_array().unwrap();
        let place = |kind: &str| {
            places.iter().find_map(|place| place.as_str()?.strip_prefix(kind)).map(str::to_owned)
        };
        let organization = place("organizationId:").unwrap();
        let page: Organizations = decoded(&call(control, &token, "GET", "/v1/organizations", None));
        assert!(page.organizations.iter().any(|found| found.id.0 == organization));
        let line = Self { control, token, organization };
        let page: Workspaces = line.get("/workspaces?limit=1000&sorts=name:asc");
        let own = place("workspaceId:");
        assert!(own.is_none_or(|own| page.workspaces.iter().any(|workspace| workspace.id.0 == own)));
        line
    }

    fn path(&self, path: &str) -> String {
        format!("/v1/organizations/{}{path}", self.organization)
    }

    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        decoded(&call(self.control, &self.token, "GET", &self.path(path), None))
    }

    fn post<T: serde::de::DeserializeOwned>(&self, path: &str, body: &Value) -> T {
        decoded(&call(self.control, &self.token, "POST", &self.path(path), Some(body)))
    }

    fn delete(&self, path: &str) {
        assert_eq!(call(self.control, &self.token, "DELETE", &self.path(path), None).status, 204);
    }

    /// Creates, lists, updates, rotates and deletes tokens of one scope.
    fn tokens(&self, scope: &str, entity: Option<&str>, role: &str, list: &str) {
        let new = json!({
            "name": "ci", "description": "", "scope": scope, "entityId": entity, "role": role,
            "tokenExpiryPeriodInDays": 30,
        });
        let made: ApiToken = self.post("/tokens", &new);
        assert!(made.token.is_some());
        let page: ApiTokens = self.get(&format!("/tokens?{list}&limit=1000&offset=0"));
        let found = page.tokens.into_iter().find(|token| token.token.id == made.id).unwrap();
        let one = format!("/tokens/{}", made.id.0);
        let update = json!({ "name": "renamed", "description": found.token.description });
        let _: ApiToken = self.post(&one, &update);
        // To change a token's role, the command line sends all of the token's roles back with one replaced.
        let shown: ApiToken = self.get(&one);
        let roles: Vec<Value> = shown
            .roles
            .unwrap()
            .iter()
            .map(|role| json!({ "entityType": scope, "entityId": role.entity_id, "role": role.role }))
            .collect();
        let _: SubjectRoles = self.post(&format!("{one}/roles"), &json!({ "roles": roles }));
        let rotated: ApiToken =
            decoded(&call(self.control, &self.token, "POST", &self.path(&format!("{one}/rotate")), None));
        assert_ne!(rotated.token, made.token);
        self.delete(&one);
    }
}

fn started(control: &Control) -> (Estate, CommandLine<'_>) {
    let estate = control.estate();
    let owner = json!({ "name": "owner", "scope": "ORGANIZATION", "role": "ORGANIZATION_OWNER",
        "tokenExpiryPeriodInDays": 1 });
    let token = control.make("/tokens", &owner)["token"].as_str().unwrap().to_owned();
    (estate, CommandLine::start(control, token))
}

#[test]
fn the_commands_of_tokens_work_in_every_scope() {
    let control = Control::start("");
    let (estate, line) = started(&control);
    line.tokens("ORGANIZATION", None, "ORGANIZATION_MEMBER", "includeOnlyOrganizationTokens=true");
    let (workspace, deployment) = (&estate.workspace, &estate.deployment);
    let list = format!("workspaceId={workspace}");
    line.tokens("WORKSPACE", Some(workspace), "WORKSPACE_MEMBER", &list);
    let list = format!("deploymentId={deployment}");
    line.tokens("DEPLOYMENT", Some(deployment), "DEPLOYMENT_ADMIN", &list);
}

#[test]
fn a_token_of_the_organization_is_put_on_a_deployment_and_taken_off() {
    let control = Control::start("");
    let (estate, line) = started(&control);
    let new = json!({ "name": "shared", "scope": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" });
    let made: ApiToken = line.post("/tokens", &new);
    let page: ApiTokens = line.get("/tokens?includeOnlyOrganizationTokens=true&limit=1000");
    let found = page.tokens.into_iter().find(|token| token.token.name == "shared").unwrap().token;
    assert_eq!((&found.id, &found.scope), (&made.id, &Scope::Organization));
    let own =
        json!({ "entityType": "ORGANIZATION", "entityId": line.organization, "role": "ORGANIZATION_MEMBER" });
    let on = json!({ "entityType": "DEPLOYMENT", "entityId": estate.deployment, "role": "DEPLOYMENT_ADMIN" });
    let path = format!("/tokens/{}/roles", made.id.0);
    let roles: SubjectRoles = line.post(&path, &json!({ "roles": [own, on] }));
    assert_eq!(roles.deployment_roles.unwrap().len(), 1);
    let page: ApiTokens = line.get(&format!("/tokens?deploymentId={}", estate.deployment));
    let listed = page.tokens.into_iter().find(|token| token.token.id == made.id).unwrap().token;
    assert!(listed.roles.unwrap().iter().any(|role| role.entity_type == EntityType::Deployment));
    let roles: SubjectRoles = line.post(&path, &json!({ "roles": [own] }));
    assert!(roles.deployment_roles.unwrap().is_empty());
}

#[test]
fn deployments_are_listed_and_inspected() {
    let control = Control::start("");
    let (estate, line) = started(&control);
    let page: Deployments = line.get(&format!("/deployments?workspaceIds={}&limit=1000", estate.workspace));
    assert_eq!(page.deployments.len(), 1);
    let by_id: Deployments = line.get(&format!("/deployments?deploymentIds={}", estate.deployment));
    assert_eq!(by_id.deployments[0].id, page.deployments[0].id);
    let shown: Deployment = line.get(&format!("/deployments/{}", estate.deployment));
    assert_eq!(shown.id.0, estate.deployment);
}
