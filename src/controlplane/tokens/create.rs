//! Creates tokens: checks the properties of a new token and the roles that it gets.

use std::net::IpAddr;

use ipnet::IpNet;
use rusqlite::{Connection, params};

use super::dual_control;
use super::grants::{Grant, Home, MAX_ROLES};
use super::issue::publish_token;
use super::{Deed, Stored, written};
use crate::api::token::{NewToken, NewTokenRole, Token, TokenScope};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::idempotency::IdempotencyKey;
use crate::controlplane::error::Error;
use crate::controlplane::names::{check_description, check_name};
use crate::controlplane::store::Transaction;
use crate::platform::net::{forwarded, network};
use crate::protocol::time::Time;
use crate::protocol::token::TokenKind;

/// Role of a deployment token if none is named.
const DEFAULT_ROLE: &str = "DEPLOYMENT_ADMIN";
/// Maximum number of source networks of a token.
const MAX_SOURCES: usize = 64;
/// Maximum rate limit, in uses per minute.
const MAX_RATE: u32 = 1_000_000;

impl NewToken {
    /// Checks the properties that need no look-up.
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
        if self.rate_limit_per_minute.is_some_and(|limit| !(1..=MAX_RATE).contains(&limit)) {
            return Err(Error::invalid("rateLimitPerMinute", format!("use 1 to {MAX_RATE} uses a minute")));
        }
        if self.kind == TokenKind::Standard {
            // The control plane decides about each use of a standard token, so nothing is fixed in it.
            let only = "only a DIRECT_ACCESS token can have it";
            if !self.sources.is_empty() {
                return Err(Error::invalid("sources", only));
            }
            if self.rate_limit_per_minute.is_some() {
                return Err(Error::invalid("rateLimitPerMinute", only));
            }
        }
        if self.kind == TokenKind::DirectAccess {
            if self.scope != TokenScope::Deployment {
                return Err(Error::invalid("scope", "only a DEPLOYMENT token can be DIRECT_ACCESS"));
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

    /// Returns the source networks in canonical form.
    fn networks(&self) -> Result<Vec<String>, Error> {
        if self.sources.len() > MAX_SOURCES {
            return Err(Error::invalid("sources", format!("a token has at most {MAX_SOURCES} networks")));
        }
        let read = |text: &String| {
            // One address is a network, too.
            let network = network::parse(text).or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            let detail = format!("{text:?} is no network; write it as 10.0.0.0/8 or 2001:db8::/32");
            let network = network.ok_or_else(|| Error::invalid("sources", detail))?;
            match forwarded::canonical(network) {
                IpNet::V6(mapped) if mapped.addr().to_ipv4_mapped().is_some() => {
                    let detail = format!(
                        "{text:?} holds more than the IPv4 addresses mapped into IPv6; name the IPv4 network"
                    );
                    Err(Error::invalid("sources", detail))
                }
                network => Ok(network.trunc().to_string()),
            }
        };
        self.sources.iter().map(read).collect()
    }

    /// Returns the role in the token's own scope.
    fn home(&self, organization: &str) -> Result<NewTokenRole, Error> {
        let role = match (self.scope, &self.role) {
            // A caller who names roles on some Dags hardly means to give the default role on the whole deployment as
            // well.
            (TokenScope::Deployment, None) if !self.roles.is_empty() => {
                let detail = "with roles on Dags, name the deployment role, too; DEPLOYMENT_ACCESSOR adds nothing to them";
                return Err(Error::invalid("role", detail));
            }
            (TokenScope::Deployment, None) => DEFAULT_ROLE.to_owned(),
            (_, None) => return Err(Error::invalid("role", "name the role it has there")),
            (_, Some(role)) => role.clone(),
        };
        let entity_id = match (self.scope, &self.entity_id) {
            (TokenScope::Organization, None) => organization.to_owned(),
            (_, Some(id)) => id.clone(),
            (_, None) => return Err(Error::invalid("entityId", "name the workspace or deployment")),
        };
        Ok(NewTokenRole { entity_type: self.scope.into(), entity_id, deployment_id: None, role })
    }
}

impl ControlPlane {
    /// Creates a token and shows its value once. A repeat with the same idempotency key creates no second token.
    pub fn create_token(
        &self,
        actor: &Actor,
        organization: &str,
        new: NewToken,
        key: Option<&IdempotencyKey>,
    ) -> Result<Token, Error> {
        self.store.write(|transaction| {
            if let Some(made) = self.find_repeated(transaction, actor, organization, key)? {
                return Ok(made);
            }
            let token = self.draft(transaction, actor, organization, new)?;
            if token.kind == TokenKind::DirectAccess {
                dual_control::not_needed(transaction, organization)?;
            }
            self.establish(transaction, actor, organization, token, key)
        })
    }

    /// Makes a new token without its value. All checks are done here.
    pub(in crate::controlplane) fn draft(
        &self,
        connection: &Connection,
        actor: &Actor,
        organization: &str,
        new: NewToken,
    ) -> Result<Stored, Error> {
        if new.kind == TokenKind::DirectAccess {
            actor.may(Operation::ManageDirectAccess, organization)?;
        }
        actor.may(Operation::SeeOrganization, organization)?;
        new.check()?;
        let (home_role, sources) = (new.home(organization)?, new.networks()?);
        let (now, days) = (self.now(), new.token_expiry_period_in_days);
        let mut token = Stored {
            id: self.new_id(),
            name: new.name,
            description: new.description,
            scope: new.scope,
            kind: new.kind,
            short_token: String::new(),
            value: None,
            start_at: now,
            end_at: days.map(|days| now.plus(days * 86_400)),
            expiry_period_in_days: days,
            created_at: now,
            created_by: actor.id.clone(),
            updated_at: now,
            updated_by: actor.id.clone(),
            last_rotated_at: None,
            last_used_at: None,
            last_used_on: None,
            sources,
            rate_limit_per_minute: new.rate_limit_per_minute,
            generation: 1,
            grants: Vec::new(),
        };
        let home = Home {
            organization,
            entity_type: home_role.entity_type,
            entity: &home_role.entity_id,
            fixed: token.kind == TokenKind::DirectAccess,
        };
        token.grants.push(Grant::new(connection, &home, &home_role)?);
        token.managed_by(actor, organization, Deed::Create)?;
        for role in &new.roles {
            let grant = Grant::new(connection, &home, role)?;
            if token.grants.iter().any(|other| other.same_place(&grant)) {
                let detail = format!("{} has two roles; give it one", role.entity_id);
                return Err(Error::invalid("roles", detail));
            }
            actor.may(grant.granting(), grant.scope(organization))?;
            token.grants.push(grant);
        }
        for grant in &token.grants {
            grant.within(connection, actor, organization)?;
        }
        Ok(token)
    }

    /// Mints the value of a drafted token, stores the token, and publishes its record.
    pub(in crate::controlplane) fn establish(
        &self,
        transaction: &Transaction<'_>,
        actor: &Actor,
        organization: &str,
        mut token: Stored,
        key: Option<&IdempotencyKey>,
    ) -> Result<Token, Error> {
        self.issue(transaction, organization, &mut token)?;
        let (home, now) = (token.home(), token.created_at.unix());
        transaction.execute(
            "INSERT INTO token (id, organization, name, description, type, kind, entity, role, role_version, workspace,
                 generation, short, start_at, end_at, days, created_at, created_by, updated_at, updated_by,
                 sources, rate_limit)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?16, ?17, ?18, ?19)",
            params![
                token.id,
                organization,
                token.name,
                token.description,
                written(&token.scope)?,
                written(&token.kind)?,
                home.entity,
                home.role,
                home.version,
                home.workspace,
                token.generation,
                token.short_token,
                token.start_at.unix(),
                token.end_at.map(Time::unix),
                token.expiry_period_in_days,
                now,
                actor.id,
                serde_json::to_string(&token.sources).map_err(std::io::Error::from)?,
                token.rate_limit_per_minute,
            ],
        )?;
        for grant in &token.grants[1..] {
            grant.insert(transaction, &token.id, actor, now)?;
        }
        publish_token(transaction, organization, &token, None)?;
        self.keep_for_repeats(transaction, actor, &token, key)?;
        token.shown(transaction, |_| true)
    }
}
