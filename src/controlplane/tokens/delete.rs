//! Deletes tokens permanently.

use rusqlite::params;

use super::issue::publish_token;
use super::{Deed, Stored, find};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;

impl ControlPlane {
    /// Deletes a token. Its record stays on the data plane as revoked, so that nodes reject the token.
    pub fn delete_token(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        seen: &IfMatch,
    ) -> Result<(), Error> {
        self.store.write(|transaction| {
            actor.may(Operation::SeeOrganization, organization)?;
            let token = find(transaction, organization, id)?;
            token.changed_by(transaction, actor, organization, Deed::Delete)?;
            token.check_unchanged(transaction, actor, organization, seen)?;
            let now = self.now();
            delete(transaction, organization, &token, now, actor)
        })
    }

    /// Deletes every token of a deployment that is being deleted, and removes the assignments to it. A caller who may
    /// delete the deployment may do so, since it only removes access.
    pub(in crate::controlplane) fn delete_tokens_of(
        &self,
        transaction: &Transaction<'_>,
        organization: &str,
        deployment: &str,
        actor: &Actor,
    ) -> Result<(), Error> {
        let query = "SELECT id FROM token WHERE organization = ?1 AND entity = ?2 AND type = 'DEPLOYMENT' AND deleted_at IS NULL";
        let ids: Vec<String> = transaction
            .prepare_cached(query)?
            .query_map([organization, deployment], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for id in ids {
            let token = find(transaction, organization, &id)?;
            delete(transaction, organization, &token, self.now(), actor)?;
        }
        transaction.execute("DELETE FROM token_role WHERE deployment = ?1", [deployment])?;
        Ok(())
    }
}

fn delete(
    transaction: &Transaction<'_>,
    organization: &str,
    token: &Stored,
    now: Time,
    actor: &Actor,
) -> Result<(), Error> {
    transaction.execute(
        "UPDATE token SET deleted_at = ?2, updated_by = ?3 WHERE id = ?1",
        params![token.id, now.unix(), actor.id],
    )?;
    publish_token(transaction, organization, token, Some(now))
}
