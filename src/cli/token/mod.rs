//! `halligan token`: creates, lists, changes, rotates and deletes API tokens.

mod access;
mod arguments;
pub(super) mod deployment;
mod find;
mod request;
pub(super) mod scoped;

use clap::Subcommand;

use self::arguments::{Create, List, Update, Which};
use self::find::{id_of, resolve};
use super::control::{Control, Done};
use super::failure::Failure;
use super::output::{Column, Output, confirm, confirm_name, line, note};
use crate::api::token::{Token, TokenPage};
use crate::protocol::permission::PermissionSet;

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Create a token. Its value is shown only once.
    #[command(after_help = "Examples:
  halligan token create -n oncall --deployment-id dep_… --direct-access -e 30
  halligan token create -n etl --deployment-id dep_… --direct-access -e 30 -r DEPLOYMENT_ACCESSOR --dag-tag finance=DAG_AUTHOR
  TOKEN=$(halligan token create -n ci --workspace-id wsp_… -r WORKSPACE_AUTHOR -c)")]
    Create(Create),
    /// List tokens.
    List(List),
    /// Show a token.
    Show(Which),
    /// Change a token's name or description.
    Update(Update),
    /// Give a token a new value, shown only once. The old value becomes invalid.
    Rotate {
        #[command(flatten)]
        token: Which,
        /// Don't ask.
        #[arg(long, short, visible_alias = "yes")]
        force: bool,
        /// Print the value alone, for scripts.
        #[arg(long, short)]
        clean_output: bool,
    },
    /// Delete a token permanently.
    Delete {
        #[command(flatten)]
        token: Which,
        /// Don't ask.
        #[arg(long, short, visible_alias = "yes")]
        force: bool,
    },
    /// Show and change the roles of a token.
    #[command(subcommand)]
    Access(access::Verb),
    /// Approve, reject and collect tokens that need a second owner.
    #[command(subcommand)]
    Request(request::Verb),
}

const LIST: [Column; 7] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("KIND", "kind"),
    ("ROLES", "roles"),
    ("EXPIRES", "endAt"),
    ("ROTATED", "lastRotatedAt"),
    ("ENDS IN", "shortToken"),
];

const ONE: [Column; 18] = [
    ("id", "id"),
    ("name", "name"),
    ("description", "description"),
    ("scope", "scope"),
    ("kind", "kind"),
    ("roles", "roles"),
    ("from", "sources"),
    ("uses a minute", "rateLimitPerMinute"),
    ("valid from", "startAt"),
    ("expires", "endAt"),
    ("created", "createdAt"),
    ("by", "createdBy"),
    ("changed", "updatedAt"),
    ("by", "updatedBy"),
    ("rotated", "lastRotatedAt"),
    ("last used", "lastUsedAt"),
    ("used on", "lastUsedOn"),
    ("ends in", "shortToken"),
];

pub(super) async fn run(verb: Verb, control: &Control, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::Create(new) => create(new, control, output).await?,
        Verb::List(list) => {
            let word = |word: Option<String>| word.map(|word| word.to_uppercase().replace('-', "_"));
            let query = [
                ("scope", word(list.scope)),
                ("kind", word(list.kind)),
                ("deploymentId", list.deployment_id.map(|id| id.to_string())),
                ("workspaceId", list.workspace_id.map(|id| id.to_string())),
                ("createdBy", list.created_by),
                ("search", list.search),
                ("sorts", Some(list.sort)),
                ("offset", Some(list.offset.to_string())),
                ("cursor", list.cursor),
                ("limit", Some(list.limit.to_string())),
            ];
            output.page(&control.list::<TokenPage>("/tokens", &query).await?, "tokens", &LIST);
        }
        Verb::Show(token) => {
            let token = resolve(control, token.as_str()).await?;
            output.one(&token, &ONE);
            if !output.json {
                explain(&token);
            }
        }
        Verb::Update(update) => {
            let (token, changed) = update.split()?;
            if changed.is_empty() {
                return Err(Failure::Usage("say what to change: --new-name or --description".into()));
            }
            let path = format!("/tokens/{}", id_of(control, &token).await?);
            output.one(&control.post::<Token>(&path, &changed.body()).await?, &ONE);
        }
        Verb::Rotate { token, force, clean_output } => {
            rotate(control, &resolve(control, token.as_str()).await?, force, clean_output, output).await?;
        }
        Verb::Delete { token, force } => {
            delete(control, &resolve(control, token.as_str()).await?, force, output).await?;
        }
        Verb::Access(verb) => access::run(verb, control, output).await?,
        Verb::Request(verb) => request::run(verb, control, output).await?,
    }
    Ok(())
}

