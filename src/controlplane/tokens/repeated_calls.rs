//! Repeats of calls that created a token value: the same value is minted again.

use super::{Deed, Stored, find};
use crate::api::token::Token;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::calls::idempotency::{IdempotencyKey, Made};
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;

impl ControlPlane {
    /// Returns the result of the first call with this key, with the token's value, or none if this call is the first.
    pub(super) fn find_repeated(
        &self,
        transaction: &Transaction<'_>,
        actor: &Actor,
        organization: &str,
        key: Option<&IdempotencyKey>,
    ) -> Result<Option<Token>, Error> {
        let Some(key) = key else { return Ok(None) };
        let now = (self.now(), self.trusted_time_in(transaction)?);
        let Some(made) = key.find(transaction, &actor.id, now)? else { return Ok(None) };
        let gone = || Error::Conflict {
            code: "idempotency_key_superseded",
            detail: "the token of this call has been rotated or deleted since; its value is not shown again"
                .into(),
        };
        let mut token = find(transaction, organization, &made.token).map_err(|_| gone())?;
        if token.generation != made.generation {
            return Err(gone());
        }
        // The caller receives the value, so the permissions are checked as they are now.
        token.changed_by(transaction, actor, organization, Deed::Rotate)?;
        self.issue(transaction, organization, &mut token)?;
        token.shown(transaction, |_| true).map(Some)
    }

    /// Stores the result of a call with this key.
    pub(super) fn keep_for_repeats(
        &self,
        transaction: &Transaction<'_>,
        actor: &Actor,
        token: &Stored,
        key: Option<&IdempotencyKey>,
    ) -> Result<(), Error> {
        let Some(key) = key else { return Ok(()) };
        let made = Made { token: token.id.clone(), generation: token.generation };
        key.keep(transaction, &actor.id, &made, (self.now(), self.trusted_time_in(transaction)?))
    }
}
