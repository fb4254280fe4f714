//! `halligan deployment token`: manages the tokens of a deployment, and those of its organization and workspace that
//! are assigned to it.

use clap::{Args, Subcommand};

use super::arguments::{Create, Update, Which};
use super::find::{resolve_in, resolve_on};
use super::{LIST, ONE, access, delete, rotate};
use crate::api::id::{DeploymentId, TokenId};
use crate::api::token::{Assignment, NewAssignment, Token, TokenPage, TokenScope};
use crate::cli::control::Control;
use crate::cli::failure::Failure;
use crate::cli::id;
use crate::cli::output::{Column, Output};

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Verb {
    /// List the tokens that have a role on the deployment.
    List(DeploymentOption),
    /// Create a token of the deployment. Its value is shown only once.
    #[command(after_help = "Examples:
  TOKEN=$(halligan deployment token create --deployment-id dep_… -n ci -e 90 -c)
  halligan deployment token create --deployment-id dep_… -n oncall --direct-access -e 30")]
    Create(Create),
    /// Change the name, description or role of a token of the deployment.
    Update {
        #[command(flatten)]
        update: Update,
        #[command(flatten)]
        on: MaybeOn,
        /// The new role on the deployment.
        #[arg(long, short)]
        role: Option<String>,
    },
    /// Give a token of the deployment a new value, shown only once. The old value becomes invalid.
    Rotate {
        #[command(flatten)]
        token: Which,
        #[command(flatten)]
        on: MaybeOn,
        /// Don't ask.
        #[arg(long, short, visible_alias = "yes")]
        force: bool,
        /// Print the value alone, for scripts.
        #[arg(long, short)]
        clean_output: bool,
    },
    /// Delete a token of the deployment permanently.
    Delete {
        #[command(flatten)]
        token: Which,
        #[command(flatten)]
        on: MaybeOn,
        /// Don't ask.
        #[arg(long, short, visible_alias = "yes")]
        force: bool,
    },
    /// Manage the organization's tokens that are assigned to the deployment.
    #[command(subcommand)]
    OrganizationToken(Assigned),
    /// Manage the workspace's tokens that are assigned to the deployment.
    #[command(subcommand)]
    WorkspaceToken(Assigned),
}

/// A token that belongs elsewhere, on this deployment.
#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Assigned {
    /// Assign a token to the deployment. It stays the same token.
    Add {
        #[command(flatten)]
        token: Elsewhere,
        #[command(flatten)]
        on: DeploymentOption,
        /// The role of the token on the deployment.
        #[arg(long, short, default_value = "DEPLOYMENT_ADMIN")]
        role: String,
    },
    /// List the tokens that are assigned to the deployment.
    List(DeploymentOption),
    /// Give an assigned token another role on the deployment.
    Update {
        #[command(flatten)]
        token: Elsewhere,
        #[command(flatten)]
        on: DeploymentOption,
        /// The new role on the deployment.
        #[arg(long, short)]
        role: String,
    },
    /// Remove a token's assignment to the deployment. The token stays valid elsewhere.
    Remove {
        #[command(flatten)]
        token: Elsewhere,
        #[command(flatten)]
        on: DeploymentOption,
    },
}

/// The deployment.
#[derive(Args, Debug)]
pub(in crate::cli) struct DeploymentOption {
    /// The deployment's id.
    #[arg(long, value_name = "ID")]
    deployment_id: DeploymentId,
}

/// Token of the organization or workspace.
#[derive(Args, Debug)]
pub(in crate::cli) struct Elsewhere {
    /// The token's id or name.
    #[arg(required_unless_present = "token_name", conflicts_with = "token_name")]
    token: Option<String>,
    /// The token's name, in place of the first word.
    #[arg(long = "token-name", visible_aliases = ["org-token-name", "workspace-token-name"], value_name = "NAME")]
    token_name: Option<String>,
}

impl Elsewhere {
    /// Returns the id or name. One of them is there.
    fn as_str(&self) -> &str {
        self.token.as_deref().or(self.token_name.as_deref()).unwrap_or_default()
    }
}

/// Deployment in which a token's name is looked up.
#[derive(Args, Debug)]
pub(in crate::cli) struct MaybeOn {
    /// The deployment's id; needed if several deployments have a token of this name.
    #[arg(long, value_name = "ID")]
    deployment_id: Option<DeploymentId>,
}

const ASSIGNED: [Column; 4] = [("ID", "id"), ("NAME", "name"), ("ROLES HERE", "roles"), ("EXPIRES", "endAt")];

