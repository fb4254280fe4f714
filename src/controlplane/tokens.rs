//! The life of an API token: create, list, show, update, rotate, delete.

use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ControlPlane;
use super::authorization::{Actor, Operation, OrganizationRole, Scope, WorkspaceRole};
use super::deployments;
use super::error::Error;
use super::organizations::check_name;
use super::publish;
use crate::protocol::record::{Record, RecordKind};
use crate::protocol::role::{RoleBody, RoleDigest, RoleScope, built_in};
use crate::protocol::time::Time;
use crate::protocol::token::{Claims, RoleClaim, TokenKind, TokenRecord, mint};

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

/// The role a deployment token has when none is named.
const DEFAULT_ROLE: &str = "DEPLOYMENT_ADMIN";

/// What a new token needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewToken {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Where it has its role.
    #[serde(rename = "type")]
    pub token_type: TokenType,
    /// Who vouches for it.
    #[serde(default = "standard")]
    pub kind: TokenKind,
    /// The workspace or deployment.
    pub entity_id: Option<String>,
    /// The role there.
    pub role: Option<String>,
    /// Days until it expires, 1 to 3650; none: never, which a direct-access token can't have.
    pub token_expiry_period_in_days: Option<i64>,
}

fn standard() -> TokenKind {
    TokenKind::Standard
}

/// What of a token can be updated.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenUpdate {
    /// The new name.
    pub name: Option<String>,
    /// The new description.
    pub description: Option<String>,
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

/// A page of tokens.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenPage {
    /// The tokens.
    pub tokens: Vec<Token>,
    /// How many there are in all.
    pub total_count: u64,
    /// How many were skipped.
    pub offset: u64,
    /// How many fit on the page.
    pub limit: u64,
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

impl ControlPlane {
    /// Creates a token and shows its value once.
    pub fn create_token(&self, actor: &Actor, organization: &str, new: NewToken) -> Result<Token, Error> {
        if new.kind == TokenKind::DirectAccess {
            actor.may(Operation::ManageDirectAccess, organization)?;
        }
        actor.may(Operation::ReadOrganization, organization)?;
        check_name("name", &new.name)?;
        if new.description.chars().count() > 500 {
            return Err(Error::invalid("description", "use at most 500 characters"));
        }
        let days = new.token_expiry_period_in_days;
        if days.is_some_and(|days| !(1..=3650).contains(&days)) {
            return Err(Error::invalid("tokenExpiryPeriodInDays", "use 1 to 3650 days"));
        }
        if new.kind == TokenKind::DirectAccess {
            if new.token_type != TokenType::Deployment {
                return Err(Error::invalid("type", "only a DEPLOYMENT token can be DIRECT_ACCESS"));
            }
            if days.is_none() {
                return Err(Error::invalid(
                    "tokenExpiryPeriodInDays",
                    "a DIRECT_ACCESS token must expire; use 1 to 3650 days",
                ));
            }
        }
        let role = role_of(&new)?;
        let entity = match (new.token_type, new.entity_id) {
            (TokenType::Organization, None) => organization.to_owned(),
            (TokenType::Organization, Some(id)) if id == organization => id,
            (TokenType::Organization, Some(_)) => {
                return Err(Error::invalid("entityId", "is not this organization"));
            }
            (_, Some(id)) => id,
            (_, None) => return Err(Error::invalid("entityId", "name the workspace or deployment")),
        };
        let now = self.now();
        let mut token = Token {
            id: self.new_id("tok_"),
            name: new.name,
            description: new.description,
            token_type: new.token_type,
            kind: new.kind,
            roles: vec![TokenRole { entity_type: new.token_type, entity_id: entity, role }],
            short_token: String::new(),
            token: None,
            start_at: now,
            end_at: days.map(|days| now.plus(days * 86_400)),
            expiry_period_in_days: days,
            created_at: now,
            created_by: actor.id.clone(),
            updated_at: now,
            updated_by: actor.id.clone(),
            last_rotated_at: None,
            generation: 1,
            workspace: None,
        };
        self.store.write(|transaction| {
            token.workspace = match token.token_type {
                TokenType::Organization => None,
                TokenType::Workspace => {
                    let query = "SELECT id FROM workspace WHERE id = ?1 AND organization = ?2";
                    let found = transaction
                        .query_row(query, [&token.roles[0].entity_id, organization], |row| row.get(0))
                        .optional()?;
                    Some(found.ok_or(Error::NotFound("workspace"))?)
                }
                TokenType::Deployment => Some(
                    deployments::find(transaction, organization, &token.roles[0].entity_id)?.workspace_id,
                ),
            };
            token.managed_by(actor, organization)?;
            self.issue(&mut token)?;
            let insert = "INSERT INTO token VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?14, ?15, NULL, NULL, ?16)";
            transaction.execute(
                insert,
                params![
                    token.id,
                    organization,
                    token.name,
                    token.description,
                    written(&token.token_type)?,
                    written(&token.kind)?,
                    token.roles[0].entity_id,
                    token.roles[0].role,
                    token.generation,
                    token.short_token,
                    token.start_at.unix(),
                    token.end_at.map(Time::unix),
                    days,
                    now.unix(),
                    actor.id,
                    token.workspace
                ],
            )?;
            publish_token(transaction, &token, None)?;
            Ok(token)
        })
    }

