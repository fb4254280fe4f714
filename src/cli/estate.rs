//! Commands for the objects of an organization. Each verb is one call of the control plane.

use clap::{Args, Subcommand};

use super::audit_log;
use super::control::{Control, Done};
use super::dag_tags;
use super::failure::Failure;
use super::output::{Column, Output, confirm, line, note};
use super::token::{deployment, scoped};
use super::variable;
use crate::api::caller::Caller;
use crate::api::data_plane::{DataPlane, DataPlanePage, EnrolmentToken, NewDataPlane, NewEnrolmentToken};
use crate::api::deployment::{Deployment, DeploymentPage, DeploymentUpdate, NewDeployment};
use crate::api::dual_control::DualControl;
use crate::api::id::{DataPlaneId, DeploymentId, OrganizationId, UserId, WorkspaceId};
use crate::api::organization::{Organization, OrganizationPage};
use crate::api::role::{OrganizationRole, RoleOnDags, RoleOnDeployment, WorkspaceRole};
use crate::api::user::{NewUser, User, UserPage, UserRoles, UserToken, WorkspaceGrant};
use crate::api::workspace::{NewWorkspace, Workspace, WorkspacePage, WorkspaceUpdate};
use crate::protocol::glass::GlassMode;

const NAMED: [Column; 3] = [("ID", "id"), ("NAME", "name"), ("CREATED", "createdAt")];
const WORKSPACE: [Column; 4] =
    [("ID", "id"), ("NAME", "name"), ("DESCRIPTION", "description"), ("CREATED", "createdAt")];
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
const USER: [Column; 7] = [
    ("ID", "id"),
    ("EMAIL", "email"),
    ("TOKEN ENDS", "tokenEndsAt"),
    ("ORGANIZATION ROLE", "organizationRole"),
    ("WORKSPACE ROLES", "workspaceRoles"),
    ("DEPLOYMENT ROLES", "deploymentRoles"),
    ("DAG ROLES", "dagRoles"),
];
const CALLER: [Column; 6] = [
    ("id", "id"),
    ("name", "username"),
    ("organization", "organizationId"),
    ("roles", "roles"),
    ("may", "operations"),
    ("permissions", "permissions"),
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
    /// Create, list, update, rotate and delete the organization's own tokens.
    #[command(subcommand)]
    Token(scoped::Verb),
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
        /// What it is for.
        #[arg(long, short, default_value = "")]
        description: String,
    },
    /// List workspaces.
    List,
    /// Show a workspace.
    Show {
        /// The workspace's id.
        id: WorkspaceId,
    },
    /// Change a workspace's name or description.
    Update {
        /// The workspace's id.
        id: WorkspaceId,
        /// The new name.
        #[arg(long, short)]
        name: Option<String>,
        /// The new description.
        #[arg(long, short)]
        description: Option<String>,
    },
    /// Create, list, update, rotate and delete a workspace's own tokens.
    Token {
        /// The workspace's id.
        #[arg(long, value_name = "ID", global = true)]
        workspace_id: Option<WorkspaceId>,
        #[command(subcommand)]
        verb: scoped::Verb,
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
        /// What it is for.
        #[arg(long, short, default_value = "")]
        description: String,
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
        #[arg(long, value_name = "MODE", default_value = "always", value_parser = glass)]
        glass: GlassMode,
    },
    /// List deployments.
    List,
    /// Show a deployment.
    Show {
        /// The deployment's id.
        id: DeploymentId,
    },
    /// Print everything about a deployment, as JSON.
    Inspect {
        /// The deployment's id.
        #[arg(required_unless_present = "name", conflicts_with = "name")]
        id: Option<DeploymentId>,
        /// The deployment's name, in place of its id.
        #[arg(long, short, visible_alias = "deployment-name")]
        name: Option<String>,
    },
    /// Change a deployment's name, description, hosts, route map or glass.
    Update {
        /// The deployment's id.
        id: DeploymentId,
        /// The new name.
        #[arg(long)]
        name: Option<String>,
        /// The new description.
        #[arg(long, short)]
        description: Option<String>,
        /// All host names from now on; can be repeated.
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// The name of another route map.
        #[arg(long, value_name = "NAME")]
        routes: Option<String>,
        /// When direct-access tokens open it from now on: always, in an outage only, or only once its glass was broken on
        /// the host.
        #[arg(long, value_name = "MODE", value_parser = glass)]
        glass: Option<GlassMode>,
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
    /// List, add, change and delete the environment variables of a deployment.
    #[command(subcommand)]
    Variable(variable::Verb),
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
        #[arg(long, default_value = "ORGANIZATION_MEMBER", value_parser = organization_role)]
        organization_role: OrganizationRole,
        /// A role in a workspace, as ID=ROLE; can be repeated.
        #[arg(long, value_name = "ID=ROLE", value_parser = grant)]
        workspace_role: Vec<WorkspaceGrant>,
    },
    /// List users.
    List,
    /// Show who you are to the control plane, your roles, and what they allow: in the organization, or on one object.
    #[command(name = "self")]
    Caller {
        /// Show what your roles allow in this workspace.
        #[arg(long, value_name = "ID", conflicts_with = "deployment_id")]
        workspace_id: Option<WorkspaceId>,
        /// Show what your roles allow on this deployment.
        #[arg(long, value_name = "ID")]
        deployment_id: Option<DeploymentId>,
    },
    /// Set a user's roles.
    SetRoles {
        /// The user's id.
        id: UserId,
        /// The role in the organization.
        #[arg(long, value_parser = organization_role)]
        organization_role: Option<OrganizationRole>,
        /// All roles in workspaces from now on, as ID=ROLE; can be repeated.
        #[arg(long, value_name = "ID=ROLE", value_parser = grant)]
        workspace_role: Vec<WorkspaceGrant>,
        #[command(flatten)]
        on: OnDeployments,
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

/// Roles of a user or team on deployments and their Dags.
#[derive(Args, Debug)]
pub(super) struct OnDeployments {
    /// All roles on deployments from now on, as ID=ROLE; can be repeated.
    #[arg(long = "deployment-role", value_name = "ID=ROLE", value_parser = on_deployment)]
    deployments: Vec<RoleOnDeployment>,
    /// A role on one Dag, as DEPLOYMENT/DAG=ROLE; can be repeated. Replaces all roles on Dags, with --dag-tag-role.
    #[arg(long = "dag-role", value_name = "DEPLOYMENT/DAG=ROLE", value_parser = on_dag)]
    dags: Vec<RoleOnDags>,
    /// A role on each Dag with a tag, as DEPLOYMENT/TAG=ROLE; can be repeated. Replaces all roles on Dags, with --dag-role.
    #[arg(long = "dag-tag-role", value_name = "DEPLOYMENT/TAG=ROLE", value_parser = on_dag_tag)]
    tags: Vec<RoleOnDags>,
}

impl OnDeployments {
    /// Returns the roles on deployments and those on Dags, each kind only if some are named.
    pub(super) fn split(self) -> (Option<Vec<RoleOnDeployment>>, Option<Vec<RoleOnDags>>) {
        let dags: Vec<_> = self.dags.into_iter().chain(self.tags).collect();
        let some = (!self.deployments.is_empty()).then_some(self.deployments);
        (some, (!dags.is_empty()).then_some(dags))
    }
}

fn on_deployment(text: &str) -> Result<RoleOnDeployment, String> {
    let (deployment, role) = text.split_once('=').ok_or("use ID=ROLE")?;
    Ok(RoleOnDeployment { deployment_id: deployment.to_owned(), role: role.to_owned() })
}

fn on_dag(text: &str) -> Result<RoleOnDags, String> {
    let (deployment_id, dag, role) = on_dags(text)?;
    Ok(RoleOnDags { deployment_id, dag_id: Some(dag), dag_tag: None, role })
}

fn on_dag_tag(text: &str) -> Result<RoleOnDags, String> {
    let (deployment_id, tag, role) = on_dags(text)?;
    Ok(RoleOnDags { deployment_id, dag_id: None, dag_tag: Some(tag), role })
}

/// Splits a deployment's id, a Dag's id or tag, and a role. An id of a deployment has no slash, a role no equals sign.
fn on_dags(text: &str) -> Result<(String, String, String), String> {
    let split = || {
        let (place, role) = text.rsplit_once('=')?;
        let (deployment, dag) = place.split_once('/')?;
        Some((deployment.to_owned(), dag.to_owned(), role.to_owned()))
    };
    split().ok_or_else(|| "put the deployment before a slash, and the role behind an equals sign".to_owned())
}

pub(super) fn grant(text: &str) -> Result<WorkspaceGrant, String> {
    let (workspace, name) = text.split_once('=').ok_or("use ID=ROLE")?;
    let role = WorkspaceRole::parse(name).ok_or_else(|| {
        let roles = WorkspaceRole::ALL.map(WorkspaceRole::as_str);
        format!("{name:?} is no role in a workspace; use one of {}", roles.join(", "))
    })?;
    Ok(WorkspaceGrant { workspace_id: workspace.to_owned(), role })
}

/// Parses the name of a role in the organization.
pub(super) fn organization_role(name: &str) -> Result<OrganizationRole, String> {
    OrganizationRole::parse(name).ok_or_else(|| {
        let roles = OrganizationRole::ALL.map(OrganizationRole::as_str);
        format!("this is no role in an organization; use one of {}", roles.join(", "))
    })
}

fn glass(name: &str) -> Result<GlassMode, String> {
    GlassMode::parse(name).ok_or_else(|| "use always, outage or sealed".into())
}

pub(super) async fn organization(
    verb: OrganizationVerb,
    control: &Control,
    output: Output,
) -> Result<(), Failure> {
    match verb {
        OrganizationVerb::List => {
            let page: OrganizationPage = control.get_at("/v1/organizations").await?;
            output.list(&page.organizations, &NAMED);
        }
        OrganizationVerb::Show { id } => {
            let found: Organization = control.get_at(&format!("/v1/organizations/{id}")).await?;
            output.one(&found, &NAMED);
        }
        OrganizationVerb::Token(verb) => scoped::run(verb, None, control, output).await?,
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
    const SETTING: [Column; 2] =
        [("enabled", "enabled"), ("approval within (hours)", "approvalPeriodInHours")];
    let path = "/dual-control";
    let Some(wanted) = wanted else {
        output.one(&control.get::<DualControl>(path).await?, &SETTING);
        return Ok(());
    };
    let wanted = DualControl { enabled: wanted == "on", approval_period_in_hours: hours };
    match control.post_or_request::<DualControl>(path, &wanted).await? {
        Done::Now(setting) => output.one(&setting, &SETTING),
        Done::Requested(request) => {
            output.one(&request, &[("request", "id"), ("state", "state"), ("until", "expiresAt")]);
            output.say(&format!(
                "another Organization Owner has to approve this: halligan token request approve {}",
                request.id
            ));
        }
    }
    Ok(())
}

pub(super) async fn workspace(verb: WorkspaceVerb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        WorkspaceVerb::Create { name, description } => {
            let new = NewWorkspace { name, description };
            output.one(&control.post::<Workspace>("/workspaces", &new).await?, &WORKSPACE);
        }
        WorkspaceVerb::List => {
            let all = control
                .all("/workspaces", |page: WorkspacePage| (page.workspaces, page.extent.next_cursor))
                .await?;
            output.list(&all, &WORKSPACE);
        }
        WorkspaceVerb::Show { id } => {
            output.one(&control.get::<Workspace>(&format!("/workspaces/{id}")).await?, &WORKSPACE);
        }
        WorkspaceVerb::Update { id, name, description } => {
            if name.is_none() && description.is_none() {
                return Err(Failure::Usage("say what to change: --name or --description".into()));
            }
            let update = WorkspaceUpdate { name, description };
            output.one(&control.post::<Workspace>(&format!("/workspaces/{id}"), &update).await?, &WORKSPACE);
        }
        WorkspaceVerb::Token { workspace_id, verb } => {
            let workspace = workspace_id
                .ok_or_else(|| Failure::Usage("name the workspace with --workspace-id".into()))?;
            scoped::run(verb, Some(workspace), control, output).await?;
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
        DeploymentVerb::Create { name, description, workspace_id, data_plane_id, host, routes, glass } => {
            let new = NewDeployment {
                name,
                description,
                workspace_id: workspace_id.into(),
                data_plane_id: data_plane_id.into(),
                hosts: host,
                routes: Some(routes),
                glass,
            };
            output.one(&control.post::<Deployment>("/deployments", &new).await?, &DEPLOYMENT);
        }
        DeploymentVerb::List => {
            let all = control
                .all("/deployments", |page: DeploymentPage| (page.deployments, page.extent.next_cursor))
                .await?;
            output.list(&all, &DEPLOYMENT);
        }
        DeploymentVerb::Show { id } => {
            output.one(&control.get::<Deployment>(&path(&id)).await?, &DEPLOYMENT);
        }
        DeploymentVerb::Inspect { id, name } => {
            let found = match id {
                Some(id) => control.get(&path(&id)).await?,
                None => by_name(control, &name.unwrap_or_default()).await?,
            };
            Output { json: true }.one::<Deployment>(&found, &[]);
        }
        DeploymentVerb::Update { id, name, description, host, routes, glass } => {
            let hosts = (!host.is_empty()).then_some(host);
            let update =
                DeploymentUpdate { name, description, hosts, routes, glass, ..DeploymentUpdate::default() };
            output.one(&control.post::<Deployment>(&path(&id), &update).await?, &DEPLOYMENT);
        }
        DeploymentVerb::Delete { id, force } => delete(control, output, &path(&id), &id, force).await?,
        DeploymentVerb::Token(verb) => deployment::run(verb, control, output).await?,
        DeploymentVerb::Variable(verb) => variable::run(verb, control, output).await?,
        DeploymentVerb::DagTags(verb) => dag_tags::run(verb, control, output).await?,
    }
    Ok(())
}

/// Finds the only deployment of this name.
pub(super) async fn by_name(control: &Control, name: &str) -> Result<Deployment, Failure> {
    let query = [("names", Some(name.to_owned())), ("limit", Some("1000".to_owned()))];
    let mut found = control.list::<DeploymentPage>("/deployments", &query).await?.deployments;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::Usage(format!(
            "there is no deployment named {name:?}; `halligan deployment list` shows those there are"
        ))),
        _ => {
            let ids: Vec<&str> = found.iter().map(|deployment| &*deployment.id).collect();
            Err(Failure::Usage(format!("{name:?} names {}; use an id", ids.join(" and "))))
        }
    }
}

