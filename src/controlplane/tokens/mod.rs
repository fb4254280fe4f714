//! API tokens as they are stored and shown. Each operation on tokens has a file of its own.

mod assignments;
pub mod authentication;
mod create;
mod delete;
pub mod dual_control;
pub(super) mod effective;
mod grants;
pub mod introspection;
mod issue;
mod list;
mod repeat;
mod revoke;
mod roles;
mod rotate;
mod update;

pub use assignments::{Assignment, NewAssignment};
pub use create::NewToken;
pub use effective::{Effective, OnDags};
pub use grants::{EntityType, NewTokenRole, NewerRole, TokenRole};
pub use list::{TokenFilter, TokenPage, TokenSort};
pub use roles::RolesUpdate;
pub use update::TokenUpdate;

use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use self::grants::{Grant, besides};
use super::error::Error;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::precondition::{IfMatch, entity_tag};
use crate::protocol::time::Time;
use crate::protocol::token::TokenKind;

/// Kind of object that a token's main role is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TokenType {
    /// The organization as a whole.
    Organization,
    /// A workspace of the organization.
    Workspace,
    /// A deployment of a workspace.
    Deployment,
}

/// API token, as the API shows it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Id of the token.
    pub id: String,
    /// Name of the token.
    pub name: String,
    /// Description of its purpose.
    pub description: String,
    /// Kind of object that its main role is on.
    #[serde(rename = "type")]
    pub token_type: TokenType,
    /// Kind of token: who decides about its uses.
    pub kind: TokenKind,
    /// Roles, with the one in its own scope first. Roles that the caller may not see are left out.
    pub roles: Vec<TokenRole>,
    /// Last characters of its value.
    pub short_token: String,
    /// Value, only after creation and rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub token: Option<Zeroizing<String>>,
    /// Time from which it is valid.
    pub start_at: Time,
    /// Time at which it expires, or none.
    pub end_at: Option<Time>,
    /// Lifetime in days.
    pub expiry_period_in_days: Option<i64>,
    /// Time of creation.
    pub created_at: Time,
    /// Id of the user or token that created it.
    pub created_by: String,
    /// Time of the last change.
    pub updated_at: Time,
    /// Id of the user or token that changed it last.
    pub updated_by: String,
    /// Time of the last rotation.
    pub last_rotated_at: Option<Time>,
    /// Time of the last use, to the minute.
    pub last_used_at: Option<Time>,
    /// Id of the deployment of the last use, or `control-plane`.
    pub last_used_on: Option<String>,
    /// Networks (CIDR) from which it may be used; empty for all.
    pub sources: Vec<String>,
    /// Maximum uses per minute on each host, or none for no limit.
    pub rate_limit_per_minute: Option<u32>,
    #[serde(skip)]
    generation: u32,
    /// All of its roles, as stored.
    #[serde(skip)]
    grants: Vec<Grant>,
}

const COLUMNS: &str = "id, name, description, type, kind, entity, role, generation, short, start_at, end_at, days, \
                       created_at, created_by, updated_at, updated_by, last_rotated_at, workspace, role_version, \
                       sources, rate_limit, last_used_at, last_used_on";

fn word<T: for<'de> Deserialize<'de>>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    let text: String = row.get(index)?;
    serde_json::from_value(text.into()).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, error.into())
    })
}

fn written<T: Serialize>(value: &T) -> Result<String, Error> {
    let value = serde_json::to_value(value).map_err(std::io::Error::from)?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}

/// Reads a token with the role in its own scope.
fn read_row(row: &Row<'_>) -> rusqlite::Result<Token> {
    let (token_type, time) = (word(row, 3)?, |index| row.get(index).map(Time::from_unix));
    let maybe = |index| row.get::<_, Option<i64>>(index).map(|time| time.map(Time::from_unix));
    let entity: String = row.get(5)?;
    let home = Grant {
        entity_type: EntityType::from(token_type),
        deployment: (token_type == TokenType::Deployment).then(|| entity.clone()),
        entity,
        workspace: row.get(17)?,
        role: row.get(6)?,
        version: row.get(18)?,
    };
    Ok(Token {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        token_type,
        kind: word(row, 4)?,
        roles: Vec::new(),
        short_token: row.get(8)?,
        token: None,
        start_at: time(9)?,
        end_at: maybe(10)?,
        expiry_period_in_days: row.get(11)?,
        created_at: time(12)?,
        created_by: row.get(13)?,
        updated_at: time(14)?,
        updated_by: row.get(15)?,
        last_rotated_at: maybe(16)?,
        sources: serde_json::from_str(&row.get::<_, String>(19)?).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(19, rusqlite::types::Type::Text, error.into())
        })?,
        rate_limit_per_minute: row.get(20)?,
        last_used_at: maybe(21)?,
        last_used_on: row.get(22)?,
        generation: row.get(7)?,
        grants: vec![home],
    })
}