    /// Lists tokens, oldest first.
    pub fn list_tokens(
        &self,
        actor: &Actor,
        organization: &str,
        offset: u64,
        limit: u64,
    ) -> Result<TokenPage, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        if limit == 0 || limit > 1000 {
            return Err(Error::invalid("limit", "use 1 to 1000"));
        }
        let mut tokens: Vec<Token> = self.store.read(|connection| {
            let query = format!(
                "SELECT {COLUMNS} FROM token WHERE organization = ?1 AND deleted_at IS NULL ORDER BY created_at, id"
            );
            let mut rows = connection.prepare_cached(&query)?;
            Ok(rows.query_map([organization], read_row)?.collect::<Result<_, _>>()?)
        })?;
        tokens.retain(|token| token.seen_by(actor, organization).is_ok());
        let total_count = tokens.len() as u64;
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let page = usize::try_from(limit).unwrap_or(usize::MAX);
        let tokens = tokens.into_iter().skip(skip).take(page).collect();
        Ok(TokenPage { tokens, total_count, offset, limit })
    }

    /// Shows a token.
    pub fn show_token(&self, actor: &Actor, organization: &str, id: &str) -> Result<Token, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        let token = self.store.read(|connection| find(connection, organization, id))?;
        token.seen_by(actor, organization)?;
        Ok(token)
    }

    /// Updates name and description.
    pub fn update_token(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        update: &TokenUpdate,
    ) -> Result<Token, Error> {
        let token = self.show_token(actor, organization, id)?;
        token.managed_by(actor, organization)?;
        if let Some(name) = &update.name {
            check_name("name", name)?;
        }
        self.store.write(|transaction| {
            transaction.execute(
                "UPDATE token SET name = coalesce(?2, name), description = coalesce(?3, description), updated_at = ?4, updated_by = ?5
                 WHERE id = ?1 AND deleted_at IS NULL",
                params![id, update.name, update.description, self.now().unix(), actor.id],
            )?;
            find(transaction, organization, id)
        })
    }

    /// Refuses to change a direct-access token's role: it is fixed at creation.
    pub fn replace_roles(&self, actor: &Actor, organization: &str, id: &str) -> Result<Token, Error> {
        let token = self.show_token(actor, organization, id)?;
        token.managed_by(actor, organization)?;
        let detail = match token.kind {
            TokenKind::DirectAccess => {
                "a direct-access token's role is fixed at creation; create another token with the role you need"
            }
            TokenKind::Standard => "the only role this token can have is the one it has",
        };
        Err(Error::Conflict { code: "role_fixed", detail: detail.into() })
    }

    /// Gives a token a new value, shown once; the old one stops.
    pub fn rotate_token(&self, actor: &Actor, organization: &str, id: &str) -> Result<Token, Error> {
        self.store.write(|transaction| {
            actor.may(Operation::ReadOrganization, organization)?;
            let mut token = find(transaction, organization, id)?;
            token.managed_by(actor, organization)?;
            let now = self.now();
            token.generation += 1;
            token.last_rotated_at = Some(now);
            (token.updated_at, token.updated_by) = (now, actor.id.clone());
            self.issue(&mut token)?;
            transaction.execute(
                "UPDATE token SET generation = ?2, short = ?3, last_rotated_at = ?4, updated_at = ?4, updated_by = ?5 WHERE id = ?1",
                params![id, token.generation, token.short_token, now.unix(), actor.id],
            )?;
            publish_token(transaction, &token, None)?;
            Ok(token)
        })
    }

    /// Deletes a token. Its record stays on the data plane as revoked, so that it is known to be dead.
    pub fn delete_token(&self, actor: &Actor, organization: &str, id: &str) -> Result<(), Error> {
        self.store.write(|transaction| {
            actor.may(Operation::ReadOrganization, organization)?;
            let token = find(transaction, organization, id)?;
            token.managed_by(actor, organization)?;
            let now = self.now();
            delete(transaction, &token, now, actor)
        })
    }

    /// Deletes every token of a deployment that is about to go.
    pub(super) fn delete_tokens_of(
        &self,
        transaction: &Transaction<'_>,
        organization: &str,
        deployment: &str,
        actor: &Actor,
    ) -> Result<(), Error> {
        let query = format!(
            "SELECT {COLUMNS} FROM token WHERE organization = ?1 AND entity = ?2 AND type = 'DEPLOYMENT' AND deleted_at IS NULL"
        );
        let tokens: Vec<Token> = transaction
            .prepare_cached(&query)?
            .query_map([organization, deployment], read_row)?
            .collect::<Result<_, _>>()?;
        for token in tokens {
            token.managed_by(actor, organization)?;
            delete(transaction, &token, self.now(), actor)?;
        }
        Ok(())
    }

    /// Mints the value of a token's present generation.
    fn issue(&self, token: &mut Token) -> Result<(), Error> {
        let direct = token.kind == TokenKind::DirectAccess;
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: token.id.parse().map_err(|_| Error::NotFound("token"))?,
            aud: if direct { token.roles[0].entity_id.clone() } else { self.issuer.clone() },
            iat: self.now(),
            nbf: token.start_at,
            exp: token.end_at,
            generation: token.generation,
            role: if direct { Some(claim_of(&token.roles[0].role)?) } else { None },
        };
        let value = mint(token.kind, &claims, &self.signing.token);
        value[value.len() - 4..].clone_into(&mut token.short_token);
        token.token = Some(value);
        Ok(())
    }
}