pub(in crate::cli) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::List(on) => list(control, &on, None, output).await?,
        Verb::Create(create) => {
            if create.deployment_id.is_none() {
                return Err(Failure::Usage("name the deployment with --deployment-id".into()));
            }
            super::create(create, control, output).await?;
        }
        Verb::Update { update, on, role } => {
            let (token, changed) = update.split()?;
            let token = own(control, &token, &on).await?;
            if changed.is_empty() && role.is_none() {
                let detail = "say what to change: --new-name, --description or --role";
                return Err(Failure::Usage(detail.into()));
            }
            // The role comes first: for a direct-access token this fails, and then nothing is changed.
            if let Some(role) = role {
                access::set_role(control, &token.id, &role, None).await?;
            }
            let path = format!("/tokens/{}", token.id);
            let shown: Token = if changed.is_empty() {
                control.get(&path).await?
            } else {
                control.post(&path, &changed.body()).await?
            };
            output.one(&shown, &ONE);
        }
        Verb::Rotate { token, on, force, clean_output } => {
            rotate(control, &own(control, token.as_str(), &on).await?, force, clean_output, output).await?;
        }
        Verb::Delete { token, on, force } => {
            delete(control, &own(control, token.as_str(), &on).await?, force, output).await?;
        }
        Verb::OrganizationToken(verb) => assigned(verb, TokenScope::Organization, control, output).await?,
        Verb::WorkspaceToken(verb) => assigned(verb, TokenScope::Workspace, control, output).await?,
    }
    Ok(())
}

async fn assigned(
    verb: Assigned,
    scope: TokenScope,
    control: &Control,
    output: Output,
) -> Result<(), Failure> {
    let path = |on: &DeploymentOption| format!("/deployments/{}/tokens", on.deployment_id);
    match verb {
        Assigned::Add { token, on, role } => {
            let new = NewAssignment { token_id: id_of(control, token.as_str(), scope).await?.into(), role };
            output.one(&control.post::<Token>(&path(&on), &new).await?, &ONE);
        }
        Assigned::List(on) => list(control, &on, Some(scope), output).await?,
        Assigned::Update { token, on, role } => {
            let path = format!("{}/{}", path(&on), id_of(control, token.as_str(), scope).await?);
            output.one(&control.post::<Token>(&path, &Assignment { role }).await?, &ONE);
        }
        Assigned::Remove { token, on } => {
            let token = id_of(control, token.as_str(), scope).await?;
            control.delete(&format!("{}/{token}", path(&on))).await?;
            output.say(&format!("took {token} off {}; elsewhere it goes on living", on.deployment_id));
        }
    }
    Ok(())
}

async fn list(
    control: &Control,
    on: &DeploymentOption,
    scope: Option<TokenScope>,
    output: Output,
) -> Result<(), Failure> {
    let deployment = &*on.deployment_id;
    let path = format!("/deployments/{deployment}/tokens");
    let mut page: TokenPage = control.list(&path, &[("limit", Some("1000".into()))]).await?;
    if let Some(scope) = scope {
        page.tokens.retain(|token| token.scope == scope);
        for token in &mut page.tokens {
            token.roles.retain(|role| {
                role.entity_id == deployment || role.deployment_id.as_deref() == Some(deployment)
            });
        }
        page.extent.total_count = page.tokens.len() as u64;
    }
    if output.json {
        output.one(&page, &[]);
    } else {
        output.list(&page.tokens, if scope.is_some() { &ASSIGNED } else { &LIST });
    }
    Ok(())
}

/// Returns the id of a token to assign. A token given by its id need not be visible to the caller. One given by its name
/// is found among the organization's tokens, whose names those who may assign tokens can list.
async fn id_of(control: &Control, token: &str, scope: TokenScope) -> Result<TokenId, Failure> {
    if let Some(id) = id::token(token)? {
        return Ok(id);
    }
    let token = resolve_in(control, token, scope).await?;
    if token.scope != scope {
        let (name, scope) = (&token.name, scope.as_str().to_lowercase());
        return Err(Failure::Usage(format!("{name} is no token of the {scope}")));
    }
    Ok(token.id)
}

/// Returns a deployment's own token. A token that is only assigned to it is managed where it belongs.
async fn own(control: &Control, token: &str, on: &MaybeOn) -> Result<Token, Failure> {
    let found = resolve_on(control, token, on.deployment_id.as_deref()).await?;
    if found.scope != TokenScope::Deployment {
        let scope = found.scope.as_str().to_lowercase();
        return Err(Failure::Usage(format!(
            "{token} belongs to the {scope}; update, rotate and delete it with `halligan token`, there it counts everywhere"
        )));
    }
    Ok(found)
}
