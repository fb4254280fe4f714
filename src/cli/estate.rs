//! Commands for the objects of an organization. Each verb is one call of the control plane.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::audit_log;
use super::control::Control;
use super::dag_tags;
use super::failure::Failure;
use super::output::{Column, Output, confirm, line, note};
use super::token::deployment;
use crate::api::id::{DataPlaneId, DeploymentId, OrganizationId, UserId, WorkspaceId};

const NAMED: [Column; 3] = [("ID", "id"), ("NAME", "name"), ("CREATED", "createdAt")];
/// When direct access opens a deployment.
const GLASS: [&str; 3] = ["always", "outage", "sealed"];
const DEPLOYMENT: [Column; 7] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("WORKSPACE", "workspaceId"),
    ("DATA PLANE", "dataPlaneId"),
    ("HOSTS", "hosts"),
    ("ROUTES", "routes"),
    ("GLASS", "glass"),
];
const DATA_PLANE: [Column; 5] =
    [("ID", "id"), ("NAME", "name"), ("VERSION", "version"), ("RECORDS", "records"), ("NODES", "nodes")];
const USER: [Column; 5] = [
    ("ID", "id"),
    ("EMAIL", "email"),
    ("TOKEN ENDS", "tokenEndsAt"),
    ("ORGANIZATION ROLE", "organizationRole"),
    ("WORKSPACE ROLES", "workspaceRoles"),
];

