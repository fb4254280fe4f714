//! `halligan deployment token`: manages the tokens of a deployment, and those of its organization and workspace that
//! are assigned to it.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Changed, Create, LIST, ONE, access, delete, resolve, rotate};
use crate::cli::control::Control;
use crate::cli::failure::Failure;
use crate::cli::id::{self, Deployment, Id};
use crate::cli::output::{Column, Output};

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Verb {
    /// List the tokens that have a role on the deployment.
    List(On),
    /// Create a token of the deployment and show its value, once.
    #[command(after_help = "Examples:
  TOKEN=$(halligan deployment token create --deployment-id dep_… -n ci -e 90 -c)
  halligan deployment token create --deployment-id dep_… -n oncall --direct-access -e 30")]
    Create(Create),
    /// Change a token of the deployment: its name, its description, its role.
    Update {
        /// The token's id or name.
        token: String,
        #[command(flatten)]
        on: MaybeOn,
        #[command(flatten)]
        changed: Changed,
        /// Its role on the deployment from now on.
        #[arg(long, short)]
        role: Option<String>,
    },
    /// Give a token of the deployment a new value, shown once. The old value stops.
    Rotate {
        /// The token's id or name.
        token: String,
        #[command(flatten)]
        on: MaybeOn,
        /// Don't ask.
        #[arg(long, short, visible_alias = "yes")]
        force: bool,
        /// Print the value alone, for scripts.
        #[arg(long, short)]
        clean_output: bool,
    },
    /// Delete a token of the deployment for good.
    Delete {
        /// The token's id or name.
        token: String,
        #[command(flatten)]
        on: MaybeOn,
        /// Don't ask.
        #[arg(long, short, visible_alias = "yes")]
        force: bool,
    },
    /// Let tokens of the organization work on the deployment.
    #[command(subcommand)]
    OrganizationToken(Assigned),
    /// Let tokens of the workspace work on the deployment.
    #[command(subcommand)]
    WorkspaceToken(Assigned),
}

/// A token that belongs elsewhere, on this deployment.
#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Assigned {
    /// Assign a token to the deployment. It stays the same token.
    Add {
        /// The token's id or name.
        token: String,
        #[command(flatten)]
        on: On,
        /// Its role on the deployment.
        #[arg(long, short, default_value = "DEPLOYMENT_ADMIN")]
        role: String,
    },
    /// List those assigned to the deployment.
    List(On),
    /// Give an assigned token another role on the deployment.
    Update {
        /// The token's id or name.
        token: String,
        #[command(flatten)]
        on: On,
        /// Its role on the deployment from now on.
        #[arg(long, short)]
        role: String,
    },
    /// Take a token off the deployment. Elsewhere it goes on living.
    Remove {
        /// The token's id or name.
        token: String,
        #[command(flatten)]
        on: On,
    },
}

/// The deployment.
#[derive(Args, Debug)]
pub(in crate::cli) struct On {
    /// The deployment's id.
    #[arg(long, value_name = "ID")]
    deployment_id: Id<Deployment>,
}

/// The deployment, for who names the token by its name.
#[derive(Args, Debug)]
pub(in crate::cli) struct MaybeOn {
    /// The deployment's id; needed when the token is named by its name and another deployment has one of that name.
    #[arg(long, value_name = "ID")]
    deployment_id: Option<Id<Deployment>>,
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
        Verb::Update { token, on, changed, role } => {
            let token = own(control, &token, &on).await?;
            if changed.is_empty() && role.is_none() {
                let detail = "say what to change: --name, --description or --role";
                return Err(Failure::Usage(detail.into()));
            }
            // The role comes first: for a direct-access token this fails, and then nothing is changed.
            let id = token["id"].as_str().unwrap_or_default();
            if let Some(role) = role {
                access::set_role(control, id, &role, None).await?;
            }
            let path = format!("/tokens/{id}");
            let shown = if changed.is_empty() {
                control.organization_call(Method::GET, &path, None).await?
            } else {
                control.organization_call(Method::POST, &path, Some(changed.body())).await?
            };
            output.one(&shown, &ONE);
        }
        Verb::Rotate { token, on, force, clean_output } => {
            rotate(control, &own(control, &token, &on).await?, force, clean_output, output).await?;
        }
        Verb::Delete { token, on, force } => {
            delete(control, &own(control, &token, &on).await?, force, output).await?;
        }
        Verb::OrganizationToken(verb) => assigned(verb, "ORGANIZATION", control, output).await?,
        Verb::WorkspaceToken(verb) => assigned(verb, "WORKSPACE", control, output).await?,
    }
    Ok(())
}

