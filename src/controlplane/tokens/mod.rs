//! API tokens as they are stored and shown. Each operation on tokens has a file of its own.

mod assignments;
pub mod authentication;
mod caller;
mod create;
mod delete;
pub mod dual_control;
pub(super) mod effective;
mod grants;
pub mod introspection;
mod issue;
mod list;
mod repeated_calls;
mod revoke;
mod roles;
mod rotate;
mod update;

use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;
use zeroize::Zeroizing;

use self::grants::{Grant, besides};
use crate::api::id::TokenId;
use crate::api::token::{EntityType, Token, TokenScope};
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::precondition::{IfMatch, entity_tag};
use crate::controlplane::calls::subjects::{subject, unnamed};
use crate::controlplane::error::Error;
use crate::controlplane::store::columns::word;
use crate::protocol::time::Time;
use crate::protocol::token::TokenKind;

/// API token as it is stored, with all its roles.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) id: String,
    name: String,
    description: String,
    scope: TokenScope,
    pub(super) kind: TokenKind,
    short_token: String,
    /// Value, only after it was minted.
    value: Option<Zeroizing<String>>,
    start_at: Time,
    end_at: Option<Time>,
    expiry_period_in_days: Option<i64>,
    created_at: Time,
    created_by: String,
    updated_at: Time,
    updated_by: String,
    last_rotated_at: Option<Time>,
    last_used_at: Option<Time>,
    last_used_on: Option<String>,
    sources: Vec<String>,
    rate_limit_per_minute: Option<u32>,
    generation: u32,
    /// Roles, with the one in its own scope first.
    grants: Vec<Grant>,
}

const COLUMNS: &str = "id, name, description, type, kind, entity, role, generation, short, start_at, end_at, days, \
                       created_at, created_by, updated_at, updated_by, last_rotated_at, workspace, role_version, \
                       sources, rate_limit, last_used_at, last_used_on";

fn written<T: Serialize>(value: &T) -> Result<String, Error> {
    let value = serde_json::to_value(value).map_err(std::io::Error::from)?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}

/// Reads a token with the role in its own scope.
fn read_row(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let (scope, time): (TokenScope, _) = (word(row, 3)?, |index| row.get(index).map(Time::from_unix));
    let maybe = |index| row.get::<_, Option<i64>>(index).map(|time| time.map(Time::from_unix));
    let entity: String = row.get(5)?;
    let home = Grant {
        entity_type: EntityType::from(scope),
        deployment: (scope == TokenScope::Deployment).then(|| entity.clone()),
        entity,
        workspace: row.get(17)?,
        role: row.get(6)?,
        version: row.get(18)?,
    };
    Ok(Stored {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        scope,
        kind: word(row, 4)?,
        short_token: row.get(8)?,
        value: None,
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
fn find(connection: &Connection, organization: &str, id: &str) -> Result<Stored, Error> {
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
fn managing(kind: TokenKind, scope: TokenScope, deed: Deed) -> Operation {
    match (kind, scope, deed) {
        (TokenKind::DirectAccess, ..) => Operation::ManageDirectAccess,
        (TokenKind::Standard, TokenScope::Organization, _) => Operation::ManageOrganizationTokens,
        (TokenKind::Standard, TokenScope::Workspace, _) => Operation::ManageWorkspaceTokens,
        (TokenKind::Standard, TokenScope::Deployment, Deed::Create) => Operation::CreateDeploymentTokens,
        (TokenKind::Standard, TokenScope::Deployment, Deed::Update) => Operation::UpdateDeploymentTokens,
        (TokenKind::Standard, TokenScope::Deployment, Deed::Rotate) => Operation::RotateDeploymentTokens,
        (TokenKind::Standard, TokenScope::Deployment, Deed::Delete) => Operation::DeleteDeploymentTokens,
    }
}

impl Stored {
    /// Returns the role in the token's own scope.
    fn home(&self) -> &Grant {
        &self.grants[0]
    }

    /// Fails if the caller may not do `deed` with tokens in this one's scope.
    fn managed_by(&self, actor: &Actor, organization: &str, deed: Deed) -> Result<(), Error> {
        actor.may(managing(self.kind, self.scope, deed), self.home().scope(organization))
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

    /// Fails if the token has changed since the caller saw it.
    fn check_unchanged(
        &self,
        connection: &Connection,
        actor: &Actor,
        organization: &str,
        seen: &IfMatch,
    ) -> Result<(), Error> {
        seen.check(|| etag(&self.clone().shown_to(connection, actor, organization)?))
    }

    /// Returns the token with the roles that the caller may see. Fails if there is none.
    fn shown_to(self, connection: &Connection, actor: &Actor, organization: &str) -> Result<Token, Error> {
        let home = self.home().seen_by(actor, organization);
        let token = self.shown(connection, |grant| grant.seen_by(actor, organization).is_ok())?;
        if token.roles.is_empty() { home.map(|()| token) } else { Ok(token) }
    }

    /// Returns the token with the roles for which `seen` is true. A caller who manages the token sees all of them.
    fn shown(self, connection: &Connection, seen: impl Fn(&Grant) -> bool) -> Result<Token, Error> {
        let seen = self.grants.iter().filter(|grant| seen(grant));
        let roles = seen.map(|grant| grant.shown(connection)).collect::<Result<_, _>>()?;
        Ok(Token {
            id: TokenId::known(self.id),
            name: self.name,
            description: self.description,
            scope: self.scope,
            scope_v1beta1: self.scope,
            kind: self.kind,
            roles,
            short_token: self.short_token,
            token: self.value,
            start_at: self.start_at.into(),
            end_at: self.end_at.map(Into::into),
            expiry_period_in_days: self.expiry_period_in_days,
            created_at: self.created_at.into(),
            created_by: Some(subject(connection, &self.created_by)?),
            updated_at: self.updated_at.into(),
            updated_by: Some(subject(connection, &self.updated_by)?),
            last_rotated_at: self.last_rotated_at.map(Into::into),
            last_used_at: self.last_used_at.map(Into::into),
            last_used_on: self.last_used_on,
            sources: self.sources,
            rate_limit_per_minute: self.rate_limit_per_minute,
        })
    }
}

/// Returns the entity tag of a token's representation. Neither its uses nor new names of those who changed it change the
/// tag.
pub fn etag(token: &Token) -> Result<String, Error> {
    entity_tag(&Token {
        token: None,
        last_used_at: None,
        last_used_on: None,
        created_by: token.created_by.as_ref().map(unnamed),
        updated_by: token.updated_by.as_ref().map(unnamed),
        ..token.clone()
    })
}
