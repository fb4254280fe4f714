//! `halligan user`: creates, shows and deletes users, and sets their roles.

use clap::Subcommand;

use super::control::Control;
use super::deletion::delete;
use super::failure::Failure;
use super::grants::{OnDeployments, grant, organization_role};
use super::output::{Column, Output, confirm, line, note};
use crate::api::caller::Caller;
use crate::api::id::{DeploymentId, UserId, WorkspaceId};
use crate::api::role::OrganizationRole;
use crate::api::user::{NewUser, User, UserPage, UserRoles, UserToken, WorkspaceGrant};

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
pub(super) enum Verb {
    /// Create a user. The user's token is shown only once.
    Create {
        /// The email address of the user.
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
    /// Show your account at the control plane, your roles, and what they allow: in the organization, or on one object.
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
    /// Give a user a new token, shown only once. The old one becomes invalid.
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

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::Create { email, organization_role, workspace_role } => {
            let new = NewUser { email, organization_role, workspace_roles: workspace_role };
            with_token(&control.post("/users", &new).await?, output);
        }
        Verb::List => {
            let all = control.all("/users", |page: UserPage| (page.users, page.extent.next_cursor)).await?;
            output.list(&all, &USER);
        }
        Verb::Caller { workspace_id, deployment_id } => {
            let place = match (deployment_id, workspace_id) {
                (Some(id), _) => format!("?deploymentId={id}"),
                (None, Some(id)) => format!("?workspaceId={id}"),
                (None, None) => String::new(),
            };
            let caller: Caller = control.get_at(&format!("/v1/users/self{place}")).await?;
            output.one(&caller, &CALLER);
        }
        Verb::SetRoles { id, organization_role, workspace_role, on } => {
            let workspace_roles = (!workspace_role.is_empty()).then_some(workspace_role);
            let (deployment_roles, dag_roles) = on.split();
            let roles = UserRoles { organization_role, workspace_roles, deployment_roles, dag_roles };
            output.one(&control.post::<User>(&format!("/users/{id}/roles"), &roles).await?, &USER);
        }
        Verb::RotateToken { id, force } => {
            confirm(&format!("The present token of {id} stops; that"), force)?;
            with_token(&control.order(&format!("/users/{id}/token")).await?, output);
        }
        Verb::Delete { id, force } => {
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