/// Finds a token with all its roles, without a check of the caller's permissions.
fn find(connection: &Connection, organization: &str, id: &str) -> Result<Token, Error> {
    let query =
        format!("SELECT {COLUMNS} FROM token WHERE organization = ?1 AND id = ?2 AND deleted_at IS NULL");
    let found = connection.prepare_cached(&query)?.query_row([organization, id], read_row).optional()?;
    let mut token = found.ok_or(Error::NotFound("token"))?;
    token.grants.extend(besides(connection, id)?);
    Ok(token)
}

/// Operation on a token, in the scope that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Create,
    Update,
    Rotate,
    Delete,
}

/// Returns the operation that a caller must be allowed. An assigned token is still managed where it belongs.
fn managing(kind: TokenKind, token_type: TokenType, deed: Deed) -> Operation {
    match (kind, token_type, deed) {
        (TokenKind::DirectAccess, ..) => Operation::ManageDirectAccess,
        (TokenKind::Standard, TokenType::Organization, _) => Operation::ManageOrganizationTokens,
        (TokenKind::Standard, TokenType::Workspace, _) => Operation::ManageWorkspaceTokens,
        (TokenKind::Standard, TokenType::Deployment, Deed::Create) => Operation::CreateDeploymentTokens,
        (TokenKind::Standard, TokenType::Deployment, Deed::Update) => Operation::UpdateDeploymentTokens,
        (TokenKind::Standard, TokenType::Deployment, Deed::Rotate) => Operation::RotateDeploymentTokens,
        (TokenKind::Standard, TokenType::Deployment, Deed::Delete) => Operation::DeleteDeploymentTokens,
    }
}

impl Token {
    /// Returns the role in the token's own scope.
    fn home(&self) -> &Grant {
        &self.grants[0]
    }

    /// Fails if the caller may not do `deed` with tokens in this one's scope.
    fn managed_by(&self, actor: &Actor, organization: &str, deed: Deed) -> Result<(), Error> {
        actor.may(managing(self.kind, self.token_type, deed), self.home().scope(organization))
    }

    /// Fails if the caller may not do `deed` with this token. This one check covers updating, rotating and deleting:
    /// the caller needs the operation, and permissions that include those of every role of the token.
    fn changed_by(
        &self,
        connection: &Connection,
        actor: &Actor,
        organization: &str,
        deed: Deed,
    ) -> Result<(), Error> {
        self.managed_by(actor, organization, deed)?;
        self.grants.iter().try_for_each(|grant| grant.within(connection, actor, organization))
    }

    /// Fails for a direct-access token, whose roles cannot be changed.
    fn not_fixed(&self) -> Result<(), Error> {
        match self.kind {
            TokenKind::Standard => Ok(()),
            TokenKind::DirectAccess => Err(Error::Conflict {
                code: "role_fixed",
                detail: "a direct-access token's roles are fixed at creation; create another token with the roles you need"
                    .into(),
            }),
        }
    }

    /// Returns the entity tag of its representation, which its uses do not change.
    pub fn etag(&self) -> Result<String, Error> {
        entity_tag(&Self { token: None, last_used_at: None, last_used_on: None, ..self.clone() })
    }

    /// Fails if the token has changed since the caller saw it.
    fn check_unchanged(
        &self,
        connection: &Connection,
        actor: &Actor,
        organization: &str,
        seen: &IfMatch,
    ) -> Result<(), Error> {
        seen.check(|| self.clone().shown_to(connection, actor, organization)?.etag())
    }

    /// Returns the token with the roles that the caller may see. Fails if there is none.
    fn shown_to(self, connection: &Connection, actor: &Actor, organization: &str) -> Result<Self, Error> {
        let home = self.home().seen_by(actor, organization);
        let token = self.shown(connection, |grant| grant.seen_by(actor, organization).is_ok())?;
        if token.roles.is_empty() { home.map(|()| token) } else { Ok(token) }
    }

    /// Returns the token with the roles for which `seen` is true. A caller who manages the token sees all of them.
    fn shown(mut self, connection: &Connection, seen: impl Fn(&Grant) -> bool) -> Result<Self, Error> {
        let seen = self.grants.iter().filter(|grant| seen(grant));
        self.roles = seen.map(|grant| grant.shown(connection)).collect::<Result<_, _>>()?;
        Ok(self)
    }
}
