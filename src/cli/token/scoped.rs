//! `halligan organization token` and `halligan workspace token`: manage the tokens of the organization or of a workspace.

use clap::{Args, Subcommand};

use super::arguments::{Update, Which};
use super::find::resolve_among;
use super::{LIST, ONE, access, delete, rotate, with_value};
use crate::api::id::WorkspaceId;
use crate::api::token::{NewToken, Token, TokenPage, TokenScope};
use crate::cli::control::Control;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::protocol::token::TokenKind;

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Verb {
    /// Create a token. Its value is shown only once.
    Create(Create),
    /// List the tokens.
    List,
    /// Change the name, description or role of a token.
    Update {
        #[command(flatten)]
        update: Update,
        /// The new role.
        #[arg(long, short)]
        role: Option<String>,
    },
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
}

/// New token of the organization or workspace.
#[derive(Args, Debug)]
pub(in crate::cli) struct Create {
    /// The name of the token.
    #[arg(long, short)]
    name: String,
    /// Purpose of the token.
    #[arg(long, short, default_value = "")]
    description: String,
    /// The role of the token there.
    #[arg(long, short)]
    role: String,
    /// Days until it expires, 1 to 3650.
    #[arg(long, short, value_name = "DAYS")]
    expiration: Option<i64>,
    /// Print the value alone, for scripts.
    #[arg(long, short)]
    clean_output: bool,
}

/// Carries out a command on the tokens of the organization, or of `workspace`.
pub(in crate::cli) async fn run(
    verb: Verb,
    workspace: Option<WorkspaceId>,
    control: &Control,
    output: Output,
) -> Result<(), Failure> {
    let scope = if workspace.is_some() { TokenScope::Workspace } else { TokenScope::Organization };
    let entity = workspace.map(String::from);
    let among = [("scope", Some(scope.as_str().to_owned())), ("entityId", entity.clone())];
    match verb {
        Verb::Create(new) => {
            let token = NewToken {
                name: new.name,
                description: new.description,
                scope,
                kind: TokenKind::Standard,
                entity_id: entity,
                role: Some(new.role),
                roles: Vec::new(),
                token_expiry_period_in_days: new.expiration,
                sources: Vec::new(),
                rate_limit_per_minute: None,
            };
            with_value(&control.post("/tokens", &token).await?, new.clean_output, output)?;
        }
        Verb::List => {
            let mut query = vec![("limit", Some("1000".to_owned()))];
            query.extend(among);
            output.page(&control.list::<TokenPage>("/tokens", &query).await?, "tokens", &LIST);
        }
        Verb::Update { update, role } => {
            let (token, changed) = update.split()?;
            if changed.is_empty() && role.is_none() {
                let detail = "say what to change: --new-name, --description or --role";
                return Err(Failure::Usage(detail.into()));
            }
            let id = resolve_among(control, &token, &among).await?.id;
            if let Some(role) = role {
                access::set_role(control, &id, &role, None).await?;
            }
            let path = format!("/tokens/{id}");
            let shown: Token = if changed.is_empty() {
                control.get(&path).await?
            } else {
                control.post(&path, &changed.body()).await?
            };
            output.one(&shown, &ONE);
        }
        Verb::Rotate { token, force, clean_output } => {
            let token = resolve_among(control, token.as_str(), &among).await?;
            rotate(control, &token, force, clean_output, output).await?;
        }
        Verb::Delete { token, force } => {
            delete(control, &resolve_among(control, token.as_str(), &among).await?, force, output).await?;
        }
    }
    Ok(())
}
