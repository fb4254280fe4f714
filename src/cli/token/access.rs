//! `halligan token access`: shows the roles of a token, and changes those that can be changed.

use clap::{Args, Subcommand};
use reqwest::Method;
use reqwest::header::IF_MATCH;

use super::find::{id_of, resolve};
use crate::api::id::{DeploymentId, TokenId, WorkspaceId};
use crate::api::token::{
    Effective, EntityType, NewTokenRole, RolesUpdate, Token, TokenRole, TokenRoles, TokenScope,
};
use crate::cli::control::Control;
use crate::cli::failure::Failure;
use crate::cli::output::{Column, Output, line};
use crate::protocol::permission::PermissionSet;
use crate::protocol::token::{DagTarget, TokenKind};

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Verb {
    /// Show a token's roles, and with --deployment-id all permissions that they give there.
    Show {
        /// The token's id or name.
        token: String,
        /// Show the token's permissions on this deployment.
        #[arg(long, value_name = "ID")]
        deployment_id: Option<DeploymentId>,
    },
    /// Give a standard token another role: in its own scope, on a deployment, or for a token of the organization in a
    /// workspace.
    SetRole {
        /// The token's id or name.
        token: String,
        /// The role.
        #[arg(long, short)]
        role: String,
        /// The deployment.
        #[arg(long, value_name = "ID", conflicts_with = "workspace_id")]
        deployment_id: Option<DeploymentId>,
        /// The workspace.
        #[arg(long, value_name = "ID")]
        workspace_id: Option<WorkspaceId>,
    },
    /// Remove the role in a workspace from a token of the organization.
    RemoveWorkspaceRole {
        /// The token's id or name.
        token: String,
        /// The workspace.
        #[arg(long, value_name = "ID")]
        workspace_id: WorkspaceId,
    },
    /// Give a standard token a role on a Dag, or on every Dag with a tag.
    AddDagRole {
        /// The token's id or name.
        token: String,
        #[command(flatten)]
        on: OnDags,
        /// The role.
        #[arg(long, short)]
        role: String,
    },
    /// Remove a role on a Dag or a tag from a standard token.
    RemoveDagRole {
        /// The token's id or name.
        token: String,
        #[command(flatten)]
        on: OnDags,
    },
}

/// Dags that a role is on.
#[derive(Args, Debug)]
pub(in crate::cli) struct OnDags {
    /// The Dag with this id.
    #[arg(long, value_name = "ID", required_unless_present = "dag_tag", conflicts_with = "dag_tag")]
    dag: Option<String>,
    /// Every Dag with this tag.
    #[arg(long, value_name = "TAG")]
    dag_tag: Option<String>,
    /// The deployment. It may be omitted for a deployment's own token.
    #[arg(long, value_name = "ID")]
    deployment_id: Option<DeploymentId>,
}

const ROLES: [Column; 6] = [
    ("ON", "entityType"),
    ("WHICH", "entityId"),
    ("DEPLOYMENT", "deploymentId"),
    ("ROLE", "role"),
    ("VERSION", "roleVersion"),
    ("NEWEST", "newest"),
];

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::Show { token, deployment_id: None } => {
            show(&resolve(control, &token).await?, output);
        }
        Verb::Show { token, deployment_id: Some(deployment) } => {
            let id = resolve(control, &token).await?.id;
            allowed(
                &control.get(&format!("/deployments/{deployment}/tokens/{id}/permissions")).await?,
                output,
            );
        }
        Verb::SetRole { token, role, deployment_id, workspace_id } => {
            let id = id_of(control, &token).await?;
            let on = match (&deployment_id, &workspace_id) {
                (Some(id), _) => Some((EntityType::Deployment, &**id)),
                (None, Some(id)) => Some((EntityType::Workspace, &**id)),
                (None, None) => None,
            };
            show(&set_role(control, &id, &role, on).await?, output);
        }
        Verb::RemoveWorkspaceRole { token, workspace_id } => {
            let id = id_of(control, &token).await?;
            let edited = edit(control, &id, |token| {
                let gone = |role: &TokenRole| {
                    role.entity_type == EntityType::Workspace && role.entity_id == *workspace_id
                };
                if !token.roles.iter().any(gone) {
                    return Err(Failure::Usage(format!("the token has no role in {workspace_id}")));
                }
                Ok(token.roles.iter().filter(|role| !gone(role)).cloned().map(Into::into).collect())
            });
            show(&edited.await?, output);
        }
        Verb::AddDagRole { token, on, role } => {
            let id = id_of(control, &token).await?;
            let edited = edit(control, &id, |token| {
                let (mut roles, on) = without(token, &on);
                roles.push(NewTokenRole { role: role.clone(), ..on });
                Ok(roles)
            });
            show(&edited.await?, output);
        }
        Verb::RemoveDagRole { token, on } => {
            let id = id_of(control, &token).await?;
            let edited = edit(control, &id, |token| {
                let (roles, on) = without(token, &on);
                // The roles of a direct-access token cannot be changed; the control plane's error explains that better.
                if token.kind == TokenKind::Standard && roles.len() == token.roles.len() {
                    return Err(Failure::Usage(format!("the token has no role on {} there", on.entity_id)));
                }
                Ok(roles)
            });
            show(&edited.await?, output);
        }
    }
    Ok(())
}

