//! Creating a token: what a new one needs, and the role it gets.

use rusqlite::{OptionalExtension, params};
use serde::Deserialize;

use super::issue::publish_token;
use super::{Token, TokenRole, TokenType, written};
use crate::controlplane::authorization::{Actor, Operation, OrganizationRole, WorkspaceRole};
use crate::controlplane::error::Error;
use crate::controlplane::organizations::check_name;
use crate::controlplane::{ControlPlane, deployments};
use crate::protocol::role::{RoleScope, built_in};
use crate::protocol::time::Time;
use crate::protocol::token::TokenKind;

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