/// The role a new token gets, checked against its type.
fn role_of(new: &NewToken) -> Result<String, Error> {
    let role = match (new.token_type, &new.role) {
        (TokenType::Deployment, None) => DEFAULT_ROLE.to_owned(),
        (_, None) => return Err(Error::invalid("role", "name the role it has there")),
        (_, Some(role)) => role.clone(),
    };
    let fits = match new.token_type {
        TokenType::Organization => OrganizationRole::parse(&role).is_some(),
        TokenType::Workspace => WorkspaceRole::parse(&role).is_some(),
        TokenType::Deployment => {
            built_in().iter().any(|known| known.name == role && known.scope == RoleScope::Deployment)
        }
    };
    if fits {
        Ok(role)
    } else {
        Err(Error::invalid("role", format!("{role:?} is no role of this type of token")))
    }
}

fn claim_of(role: &str) -> Result<RoleClaim, Error> {
    let role: RoleBody =
        built_in().into_iter().find(|known| known.name == role).ok_or(Error::NotFound("role"))?;
    let id = role.reference().map_err(|_| Error::NotFound("role"))?;
    Ok(RoleClaim { id, digest: RoleDigest::of(&role.to_body()) })
}

fn delete(transaction: &Transaction<'_>, token: &Token, now: Time, actor: &Actor) -> Result<(), Error> {
    transaction.execute(
        "UPDATE token SET deleted_at = ?2, updated_by = ?3 WHERE id = ?1",
        params![token.id, now.unix(), actor.id],
    )?;
    publish_token(transaction, token, Some(now))
}

/// Tells the data plane of a direct-access token. Of a standard token it holds nothing.
fn publish_token(
    transaction: &Transaction<'_>,
    token: &Token,
    revoked_at: Option<Time>,
) -> Result<(), Error> {
    let (TokenKind::DirectAccess, Some(expires_at)) = (token.kind, token.end_at) else { return Ok(()) };
    let deployment = &token.roles[0].entity_id;
    let data_plane: String =
        transaction
            .query_row("SELECT data_plane FROM deployment WHERE id = ?1", [deployment], |row| row.get(0))?;
    let record = TokenRecord {
        id: token.id.parse().map_err(|_| Error::NotFound("token"))?,
        deployment: deployment.parse().map_err(|_| Error::NotFound("deployment"))?,
        generation: token.generation,
        role: claim_of(&token.roles[0].role)?,
        dag_roles: Vec::new(),
        not_before: token.start_at,
        expires_at,
        sources: Vec::new(),
        revoked_at,
    };
    publish::put(transaction, &data_plane, &[Record::of(RecordKind::Token, token.id.as_str(), &record)])
}