#[derive(Subcommand, Debug)]
pub(super) enum OrganizationVerb {
    /// List the organizations you belong to.
    List,
    /// Show an organization.
    Show {
        /// The organization's id.
        id: OrganizationId,
    },
    /// Show who changed, or tried to change, what in the organization, and from where; newest first.
    AuditLog(audit_log::Arguments),
    /// Show or say whether a direct-access token needs two owners. To end it, another owner has to approve.
    DualControl {
        /// What it is to be; shown if left out.
        #[arg(value_parser = ["on", "off"])]
        wanted: Option<String>,
        /// How long an approval may take, in hours.
        #[arg(long, default_value_t = 24)]
        approval_hours: i64,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum WorkspaceVerb {
    /// Create a workspace.
    Create {
        /// Its name.
        name: String,
    },
    /// List workspaces.
    List,
    /// Show a workspace.
    Show {
        /// The workspace's id.
        id: WorkspaceId,
    },
    /// Delete an empty workspace.
    Delete {
        /// The workspace's id.
        id: WorkspaceId,
        /// Don't ask.
        #[arg(long, short)]
        force: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum DeploymentVerb {
    /// Create a deployment.
    Create {
        /// Its name.
        name: String,
        /// Its workspace.
        #[arg(long, value_name = "ID")]
        workspace_id: WorkspaceId,
        /// The data plane it lives on.
        #[arg(long, value_name = "ID")]
        data_plane_id: DataPlaneId,
        /// A host name it is reached by; can be repeated.
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// The route map of its hosts that turns its requests into permissions.
        #[arg(long, value_name = "NAME", default_value = "airflow-v2")]
        routes: String,
        /// When direct-access tokens open it: always, in an outage only, or only once its glass was broken on the host.
        #[arg(long, value_name = "MODE", default_value = "always", value_parser = GLASS)]
        glass: String,
    },
    /// List deployments.
    List,
    /// Show a deployment.
    Show {
        /// The deployment's id.
        id: DeploymentId,
    },
    /// Change a deployment's name, hosts, route map or glass.
    Update {
        /// The deployment's id.
        id: DeploymentId,
        /// The new name.
        #[arg(long)]
        name: Option<String>,
        /// All host names from now on; can be repeated.
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// The name of another route map.
        #[arg(long, value_name = "NAME")]
        routes: Option<String>,
        /// When direct-access tokens open it from now on: always, in an outage only, or only once its glass was broken on
        /// the host.
        #[arg(long, value_name = "MODE", value_parser = GLASS)]
        glass: Option<String>,
    },
    /// Delete a deployment and all its tokens.
    Delete {
        /// The deployment's id.
        id: DeploymentId,
        /// Don't ask.
        #[arg(long, short)]
        force: bool,
    },
    /// The tokens of a deployment, and those assigned to it.
    #[command(subcommand)]
    Token(deployment::Verb),
    /// Publish and show which tags a deployment's Dags have: what Dag roles by tag are compared with.
    #[command(subcommand)]
    DagTags(dag_tags::Verb),
}

#[derive(Subcommand, Debug)]
pub(super) enum DataPlaneVerb {
    /// Create a data plane.
    Create {
        /// Its name.
        name: String,
    },
    /// List data planes.
    List,
    /// Show a data plane.
    Show {
        /// The data plane's id.
        id: DataPlaneId,
    },
    /// Make a one-time token with which one host can enrol, and show it, once.
    EnrolmentToken {
        /// The data plane's id.
        id: DataPlaneId,
        /// How long it can be used, in seconds.
        #[arg(long, default_value_t = 86_400)]
        expires_in: i64,
        /// Print the value alone, for scripts.
        #[arg(long, short)]
        clean_output: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum UserVerb {
    /// Create a user and show the token, once.
    Create {
        /// Who it is.
        email: String,
        /// The role in the organization.
        #[arg(long, default_value = "ORGANIZATION_MEMBER")]
        organization_role: String,
        /// A role in a workspace, as ID=ROLE; can be repeated.
        #[arg(long, value_name = "ID=ROLE", value_parser = grant)]
        workspace_role: Vec<Value>,
    },
    /// List users.
    List,
    /// Set a user's roles.
    SetRoles {
        /// The user's id.
        id: UserId,
        /// The role in the organization.
        #[arg(long)]
        organization_role: Option<String>,
        /// All roles in workspaces from now on, as ID=ROLE; can be repeated.
        #[arg(long, value_name = "ID=ROLE", value_parser = grant)]
        workspace_role: Vec<Value>,
    },
    /// Give a user a new token, shown once. The old one stops.
    RotateToken {
        /// The user's id.
        id: UserId,
        /// Don't ask.
        #[arg(long, short)]
        force: bool,
    },
    /// Delete a user.
    Delete {
        /// The user's id.
        id: UserId,
        /// Don't ask.
        #[arg(long, short)]
        force: bool,
    },
}

pub(super) fn grant(text: &str) -> Result<Value, String> {
    let (workspace, role) = text.split_once('=').ok_or("use ID=ROLE")?;
    Ok(json!({ "workspaceId": workspace, "role": role }))
}

pub(super) async fn organization(
    verb: OrganizationVerb,
    control: &Control,
    output: Output,
) -> Result<(), Failure> {
    match verb {
        OrganizationVerb::List => {
            output.list(&control.call(Method::GET, "/v1/organizations", None).await?, &NAMED);
        }
        OrganizationVerb::Show { id } => {
            let path = format!("/v1/organizations/{id}");
            output.one(&control.call(Method::GET, &path, None).await?, &NAMED);
        }
        OrganizationVerb::AuditLog(arguments) => audit_log::run(arguments, control, output).await?,
        OrganizationVerb::DualControl { wanted, approval_hours } => {
            dual_control(wanted.as_deref(), approval_hours, control, output).await?;
        }
    }
    Ok(())
}

async fn dual_control(
    wanted: Option<&str>,
    hours: i64,
    control: &Control,
    output: Output,
) -> Result<(), Failure> {
    let wanted = wanted.map(|wanted| json!({ "enabled": wanted == "on", "approvalPeriodInHours": hours }));
    let method = if wanted.is_some() { Method::POST } else { Method::GET };
    let answer = control.organization_call(method, "/dual-control", wanted).await?;
    if let Some(id) = answer["id"].as_str() {
        output.one(&answer, &[("request", "id"), ("state", "state"), ("until", "expiresAt")]);
        output.say(&format!(
            "another Organization Owner has to approve this: halligan token request approve {id}"
        ));
    } else {
        output.one(&answer, &[("enabled", "enabled"), ("approval within (hours)", "approvalPeriodInHours")]);
    }
    Ok(())
}

pub(super) async fn workspace(verb: WorkspaceVerb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        WorkspaceVerb::Create { name } => {
            let body = Some(json!({ "name": name }));
            output.one(&control.organization_call(Method::POST, "/workspaces", body).await?, &NAMED);
        }
        WorkspaceVerb::List => {
            output.list(&control.organization_call(Method::GET, "/workspaces", None).await?, &NAMED);
        }
        WorkspaceVerb::Show { id } => {
            let path = format!("/workspaces/{id}");
            output.one(&control.organization_call(Method::GET, &path, None).await?, &NAMED);
        }
        WorkspaceVerb::Delete { id, force } => {
            delete(control, output, &format!("/workspaces/{id}"), &id, force).await?;
        }
    }
    Ok(())
}

pub(super) async fn deployment(
    verb: DeploymentVerb,
    control: &Control,
    output: Output,
) -> Result<(), Failure> {
    let path = |id: &str| format!("/deployments/{id}");
    match verb {
        DeploymentVerb::Create { name, workspace_id, data_plane_id, host, routes, glass } => {
            let body = json!({
                "name": name, "workspaceId": workspace_id, "dataPlaneId": data_plane_id, "hosts": host,
                "routes": routes, "glass": glass,
            });
            let made = control.organization_call(Method::POST, "/deployments", Some(body)).await?;
            output.one(&made, &DEPLOYMENT);
        }
        DeploymentVerb::List => {
            let found = control.organization_call(Method::GET, "/deployments", None).await?;
            output.list(&found, &DEPLOYMENT);
        }
        DeploymentVerb::Show { id } => {
            output.one(&control.organization_call(Method::GET, &path(&id), None).await?, &DEPLOYMENT);
        }
        DeploymentVerb::Update { id, name, host, routes, glass } => {
            let hosts = (!host.is_empty()).then_some(host);
            let body = Some(json!({ "name": name, "hosts": hosts, "routes": routes, "glass": glass }));
            output.one(&control.organization_call(Method::POST, &path(&id), body).await?, &DEPLOYMENT);
        }
        DeploymentVerb::Delete { id, force } => delete(control, output, &path(&id), &id, force).await?,
        DeploymentVerb::Token(verb) => deployment::run(verb, control, output).await?,
        DeploymentVerb::DagTags(verb) => dag_tags::run(verb, control, output).await?,
    }
    Ok(())
}

pub(super) async fn data_plane(
    verb: DataPlaneVerb,
    control: &Control,
    output: Output,
) -> Result<(), Failure> {
    match verb {
        DataPlaneVerb::Create { name } => {
            let body = Some(json!({ "name": name }));
            output.one(&control.organization_call(Method::POST, "/data-planes", body).await?, &DATA_PLANE);
        }
        DataPlaneVerb::List => {
            let found = control.organization_call(Method::GET, "/data-planes", None).await?;
            output.list(&found, &DATA_PLANE);
        }
        DataPlaneVerb::Show { id } => {
            let path = format!("/data-planes/{id}");
            output.one(&control.organization_call(Method::GET, &path, None).await?, &DATA_PLANE);
        }
        DataPlaneVerb::EnrolmentToken { id, expires_in, clean_output } => {
            let path = format!("/data-planes/{id}/enrolment-tokens");
            let body = Some(json!({ "expiresInSeconds": expires_in }));
            let made = control.organization_call(Method::POST, &path, body).await?;
            if clean_output {
                line(made["enrolmentToken"].as_str().unwrap_or_default());
            } else {
                output.one(&made, &[("token", "enrolmentToken"), ("expires", "expiresAt")]);
            }
        }
    }
    Ok(())
}

pub(super) async fn user(verb: UserVerb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        UserVerb::Create { email, organization_role, workspace_role } => {
            let body = json!({
                "email": email, "organizationRole": organization_role, "workspaceRoles": workspace_role,
            });
            let made = control.organization_call(Method::POST, "/users", Some(body)).await?;
            with_token(&made, output);
        }
        UserVerb::List => {
            output.list(&control.organization_call(Method::GET, "/users", None).await?, &USER);
        }
        UserVerb::SetRoles { id, organization_role, workspace_role } => {
            let workspaces = (!workspace_role.is_empty()).then_some(workspace_role);
            let body = json!({ "organizationRole": organization_role, "workspaceRoles": workspaces });
            let path = format!("/users/{id}/roles");
            output.one(&control.organization_call(Method::POST, &path, Some(body)).await?, &USER);
        }
        UserVerb::RotateToken { id, force } => {
            confirm(&format!("The present token of {id} stops; that"), force)?;
            let path = format!("/users/{id}/token");
            let made = control.organization_call(Method::POST, &path, None).await?;
            with_token(&made, output);
        }
        UserVerb::Delete { id, force } => {
            delete(control, output, &format!("/users/{id}"), &id, force).await?;
        }
    }
    Ok(())
}

fn with_token(made: &Value, output: Output) {
    output.one(made, &USER);
    if !output.json {
        line(&format!("\n{}", made["token"].as_str().unwrap_or_default()));
        note("\nThis is the user's token. It is shown this once.");
    }
}

async fn delete(control: &Control, output: Output, path: &str, id: &str, force: bool) -> Result<(), Failure> {
    confirm(&format!("Deleting {id}"), force)?;
    control.organization_call(Method::DELETE, path, None).await?;
    output.say(&format!("deleted {id}"));
    Ok(())
}
