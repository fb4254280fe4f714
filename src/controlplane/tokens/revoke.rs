//! Revokes a token that was revoked on a host.

use rusqlite::{OptionalExtension as _, params};

use super::issue::publish_token;
use super::{COLUMNS, read_row};
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::reconciliation::Outcome;
use crate::protocol::time::Time;
use crate::protocol::token::TokenKind;

impl ControlPlane {
    /// Ends a direct-access token of `data_plane` at time `at`, like a deletion: no rotation revives it. A token
    /// without a record on that data plane is left alone, because the node has no say over it.
    #[expect(clippy::unused_self, reason = "it is one of the things that can be done with a token")]
    pub(in crate::controlplane) fn revoke_for_node(
        &self,
        transaction: &Transaction<'_>,
        data_plane: &str,
        token: &str,
        at: Time,
        node: &str,
    ) -> Result<Outcome, Error> {
        let published = transaction
            .prepare_cached("SELECT 1 FROM record WHERE data_plane = ?1 AND kind = 'token' AND key = ?2")?
            .exists([data_plane, token])?;
        if !published {
            return Ok(Outcome::Unknown);
        }
        let query = format!("SELECT {COLUMNS} FROM token WHERE id = ?1 AND deleted_at IS NULL");
        let found = transaction.query_row(&query, [token], read_row).optional()?;
        let Some(found) = found.filter(|found| found.kind == TokenKind::DirectAccess) else {
            return Ok(Outcome::Already);
        };
        let row = params![token, at.unix(), node];
        transaction.execute("UPDATE token SET deleted_at = ?2, updated_by = ?3 WHERE id = ?1", row)?;
        let query = "SELECT organization FROM token WHERE id = ?1";
        let organization: String = transaction.query_row(query, [token], |row| row.get(0))?;
        publish_token(transaction, &organization, &found, Some(at))?;
        Ok(Outcome::Revoked)
    }
}
