//! API tokens, as they are kept and shown. What can be done with one is a file each.

mod create;
mod delete;
mod issue;
mod list;
mod roles;
mod rotate;
mod update;

pub use create::NewToken;
pub use list::TokenPage;
pub use update::TokenUpdate;

use rusqlite::{OptionalExtension, Row};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::authorization::{Actor, Operation, Scope};
use super::error::Error;
use crate::protocol::time::Time;
use crate::protocol::token::TokenKind;

/// Where a token has its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TokenType {
    /// On an organization.
    Organization,
    /// On a workspace.
    Workspace,
    /// On a deployment.
    Deployment,
}

/// A token's role.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRole {
    /// On what kind of thing.
    pub entity_type: TokenType,
    /// On which.
    pub entity_id: String,
    /// The role.
    pub role: String,
}

/// A token, as it is shown.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Where it has its role.
    #[serde(rename = "type")]
    pub token_type: TokenType,
    /// Who vouches for it.
    pub kind: TokenKind,
    /// Its roles.
    pub roles: Vec<TokenRole>,
    /// The last characters of its value.
    pub short_token: String,
    /// Its value: after creation and rotation only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Zeroizing<String>>,
    /// From when on it is valid.
    pub start_at: Time,
    /// From when on it is not.
    pub end_at: Option<Time>,
    /// Its life in days.
    pub expiry_period_in_days: Option<i64>,
    /// When it was made.
    pub created_at: Time,
    /// By whom.
    pub created_by: String,
    /// When it was last changed.
    pub updated_at: Time,
    /// By whom.
    pub updated_by: String,
    /// When it was last rotated.
    pub last_rotated_at: Option<Time>,
    #[serde(skip)]
    generation: u32,
    #[serde(skip)]
    workspace: Option<String>,
}

const COLUMNS: &str = "id, name, description, type, kind, entity, role, generation, short, start_at, end_at, days, \
                       created_at, created_by, updated_at, updated_by, last_rotated_at, workspace";

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

fn read_row(row: &Row<'_>) -> rusqlite::Result<Token> {
    let (token_type, time) = (word(row, 3)?, |index| row.get(index).map(Time::from_unix));
    let maybe = |index| row.get::<_, Option<i64>>(index).map(|time| time.map(Time::from_unix));
    Ok(Token {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        token_type,
        kind: word(row, 4)?,
        roles: vec![TokenRole { entity_type: token_type, entity_id: row.get(5)?, role: row.get(6)? }],
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
        generation: row.get(7)?,
        workspace: row.get(17)?,
    })
}

fn find(connection: &rusqlite::Connection, organization: &str, id: &str) -> Result<Token, Error> {
    let query =
        format!("SELECT {COLUMNS} FROM token WHERE organization = ?1 AND id = ?2 AND deleted_at IS NULL");
    connection.query_row(&query, [organization, id], read_row).optional()?.ok_or(Error::NotFound("token"))
}

/// What it takes to manage a token, and to see it: seeing one says what it opens.
fn managing(kind: TokenKind, token_type: TokenType) -> Operation {
    match (kind, token_type) {
        (TokenKind::DirectAccess, _) => Operation::ManageDirectAccess,
        (TokenKind::Standard, TokenType::Organization) => Operation::ManageOrganizationTokens,
        (TokenKind::Standard, TokenType::Workspace) => Operation::ManageWorkspaceTokens,
        (TokenKind::Standard, TokenType::Deployment) => Operation::ManageDeploymentTokens,
    }
}

impl Token {
    fn scope<'a>(&'a self, organization: &'a str) -> Scope<'a> {
        Scope { organization, workspace: self.workspace.as_deref() }
    }

    fn managed_by(&self, actor: &Actor, organization: &str) -> Result<(), Error> {
        actor.may(managing(self.kind, self.token_type), self.scope(organization))
    }

    /// Tokens of the organization are seen by its owners; those of a workspace and its deployments by its members.
    fn seen_by(&self, actor: &Actor, organization: &str) -> Result<(), Error> {
        let operation = match self.token_type {
            TokenType::Organization => Operation::ManageOrganizationTokens,
            TokenType::Workspace | TokenType::Deployment => Operation::ReadWorkspace,
        };
        actor.may(operation, self.scope(organization))
    }
}
