//! Creating a token: what a new one needs, and the roles it gets.

use rusqlite::params;
use serde::Deserialize;

use super::grants::{EntityType, Grant, Home, MAX_ROLES, NewTokenRole};
use super::issue::publish_token;
use super::{Deed, Token, TokenType, check_description, written};
use crate::controlplane::ControlPlane;
use crate::controlplane::authorization::{Actor, Operation};
use crate::controlplane::error::Error;
use crate::controlplane::organizations::{Name, check_name};
use crate::protocol::time::Time;
use crate::protocol::token::TokenKind;

/// The role a deployment token has when none is named.
const DEFAULT_ROLE: &str = "DEPLOYMENT_ADMIN";

/// What a new token needs.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewToken {
    /// Its name.
    #[schema(value_type = Name)]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 500)]
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
    /// Roles besides: on Dags, and of an organization's or workspace's token on deployments.
    #[serde(default)]
    pub roles: Vec<NewTokenRole>,
    /// Days until it expires, 1 to 3650; none: never, which a direct-access token can't have.
    #[serde(default, deserialize_with = "crate::controlplane::whole::maybe")]
    #[schema(minimum = 1, maximum = 3650)]
    pub token_expiry_period_in_days: Option<i64>,
}

fn standard() -> TokenKind {
    TokenKind::Standard
}

impl NewToken {
    /// What can be said about it without looking anything up.
    fn check(&self) -> Result<(), Error> {
        check_name("name", &self.name)?;
        check_description(&self.description)?;
        let days = self.token_expiry_period_in_days;
        if days.is_some_and(|days| !(1..=3650).contains(&days)) {
            return Err(Error::invalid("tokenExpiryPeriodInDays", "use 1 to 3650 days"));
        }
        if self.roles.len() >= MAX_ROLES {
            return Err(Error::invalid("roles", format!("a token has at most {MAX_ROLES} roles")));
        }
        if self.kind == TokenKind::DirectAccess {
            if self.token_type != TokenType::Deployment {
                return Err(Error::invalid("type", "only a DEPLOYMENT token can be DIRECT_ACCESS"));
            }
            if days.is_none() {
                return Err(Error::invalid(
                    "tokenExpiryPeriodInDays",
                    "a DIRECT_ACCESS token must expire; use 1 to 3650 days",
                ));
            }
        }
        Ok(())
    }

    /// The role in its own scope.
    fn home(&self, organization: &str) -> Result<NewTokenRole, Error> {
        let role = match (self.token_type, &self.role) {
            // Who gives roles on some Dags hardly means to give the whole deployment with them.
            (TokenType::Deployment, None) if !self.roles.is_empty() => {
                let detail = "with roles on Dags, name the deployment role, too; DEPLOYMENT_ACCESSOR adds nothing to them";
                return Err(Error::invalid("role", detail));
            }
            (TokenType::Deployment, None) => DEFAULT_ROLE.to_owned(),
            (_, None) => return Err(Error::invalid("role", "name the role it has there")),
            (_, Some(role)) => role.clone(),
        };
        let entity_id = match (self.token_type, &self.entity_id) {
            (TokenType::Organization, None) => organization.to_owned(),
            (_, Some(id)) => id.clone(),
            (_, None) => return Err(Error::invalid("entityId", "name the workspace or deployment")),
        };
        Ok(NewTokenRole { entity_type: self.token_type.into(), entity_id, deployment_id: None, role })
    }
}

impl ControlPlane {
    /// Creates a token and shows its value once.
    pub fn create_token(&self, actor: &Actor, organization: &str, new: NewToken) -> Result<Token, Error> {
        if new.kind == TokenKind::DirectAccess {
            actor.may(Operation::ManageDirectAccess, organization)?;
        }
        actor.may(Operation::SeeOrganization, organization)?;
        new.check()?;
        let home_role = new.home(organization)?;
        let (now, days) = (self.now(), new.token_expiry_period_in_days);
        let mut token = Token {
            id: self.new_id("tok_"),
            name: new.name,
            description: new.description,
            token_type: new.token_type,
            kind: new.kind,
            roles: Vec::new(),
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
            grants: Vec::new(),
        };
        self.store.write(|transaction| {
            let home = Home {
                organization,
                entity_type: home_role.entity_type,
                entity: &home_role.entity_id,
                fixed: token.kind == TokenKind::DirectAccess,
            };
            token.grants.push(Grant::new(transaction, &home, &home_role)?);
            token.managed_by(actor, organization, Deed::Create)?;
            for role in &new.roles {
                let grant = Grant::new(transaction, &home, role)?;
                if token.grants.iter().any(|other| other.same_place(&grant)) {
                    let detail = format!("{} has two roles; give it one", role.entity_id);
                    return Err(Error::invalid("roles", detail));
                }
                let operation = match grant.entity_type {
                    EntityType::Dag | EntityType::DagTag => Operation::AssignDagRoles,
                    _ => Operation::AssignTokens,
                };
                actor.may(operation, grant.scope(organization))?;
                token.grants.push(grant);
            }
            for grant in &token.grants {
                grant.within(transaction, actor, organization)?;
            }
            self.issue(transaction, &mut token)?;
            let home = token.home();
            transaction.execute(
                "INSERT INTO token (id, organization, name, description, type, kind, entity, role, role_version, workspace,
                     generation, short, start_at, end_at, days, created_at, created_by, updated_at, updated_by)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?16, ?17)",
                params![
                    token.id,
                    organization,
                    token.name,
                    token.description,
                    written(&token.token_type)?,
                    written(&token.kind)?,
                    home.entity,
                    home.role,
                    home.version,
                    home.workspace,
                    token.generation,
                    token.short_token,
                    token.start_at.unix(),
                    token.end_at.map(Time::unix),
                    days,
                    now.unix(),
                    actor.id,
                ],
            )?;
            for grant in &token.grants[1..] {
                grant.insert(transaction, &token.id, actor, now.unix())?;
            }
            publish_token(transaction, &token, None)?;
            token.shown(transaction, |_| true)
        })
    }
}
