//! Authorization at the real control plane: each role attempts each operation of the table in
//! `src/controlplane/access/authorization.rs`.

#![allow(clippy::unwrap_used)]

use crate::rig::control::Control;
use crate::rig::estate::Estate;
use serde_json::{Value, json};

/// For each operation: the roles that allow it (`x`, in the order of [`ROLES`]), and the permission on the deployment
/// that allows it too. An allowed call succeeds or is refused for its body.
const TABLE: &str = "
    SeeOrganization           xxx xxxxx deployment.get
    ReadOrganization          xxx xxxxx -
    Administer                ..x ..... -
    Enrol                     ..x ..... -
    ManageRoles               ..x ..... -
    SeeWorkspace              ..x xxxxx -
    ManageWorkspaceRoles      ..x ....x -
    ManageDeploymentUsers     ..x ....x deployment.users.update
    ManageDeploymentTeams     ..x ....x deployment.teams.update
    ReadDeployments           ..x .xxxx deployment.get
    CreateDeployments         ..x ...xx -
    UpdateDeployments         ..x ...xx deployment.update
    DeleteDeployments         ..x ...xx deployment.delete
    ReadDagTags               ..x .xxxx deployment.airflow.dag.get
    PublishDagTags            ..x ..xxx deployment.deploys.create
    ReadOrganizationTokens    ..x ..... -
    ManageOrganizationTokens  ..x ..... -
    ReadWorkspaceTokens       ..x .xxxx -
    ManageWorkspaceTokens     ..x ...xx -
    ReadDeploymentTokens      ..x .xxxx deployment.apiTokens.get
    CreateDeploymentTokens    ..x ....x deployment.apiTokens.create
    UpdateDeploymentTokens    ..x ....x deployment.apiTokens.update
    RotateDeploymentTokens    ..x ....x deployment.apiTokens.rotate
    DeleteDeploymentTokens    ..x ....x deployment.apiTokens.delete
    AssignTokens              ..x ....x deployment.apiTokens.update
    AssignDagRoles            ..x ....x deployment.update
    ManageDirectAccess        ..x ..... -
";

/// Roles in the organization, then roles in the workspace. A user with a workspace role is a member of the
/// organization.
const ROLES: [&str; 8] = [
    "ORGANIZATION_MEMBER",
    "ORGANIZATION_BILLING_ADMIN",
    "ORGANIZATION_OWNER",
    "WORKSPACE_ACCESSOR",
    "WORKSPACE_MEMBER",
    "WORKSPACE_AUTHOR",
    "WORKSPACE_OPERATOR",
    "WORKSPACE_OWNER",
];

fn id(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}

struct World {
    control: Control,
    estate: Estate,
    someone: String,
    team: String,
    organization_token: String,
    workspace_token: String,
}

impl World {
    fn start() -> Self {
        let control = Control::start("[limits]\ncalls_per_minute = 100000");
        let estate = control.estate();
        let user = json!({ "email": "someone@acme.example", "organizationRole": "ORGANIZATION_MEMBER" });
        let someone = id(&control.make("/users", &user));
        let team = id(&control.make("/teams", &json!({ "name": "some" })));
        let token = |body: Value| id(&control.make("/tokens", &body));
        let organization_token =
            token(json!({ "name": "o", "type": "ORGANIZATION", "role": "ORGANIZATION_MEMBER" }));
        let workspace_token = token(
            json!({ "name": "w", "type": "WORKSPACE", "entityId": estate.workspace, "role": "WORKSPACE_ACCESSOR" }),
        );
        Self { control, estate, someone, team, organization_token, workspace_token }
    }

    /// Creates a user with this role in the organization or in the workspace.
    fn user(&self, role: &str) -> String {
        if role.starts_with("WORKSPACE") {
            return self.control.user(role, &self.estate.workspace);
        }
        let body = json!({ "email": format!("{role}@acme.example"), "organizationRole": role });
        self.control.make("/users", &body)["token"].as_str().unwrap().to_owned()
    }

    /// Creates a standard token of `deployment` without permissions, as the object of calls.
    fn token(&self, deployment: &str) -> String {
        let body = json!({ "name": "t", "type": "DEPLOYMENT", "entityId": deployment, "role": "DEPLOYMENT_ACCESSOR" });
        id(&self.control.make("/tokens", &body))
    }

