//! Rotates a token: it gets a new value, and the old one becomes invalid.

use rusqlite::params;

use super::issue::publish_token;
use super::{Deed, find};
use crate::api::token::Token;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::idempotency::IdempotencyKey;
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::error::Error;

impl ControlPlane {
    /// Gives a token a new value, shown once. The old one becomes invalid; name, description and roles stay. A repeat
    /// with the same idempotency key does not rotate it again.
    pub fn rotate_token(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        key: Option<&IdempotencyKey>,
        seen: &IfMatch,
    ) -> Result<Token, Error> {
        self.store.write(|transaction| {
            actor.may(Operation::SeeOrganization, organization)?;
            if let Some(rotated) = self.repeated(transaction, actor, organization, key)? {
                return Ok(rotated);
            }
            let mut token = find(transaction, organization, id)?;
            token.changed_by(transaction, actor, organization, Deed::Rotate)?;
            token.check_unchanged(transaction, actor, organization, seen)?;
            let now = self.now();
            token.generation += 1;
            token.last_rotated_at = Some(now);
            (token.updated_at, token.updated_by) = (now, actor.id.clone());
            self.issue(transaction, organization, &mut token)?;
            transaction.execute(
                "UPDATE token SET generation = ?2, short = ?3, last_rotated_at = ?4, updated_at = ?4, updated_by = ?5 WHERE id = ?1",
                params![id, token.generation, token.short_token, now.unix(), actor.id],
            )?;
            publish_token(transaction, organization, &token, None)?;
            self.repeatable(transaction, actor, &token, key)?;
            token.shown(transaction, |_| true)
        })
    }
}