pub(super) async fn data_plane(
    verb: DataPlaneVerb,
    control: &Control,
    output: Output,
) -> Result<(), Failure> {
    match verb {
        DataPlaneVerb::Create { name } => {
            let made: DataPlane = control.post("/data-planes", &NewDataPlane { name }).await?;
            output.one(&made, &DATA_PLANE);
        }
        DataPlaneVerb::List => {
            let all = control
                .all("/data-planes", |page: DataPlanePage| (page.data_planes, page.extent.next_cursor))
                .await?;
            output.list(&all, &DATA_PLANE);
        }
        DataPlaneVerb::Show { id } => {
            output.one(&control.get::<DataPlane>(&format!("/data-planes/{id}")).await?, &DATA_PLANE);
        }
        DataPlaneVerb::EnrolmentToken { id, expires_in, clean_output } => {
            let path = format!("/data-planes/{id}/enrolment-tokens");
            let new = NewEnrolmentToken { expires_in_seconds: expires_in };
            let made: EnrolmentToken = control.post(&path, &new).await?;
            if clean_output {
                line(&made.enrolment_token);
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
            let new = NewUser { email, organization_role, workspace_roles: workspace_role };
            with_token(&control.post("/users", &new).await?, output);
        }
        UserVerb::List => {
            let all = control.all("/users", |page: UserPage| (page.users, page.extent.next_cursor)).await?;
            output.list(&all, &USER);
        }
        UserVerb::Caller { workspace_id, deployment_id } => {
            let place = match (deployment_id, workspace_id) {
                (Some(id), _) => format!("?deploymentId={id}"),
                (None, Some(id)) => format!("?workspaceId={id}"),
                (None, None) => String::new(),
            };
            let caller: Caller = control.get_at(&format!("/v1/users/self{place}")).await?;
            output.one(&caller, &CALLER);
        }
        UserVerb::SetRoles { id, organization_role, workspace_role, on } => {
            let workspace_roles = (!workspace_role.is_empty()).then_some(workspace_role);
            let (deployment_roles, dag_roles) = on.split();
            let roles = UserRoles { organization_role, workspace_roles, deployment_roles, dag_roles };
            output.one(&control.post::<User>(&format!("/users/{id}/roles"), &roles).await?, &USER);
        }
        UserVerb::RotateToken { id, force } => {
            confirm(&format!("The present token of {id} stops; that"), force)?;
            with_token(&control.order(&format!("/users/{id}/token")).await?, output);
        }
        UserVerb::Delete { id, force } => {
            delete(control, output, &format!("/users/{id}"), &id, force).await?;
        }
    }
    Ok(())
}

fn with_token(made: &UserToken, output: Output) {
    output.one(made, &USER);
    if !output.json {
        line(&format!("\n{}", *made.token));
        note("\nThis is the user's token. It is shown this once.");
    }
}

async fn delete(control: &Control, output: Output, path: &str, id: &str, force: bool) -> Result<(), Failure> {
    confirm(&format!("Deleting {id}"), force)?;
    control.delete(path).await?;
    output.say(&format!("deleted {id}"));
    Ok(())
}
