//! Idempotency keys (draft-ietf-httpapi-idempotency-key-header): a call that makes a token's value can be repeated when
//! its answer was lost, and is carried out once.
//!
//! A value is kept nowhere, so a repeat mints it again: Ed25519 is deterministic, and all that is signed is kept. That is
//! done for some minutes only, and only while the value is the token's newest. What is shown once stays a matter of one
//! call, however often it is sent.

use rusqlite::{OptionalExtension, Transaction, params};

use super::error::Error;
use crate::protocol::time::Time;

/// How long a repeat shows the value again, in seconds.
const SHOWN: i64 = 15 * 60;
/// How long a key is known, in seconds.
const KEPT: i64 = 24 * 3600;

/// A key the caller gave a call, and what the call was.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// The key.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub fingerprint: [u8; 32],
}

/// What a call made that is repeated.
pub(super) struct Made {
    /// The token.
    pub(super) token: String,
    /// The generation its value is of.
    pub(super) generation: u32,
}

impl IdempotencyKey {
    /// What the first call with this key made, if this is not it.
    pub(super) fn find(
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

    /// Remembers what the call made.
    pub(super) fn keep(
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