async fn assigned(verb: Assigned, kind: &str, control: &Control, output: Output) -> Result<(), Failure> {
    let path = |on: &On| format!("/deployments/{}/tokens", on.deployment_id);
    match verb {
        Assigned::Add { token, on, role } => {
            let token = id_of(control, &token, kind).await?;
            let body = Some(json!({ "tokenId": token, "role": role }));
            output.one(&control.organization_call(Method::POST, &path(&on), body).await?, &ONE);
        }
        Assigned::List(on) => list(control, &on, Some(kind), output).await?,
        Assigned::Update { token, on, role } => {
            let token = id_of(control, &token, kind).await?;
            let path = format!("{}/{token}", path(&on));
            let body = Some(json!({ "role": role }));
            output.one(&control.organization_call(Method::POST, &path, body).await?, &ONE);
        }
        Assigned::Remove { token, on } => {
            let token = id_of(control, &token, kind).await?;
            let path = format!("{}/{token}", path(&on));
            control.organization_call(Method::DELETE, &path, None).await?;
            output.say(&format!("took {token} off {}; elsewhere it goes on living", on.deployment_id));
        }
    }
    Ok(())
}

async fn list(control: &Control, on: &On, kind: Option<&str>, output: Output) -> Result<(), Failure> {
    let path = format!("/deployments/{}/tokens?limit=1000", on.deployment_id);
    let mut page = control.organization_call(Method::GET, &path, None).await?;
    if let Some(kind) = kind {
        let mut tokens = page["tokens"].as_array().cloned().unwrap_or_default();
        tokens.retain(|token| token["type"] == kind);
        for roles in tokens.iter_mut().filter_map(|token| token["roles"].as_array_mut()) {
            roles.retain(|role| {
                role["entityId"] == *on.deployment_id || role["deploymentId"] == *on.deployment_id
            });
        }
        page["totalCount"] = tokens.len().into();
        page["tokens"] = tokens.into();
    }
    if output.json {
        output.one(&page, &[]);
    } else {
        output.list(&page["tokens"], if kind.is_some() { &ASSIGNED } else { &LIST });
    }
    Ok(())
}

/// Returns the id of a token to assign. A token given by its id need not be visible to the caller.
async fn id_of(control: &Control, token: &str, kind: &str) -> Result<String, Failure> {
    if let Some(id) = id::token(token)? {
        return Ok(id.to_string());
    }
    let token = resolve(control, token).await?;
    if token["type"] != kind {
        let (name, scope) = (&token["name"], kind.to_lowercase());
        return Err(Failure::Usage(format!("{name} is no token of the {scope}")));
    }
    Ok(token["id"].as_str().unwrap_or_default().to_owned())
}

/// Returns a deployment's own token. A token that is only assigned to it is managed where it belongs.
async fn own(control: &Control, token: &str, on: &MaybeOn) -> Result<Value, Failure> {
    let found = super::resolve_on(control, token, on.deployment_id.as_deref()).await?;
    if found["type"] != "DEPLOYMENT" {
        let scope = found["type"].as_str().unwrap_or_default().to_lowercase();
        return Err(Failure::Usage(format!(
            "{token} belongs to the {scope}; update, rotate and delete it with `halligan token`, there it counts everywhere"
        )));
    }
    Ok(found)
}
