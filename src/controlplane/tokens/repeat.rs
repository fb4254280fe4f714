//! Repeating a call that made a value: the same token, the same value, minted again.

use rusqlite::Transaction;

use super::{Deed, Token, find};
use crate::controlplane::ControlPlane;
use crate::controlplane::authorization::Actor;
use crate::controlplane::error::Error;
use crate::controlplane::idempotency::{IdempotencyKey, Made};

impl ControlPlane {
    /// What the first call with this key made, with its value, if this is a repeat of it.
    pub(super) fn repeated(
        &self,
        transaction: &Transaction<'_>,
        actor: &Actor,
        organization: &str,
        key: Option<&IdempotencyKey>,
    ) -> Result<Option<Token>, Error> {
        let made = key.map(|key| key.find(transaction, &actor.id, self.now())).transpose()?.flatten();
        let Some(made) = made else { return Ok(None) };
        let gone = || Error::Conflict {
            code: "idempotency_key_superseded",
            detail: "what this call made has been rotated or deleted since; its value is not shown again"
                .into(),
        };
        let mut token = find(transaction, organization, &made.token).map_err(|_| gone())?;
        if token.generation != made.generation {
            return Err(gone());
        }
        // Whoever gets the value holds it: what they could do a moment ago they must be able to do now.
        token.changed_by(transaction, actor, organization, Deed::Rotate)?;
        self.issue(transaction, &mut token)?;
        token.shown(transaction, |_| true).map(Some)
    }

    /// Remembers what a call with this key made.
    pub(super) fn repeatable(
        &self,
        transaction: &Transaction<'_>,
        actor: &Actor,
        token: &Token,
        key: Option<&IdempotencyKey>,
    ) -> Result<(), Error> {
        let made = Made { token: token.id.clone(), generation: token.generation };
        key.map_or(Ok(()), |key| key.keep(transaction, &actor.id, &made, self.now()))
    }
}
