//! Changes the roles of a standard token. Those of a direct-access token cannot be changed.

use rusqlite::params;

use super::grants::{Grant, Home, MAX_ROLES};
use super::{Deed, Stored, etag, find};
use crate::api::token::{RolesUpdate, Token, TokenScope};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::error::Error;
use crate::controlplane::replica::publish;
use crate::controlplane::store::Transaction;

impl Stored {
    /// Returns the properties that decide which roles the token can have.
    pub(super) fn home_of<'a>(&'a self, organization: &'a str) -> Home<'a> {
        let home = self.home();
        Home { organization, entity_type: home.entity_type, entity: &home.entity, fixed: false }
    }
}

impl ControlPlane {
    /// Replaces the roles of a token. Of the roles that the caller may see, those not in the new list are removed. The
    /// role in the token's own scope can only be replaced.
    pub fn replace_roles(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        update: &RolesUpdate,
        seen: &IfMatch,
    ) -> Result<Token, Error> {
        self.store.write(|transaction| {
            actor.may(Operation::SeeOrganization, organization)?;
            let token = find(transaction, organization, id)?;
            let token_seen = if token.scope == TokenScope::Organization && !update.roles.is_empty() {
                // The owner of a workspace may give a token its first role there, and sees no role of it before. Each role
                // is judged below.
                token.clone().shown(transaction, |grant| grant.seen_by(actor, organization).is_ok())?
            } else {
                token.clone().shown_to(transaction, actor, organization)?
            };
            seen.check(|| etag(&token_seen))?;
            token.not_fixed()?;
            if update.roles.len() > MAX_ROLES {
                return Err(Error::invalid("roles", format!("a token has at most {MAX_ROLES} roles")));
            }
            let mut wanted: Vec<Grant> = Vec::new();
            for role in &update.roles {
                let grant = Grant::new(transaction, &token.home_of(organization), role)?;
                if wanted.iter().any(|other| other.same_place(&grant)) {
                    let detail = format!("{} has two roles; give it one", role.entity_id);
                    return Err(Error::invalid("roles", detail));
                }
                wanted.push(grant);
            }
            let at_home = wanted.iter().any(|grant| grant.same_place(token.home()));
            if !at_home && token.home().seen_by(actor, organization).is_ok() {
                let detail =
                    "leave exactly one role in the scope the token belongs to; to end that, delete the token";
                return Err(Error::invalid("roles", detail));
            }
            let before = &token.grants;
            let visible = |grant: &&Grant| grant.seen_by(actor, organization).is_ok();
            for gone in before[1..].iter().filter(visible) {
                if !wanted.iter().any(|grant| grant.same_place(gone)) {
                    self.withdraw_role(transaction, actor, organization, &token, gone)?;
                }
            }
            for grant in wanted.iter().filter(|grant| !before.contains(grant)) {
                self.grant_role(transaction, actor, organization, &token, grant)?;
            }
            // The caller saw the token before, also if the roles seen then were the ones that are gone now.
            let token = find(transaction, organization, id)?;
            token.shown(transaction, |grant| grant.seen_by(actor, organization).is_ok())
        })
    }

    /// Gives a standard token a role, in place of the one that it has on the same object.
    pub(super) fn grant_role(
        &self,
        transaction: &Transaction<'_>,
        actor: &Actor,
        organization: &str,
        token: &Stored,
        grant: &Grant,
    ) -> Result<(), Error> {
        let now = self.now().unix();
        grant.within(transaction, actor, organization)?;
        if grant.same_place(token.home()) {
            token.managed_by(actor, organization, Deed::Update)?;
            // Lowering a role is a change as well: a caller who could not grant the present role may not remove it.
            token.home().within(transaction, actor, organization)?;
            transaction.execute("UPDATE token SET role = ?2 WHERE id = ?1", params![token.id, grant.role])?;
        } else {
            actor.may(grant.granting(), grant.scope(organization))?;
            grant.insert(transaction, &token.id, actor, now)?;
        }
        touch(transaction, organization, token, actor, now)
    }

    /// Removes a role that is not in the token's own scope.
    pub(super) fn withdraw_role(
        &self,
        transaction: &Transaction<'_>,
        actor: &Actor,
        organization: &str,
        token: &Stored,
        grant: &Grant,
    ) -> Result<(), Error> {
        actor.may(grant.granting(), grant.scope(organization))?;
        grant.remove(transaction, &token.id)?;
        touch(transaction, organization, token, actor, self.now().unix())
    }
}

fn touch(
    transaction: &Transaction<'_>,
    organization: &str,
    token: &Stored,
    actor: &Actor,
    now: i64,
) -> Result<(), Error> {
    transaction.execute(
        "UPDATE token SET updated_at = ?2, updated_by = ?3 WHERE id = ?1",
        params![token.id, now, actor.id],
    )?;
    publish::standard_tokens_changed(transaction, organization)
}
