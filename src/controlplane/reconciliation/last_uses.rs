//! Last uses of tokens, written at most once a minute for each token. They show people which tokens are still needed,
//! and are no record of every use.

use rusqlite::{OptionalExtension, params};

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;

/// Minimum time between two stored uses, in seconds.
const COARSE: i64 = 60;

impl ControlPlane {
    /// Stores that a token was used at `at` for `on`, a deployment's id or `control-plane`. A failed write does not
    /// fail the call.
    pub fn used(&self, token: &str, at: Time, on: &str) {
        self.bookkeeping.settle("the last use of a token", self.note_use(token, at, on));
    }

    /// Stores a use. Returns false if the stored one is recent enough.
    fn note_use(&self, token: &str, at: Time, on: &str) -> Result<bool, Error> {
        let known: Option<Option<i64>> = self.store.read(|connection| {
            let mut query = connection.prepare_cached("SELECT last_used_at FROM token WHERE id = ?1")?;
            Ok(query.query_row([token], |row| row.get(0)).optional()?)
        })?;
        let news = known.is_some_and(|before| before.is_none_or(|before| at.unix() >= before + COARSE));
        if news {
            self.store.note(|transaction| note(transaction, token, at, on))?;
        }
        Ok(news)
    }
}

/// Stores a use unless a later one is stored.
pub(in crate::controlplane) fn note(
    transaction: &Transaction<'_>,
    token: &str,
    at: Time,
    on: &str,
) -> Result<(), Error> {
    transaction
        .prepare_cached(
            "UPDATE token SET last_used_at = ?2, last_used_on = ?3
             WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)",
        )?
        .execute(params![token, at.unix(), on])?;
    Ok(())
}
