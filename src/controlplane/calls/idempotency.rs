//! Idempotency keys (draft-ietf-httpapi-idempotency-key-header): a call that creates a token value can be repeated
//! after its answer was lost, and is carried out once.
//!
//! Token values are never stored, so a repeat mints the value again: Ed25519 is deterministic, and everything that is
//! signed is stored. A repeat shows the value for some minutes only, and only while it is the token's newest.

use rusqlite::{OptionalExtension, params};

use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;

/// Time for which a repeat shows the value again, in seconds.
const SHOWN: i64 = 15 * 60;
/// Time for which a key is stored, in seconds.
const KEPT: i64 = 24 * 3600;

/// Idempotency key of a call, with the call's fingerprint.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// Key that the caller chose.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub fingerprint: [u8; 32],
}

/// Result of the first call with a key.
pub(in crate::controlplane) struct Made {
    /// Id of the token.
    pub(in crate::controlplane) token: String,
    /// Generation of the token's value.
    pub(in crate::controlplane) generation: u32,
}

impl IdempotencyKey {
    /// Returns the result of the first call with this key, or none if this call is the first.
    pub(in crate::controlplane) fn find(
        &self,
        transaction: &Transaction<'_>,
        actor: &str,
        now: Time,
    ) -> Result<Option<Made>, Error> {
        let query = "SELECT fingerprint, token, generation, at FROM idempotency WHERE actor = ?1 AND key = ?2 AND at > ?3";
        let row = params![actor, self.key, now.plus(-KEPT).unix()];
        let found: Option<(Vec<u8>, Made, i64)> = transaction
            .query_row(query, row, |row| {
                let made = Made { token: row.get(1)?, generation: row.get(2)? };
                Ok((row.get(0)?, made, row.get(3)?))
            })
            .optional()?;
        match found {
            None => Ok(None),
            Some((fingerprint, ..)) if fingerprint != self.fingerprint => Err(Error::KeyReused),
            Some((.., at)) if now.since(Time::from_unix(at)) > SHOWN => Err(Error::Conflict {
                code: "idempotency_key_old",
                detail: "this call was carried out a while ago, and its value is not shown again; rotate the token if it was lost"
                    .into(),
            }),
            Some((_, made, _)) => Ok(Some(made)),
        }
    }

    /// Stores the result of the call.
    pub(in crate::controlplane) fn keep(
        &self,
        transaction: &Transaction<'_>,
        actor: &str,
        made: &Made,
        now: Time,
    ) -> Result<(), Error> {
        transaction.execute("DELETE FROM idempotency WHERE at <= ?1", [now.plus(-KEPT).unix()])?;
        let row = params![actor, self.key, self.fingerprint, made.token, made.generation, now.unix()];
        transaction.execute(
            "INSERT INTO idempotency (actor, key, fingerprint, token, generation, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            row,
        )?;
        Ok(())
    }
}