    /// Returns the value of a token of `deployment` that has exactly these permissions.
    fn holder(&self, deployment: &str, permissions: &[&str]) -> String {
        let name = format!("only-{}", permissions.join("-").replace('.', "_"));
        let name = &name[..name.len().min(64)];
        if self.control.call("GET", &format!("/roles/{name}"), None).status == 404 {
            let role = json!({ "name": name, "scopeType": "DEPLOYMENT", "permissions": permissions });
            self.control.make("/roles", &role);
        }
        let body = json!({ "name": "holder", "type": "DEPLOYMENT", "entityId": deployment, "role": name });
        self.control.make("/tokens", &body)["token"].as_str().unwrap().to_owned()
    }

    /// Returns the call that performs `operation` on `deployment`.
    fn call(&self, operation: &str, deployment: &str) -> (&'static str, String, Option<Value>) {
        let Estate { workspace, data_plane, .. } = &self.estate;
        let on = format!("/deployments/{deployment}");
        let new = |kind: &str| {
            json!({ "name": "t", "type": "DEPLOYMENT", "kind": kind, "entityId": deployment,
                "role": "DEPLOYMENT_ACCESSOR", "tokenExpiryPeriodInDays": 1 })
        };
        let no_name = Some(json!({ "name": "" }));
        match operation {
            "SeeOrganization" => ("GET", String::new(), None),
            "ReadOrganization" => ("GET", "/roles".into(), None),
            "Administer" => ("POST", "/workspaces".into(), no_name),
            "Enrol" => {
                let path = format!("/data-planes/{data_plane}/enrolment-tokens");
                ("POST", path, Some(json!({ "expiresInSeconds": 1 })))
            }
            "ManageRoles" => {
                let role = json!({ "name": "", "scopeType": "DAG", "permissions": [] });
                ("POST", "/roles".into(), Some(role))
            }
            "SeeWorkspace" => ("GET", format!("/workspaces/{workspace}"), None),
            "ManageWorkspaceRoles" => {
                let roles = json!([{ "workspaceId": workspace, "role": "WORKSPACE_MEMBER" }]);
                ("POST", format!("/users/{}/roles", self.someone), Some(json!({ "workspaceRoles": roles })))
            }
            "ManageDeploymentUsers" | "ManageDeploymentTeams" => {
                let roles = json!([{ "deploymentId": deployment, "role": "DEPLOYMENT_ACCESSOR" }]);
                let whose = match operation {
                    "ManageDeploymentUsers" => format!("/users/{}", self.someone),
                    _ => format!("/teams/{}", self.team),
                };
                ("POST", format!("{whose}/roles"), Some(json!({ "deploymentRoles": roles })))
            }
            "ReadDeployments" => ("GET", on, None),
            "CreateDeployments" => {
                let body = json!({ "name": "", "workspaceId": workspace, "dataPlaneId": data_plane });
                ("POST", "/deployments".into(), Some(body))
            }
            "UpdateDeployments" => ("POST", on, no_name),
            "DeleteDeployments" => ("DELETE", on, None),
            "ReadDagTags" => ("GET", on + "/dag-tags", None),
            "PublishDagTags" => ("PUT", on + "/dag-tags", Some(json!({ "tags": { "": [] } }))),
            "ReadOrganizationTokens" => ("GET", format!("/tokens/{}", self.organization_token), None),
            "ManageOrganizationTokens" => ("POST", format!("/tokens/{}", self.organization_token), no_name),
            "ReadWorkspaceTokens" => ("GET", format!("/tokens/{}", self.workspace_token), None),
            "ManageWorkspaceTokens" => ("POST", format!("/tokens/{}", self.workspace_token), no_name),
            "ReadDeploymentTokens" => ("GET", on + "/tokens", None),
            "CreateDeploymentTokens" => ("POST", "/tokens".into(), Some(new("STANDARD"))),
            "UpdateDeploymentTokens" => ("POST", format!("/tokens/{}", self.token(deployment)), no_name),
            "RotateDeploymentTokens" => ("POST", format!("/tokens/{}/rotate", self.token(deployment)), None),
            "DeleteDeploymentTokens" => ("DELETE", format!("/tokens/{}", self.token(deployment)), None),
            "AssignTokens" => {
                let body = json!({ "tokenId": self.workspace_token, "role": "no-such-role" });
                ("POST", on + "/tokens", Some(body))
            }
            "AssignDagRoles" => {
                let home = json!({ "entityType": "DEPLOYMENT", "entityId": deployment, "role": "DEPLOYMENT_ACCESSOR" });
                let dag = json!({ "entityType": "DAG", "entityId": "etl", "role": "see" });
                let path = format!("/tokens/{}/roles", self.token(deployment));
                ("POST", path, Some(json!({ "roles": [home, dag] })))
            }
            "ManageDirectAccess" => ("POST", "/tokens".into(), Some(new("DIRECT_ACCESS"))),
            other => unreachable!("{other}"),
        }
    }