/// Gives a token another role in its own scope, or on the deployment or workspace `on`.
pub(super) async fn set_role(
    control: &Control,
    id: &TokenId,
    role: &str,
    on: Option<(EntityType, &str)>,
) -> Result<Token, Failure> {
    edit(control, id, |token| {
        let mut roles: Vec<NewTokenRole> = token.roles.iter().cloned().map(Into::into).collect();
        let place = roles.iter_mut().find(|present| match on {
            Some(on) => (present.entity_type, &*present.entity_id) == on,
            None => present.entity_type == EntityType::from(token.scope),
        });
        match (place, on) {
            (Some(present), _) => role.clone_into(&mut present.role),
            (None, Some((entity_type, entity_id))) => roles.push(NewTokenRole {
                entity_type,
                entity_id: entity_id.to_owned(),
                deployment_id: None,
                role: role.to_owned(),
            }),
            (None, None) => {
                let detail = "you may not see the token's role in its own scope; name a --deployment-id or --workspace-id";
                return Err(Failure::Usage(detail.into()));
            }
        }
        Ok(roles)
    })
    .await
}

/// Reads a token's roles and replaces them by the result of `change`. If another change comes first, reads the new
/// roles and tries again.
async fn edit(
    control: &Control,
    id: &TokenId,
    change: impl Fn(&Token) -> Result<Vec<NewTokenRole>, Failure>,
) -> Result<Token, Failure> {
    let path = format!("/tokens/{id}");
    let mut tries = 20;
    loop {
        let (token, tag) = control.receive(control.in_organization(Method::GET, &path).await?).await?;
        let body = RolesUpdate { roles: change(&token)? };
        let mut request = control.in_organization(Method::POST, &format!("{path}/roles")).await?.json(&body);
        if let Some(tag) = tag {
            request = request.header(IF_MATCH, tag);
        }
        tries -= 1;
        match control.send::<TokenRoles>(request).await {
            Err(Failure::Refused { status: 412, .. }) if tries > 0 => {}
            answer => return answer.map(|changed| changed.token),
        }
    }
}

/// Returns a token's roles without the one on these Dags, and a role on these Dags whose name is not set.
fn without(token: &Token, on: &OnDags) -> (Vec<NewTokenRole>, NewTokenRole) {
    let (entity_type, entity_id) = match (&on.dag, &on.dag_tag) {
        (Some(dag), _) => (EntityType::Dag, dag.clone()),
        (None, tag) => (EntityType::DagTag, tag.clone().unwrap_or_default()),
    };
    let own = token
        .roles
        .iter()
        .find(|role| token.scope == TokenScope::Deployment && role.entity_type == EntityType::Deployment);
    let deployment_id = on.deployment_id.as_deref().or(own.map(|role| &*role.entity_id)).map(str::to_owned);
    let on = NewTokenRole { entity_type, entity_id, deployment_id, role: String::new() };
    let same = |role: &&TokenRole| {
        role.entity_type == on.entity_type
            && role.entity_id == on.entity_id
            && role.deployment_id == on.deployment_id
    };
    let roles = token.roles.iter().filter(|role| !same(role)).cloned().map(Into::into).collect();
    (roles, on)
}

fn show(token: &Token, output: Output) {
    if output.json {
        return output.one(token, &[]);
    }
    output.list(&token.roles, &ROLES);
    super::explain(token);
}

fn allowed(found: &Effective, output: Output) {
    if output.json {
        return output.one(found, &[]);
    }
    let names = |permissions: PermissionSet| -> Vec<String> {
        permissions.iter().map(|name| format!("  {name}")).collect()
    };
    line("on the whole deployment:");
    let whole = names(found.permissions);
    line(&if whole.is_empty() { "  nothing".into() } else { whole.join("\n") });
    for on in &found.dags {
        match &on.target {
            DagTarget::Dag(dag) => line(&format!("on the Dag {dag} also:")),
            DagTarget::Tag(tag) => line(&format!("on every Dag with the tag {tag} also:")),
        }
        line(&names(on.permissions).join("\n"));
    }
}