async fn create(new: Create, control: &Control, output: Output) -> Result<(), Failure> {
    let clean = new.clean_output;
    value_or_request(control.post_or_request("/tokens", &new.body()).await?, clean, output)
}

/// Prints a token with its value, or the request that another owner has to approve first.
fn value_or_request(done: Done<Token>, clean: bool, output: Output) -> Result<(), Failure> {
    match done {
        Done::Now(made) => with_value(&made, clean, output),
        Done::Requested(request) => {
            let id = &request.id;
            let detail = format!(
                "another Organization Owner has to approve this: halligan token request approve {id}; then collect it: halligan token request collect {id}"
            );
            if clean {
                // A script that waits for a value must not continue without one.
                return Err(Failure::Pending(detail));
            }
            output.one(&request, &request::ONE);
            output.say(&detail);
            Ok(())
        }
    }
}

async fn rotate(
    control: &Control,
    token: &Token,
    force: bool,
    clean: bool,
    output: Output,
) -> Result<(), Failure> {
    let Token { id, name, .. } = token;
    confirm(&format!("The present value of {name} ({id}) stops; that"), force)?;
    value_or_request(control.order_or_request(&format!("/tokens/{id}/rotate")).await?, clean, output)
}

async fn delete(control: &Control, token: &Token, force: bool, output: Output) -> Result<(), Failure> {
    let Token { id, name, .. } = token;
    confirm_name(&format!("Deleting {name} ({id})"), &last_use(token), name, force)?;
    control.delete(&format!("/tokens/{id}")).await?;
    output.say(&format!("deleted {name} ({id})"));
    Ok(())
}

/// Describes the last use of a token, so that whoever deletes it knows what stops working.
fn last_use(token: &Token) -> String {
    let when = token.last_used_at.map(|at| at.time().rfc3339());
    match (when, &token.last_used_on) {
        (Some(when), Some(on)) => format!("It was last used at {when}, on {on}."),
        (Some(when), None) => format!("It was last used at {when}."),
        (None, _) => "As far as is known, it was never used.".into(),
    }
}

/// Prints which roles of a token are not at their newest version.
fn explain(token: &Token) {
    for role in &token.roles {
        let (Some(newest), Some(version)) = (&role.newest, role.role_version) else { continue };
        let (added, removed) = (newest.added, newest.removed);
        let count = |permissions: PermissionSet| {
            format!("{} permission{}", permissions.len(), if permissions.len() == 1 { "" } else { "s" })
        };
        line(&format!(
            "\nThis token stays with {}@{version}; the newest version, {}, adds {} and takes away {}.",
            role.role,
            newest.version,
            count(added),
            count(removed)
        ));
        for (sign, permissions) in [('+', added), ('-', removed)] {
            for permission in permissions.iter() {
                line(&format!("  {sign} {permission}"));
            }
        }
    }
}

/// Prints a token with its value, which is shown only this once.
fn with_value(made: &Token, clean: bool, output: Output) -> Result<(), Failure> {
    let Some(value) = &made.token else {
        return Err(Failure::Lacks { what: "the control plane".into(), member: "token".into() });
    };
    if clean {
        line(value);
        return Ok(());
    }
    output.one(made, &ONE);
    if !output.json {
        line(&format!("\n{}\n", **value));
        note("This is the token. It is shown this once; keep it in a vault.");
    }
    Ok(())
}