    fn allowed(&self, caller: &str, operation: &str, deployment: &str) -> bool {
        let (method, path, body) = self.call(operation, deployment);
        let answer = self.control.call_as(caller, method, &path, body.as_ref(), &[]);
        assert!([200, 204, 403, 404, 422].contains(&answer.status), "{operation}: {answer:?}");
        // An object that the caller may not read is answered with 404.
        ![403, 404].contains(&answer.status)
    }

    /// Returns the deployment for a call. Calls that delete a deployment get one of their own.
    fn deployment_for(&self, operation: &str, number: usize) -> String {
        if operation != "DeleteDeployments" {
            return self.estate.deployment.clone();
        }
        let Estate { workspace, data_plane, .. } = &self.estate;
        let name = format!("short-lived-{number}");
        let body = json!({ "name": name, "workspaceId": workspace, "dataPlaneId": data_plane });
        let deployment = id(&self.control.make("/deployments", &body));
        // Deleting a deployment deletes its tokens, direct-access tokens included.
        let token = json!({ "name": "t", "type": "DEPLOYMENT", "kind": "DIRECT_ACCESS", "entityId": deployment,
            "tokenExpiryPeriodInDays": 1 });
        self.control.make("/tokens", &token);
        deployment
    }
}

#[test]
fn each_role_may_do_what_the_table_says_and_nothing_else() {
    let world = World::start();
    let see = json!({ "name": "see", "scopeType": "DAG", "permissions": ["deployment.airflow.dag.get"] });
    world.control.make("/roles", &see);
    let users = ROLES.map(|role| (role, world.user(role)));
    for row in TABLE.lines().filter(|line| !line.trim().is_empty()) {
        let [operation, organization, workspace, permission] =
            <[&str; 4]>::try_from(row.split_whitespace().collect::<Vec<_>>()).unwrap();
        let marks = organization.chars().chain(workspace.chars());
        for (number, ((role, caller), mark)) in users.iter().zip(marks).enumerate() {
            let deployment = world.deployment_for(operation, number);
            assert_eq!(world.allowed(caller, operation, &deployment), mark == 'x', "{role}: {operation}");
        }
        // A deployment's token is allowed an operation only if it has the permission for it.
        let deployment = world.deployment_for(operation, ROLES.len());
        let with = match operation {
            // The call also needs permission to read the token, and each permission that it assigns.
            "AssignDagRoles" => vec![permission, "deployment.apiTokens.get", "deployment.airflow.dag.get"],
            _ => vec![permission],
        };
        if permission != "-" {
            let holder = world.holder(&deployment, &with);
            assert!(world.allowed(&holder, operation, &deployment), "{permission}: {operation}");
        }
        if operation != "SeeOrganization" {
            let deployment = world.deployment_for(operation, ROLES.len() + 1);
            let other = world.holder(&deployment, &["deployment.logs.get", "deployment.apiKeys.delete"]);
            assert!(!world.allowed(&other, operation, &deployment), "another permission: {operation}");
        }
    }
}

#[test]
fn a_call_about_somebody_elses_organization_finds_nothing() {
    let world = World::start();
    let member = world.user("ORGANIZATION_MEMBER");
    let url = format!("{}/v1/organizations/org_other/tokens", world.control.url);
    let answer = crate::rig::curl(&["-H", &format!("Authorization: Bearer {member}"), &url]);
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("not_found")));
    // A direct-access token is for the data plane; the control plane refuses it.
    let body = json!({ "name": "t", "type": "DEPLOYMENT", "kind": "DIRECT_ACCESS",
        "entityId": world.estate.deployment, "tokenExpiryPeriodInDays": 1 });
    let token = world.control.make("/tokens", &body);
    let answer = world.control.call_as(token["token"].as_str().unwrap(), "GET", "/tokens", None, &[]);
    assert_eq!(answer.status, 401);
}
