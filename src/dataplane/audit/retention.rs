//! Retention: old events are dropped, never one that the control plane has not taken in.
//!
//! What is kept must still be proved to be whole. So the log is cut behind a checkpoint only, and the node signs that it
//! has dropped what stood before: without that anchor a log that does not begin at its beginning is a fault.

use std::sync::Arc;

use rusqlite::Connection;

use super::AuditError;
use super::uploaded::uploaded;
use crate::protocol::event::Checkpoint;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::time::Time;

/// Checkpoints looked at in one pass: it must not keep the writer from writing.
const PASS: usize = 1000;

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Events recorded longer ago than so many seconds may go.
    pub seconds: Option<i64>,
    /// Above so many bytes the oldest events may go.
    pub bytes: Option<u64>,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pass {
    /// Events up to this one were dropped by it; 0: none.
    pub(super) through: u64,
    /// The log is larger than it should be, and nothing more of it may go.
    pub(super) stuck: bool,
}

impl Retention {
    /// Drops what is too old or too much.
    pub(super) fn apply(
        self,
        connection: &mut Connection,
        key: &Arc<SigningKey>,
        now: Time,
    ) -> Result<Pass, AuditError> {
        if self == Self::default() {
            return Ok(Pass::default());
        }
        let mut excess = match self.bytes {
            Some(limit) => size(connection)?.saturating_sub(limit),
            None => 0,
        };
        let mut last = None;
        for checkpoint in droppable(connection, key)? {
            let old = self.seconds.is_some_and(|seconds| now.since(checkpoint.iat) >= seconds);
            if !old && excess == 0 {
                break;
            }
            let from = last.as_ref().map_or(0, |last: &Checkpoint| last.sequence);
            let freed: u64 = connection
                .prepare_cached(
                    "SELECT coalesce(sum(length(lines)), 0) FROM block
                     WHERE first > ?1 AND first <= ?2 AND last <= ?2",
                )?
                .query_row([from, checkpoint.sequence], |row| row.get(0))?;
            excess = excess.saturating_sub(freed);
            last = Some(checkpoint);
        }
        let Some(last) = last else { return Ok(Pass { through: 0, stuck: excess > 0 }) };
        let through = last.sequence;
        let anchor = Checkpoint { iat: now, dropped: true, ..last };
        let text = sign(Typ::AuditCheckpoint, &serde_json::to_vec(&anchor)?, key);
        let transaction = connection.transaction()?;
        transaction.execute("DELETE FROM block WHERE first <= ?1 AND last <= ?1", [through])?;
        transaction.execute("DELETE FROM checkpoint WHERE sequence <= ?1", [through])?;
        transaction.execute("INSERT OR REPLACE INTO anchor VALUES (1, ?1)", [text])?;
        transaction.commit()?;
        // Gives the space back to the disk, for whoever is short of it.
        connection.execute_batch("PRAGMA incremental_vacuum")?;
        Ok(Pass { through, stuck: excess > 0 })
    }
}

/// The checkpoints behind which the log may be cut, oldest first: all that stands before was taken in above, and something
/// stays.
fn droppable(connection: &Connection, key: &Arc<SigningKey>) -> Result<Vec<Checkpoint>, AuditError> {
    let mut statement = connection.prepare_cached(
        "SELECT text FROM checkpoint WHERE sequence <= ?1 AND sequence < (SELECT max(sequence) FROM checkpoint)
         ORDER BY sequence LIMIT ?2",
    )?;
    let rows = statement
        .query_map((uploaded(connection)?.sequence, PASS), |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    // What does not hold is left for whoever verifies the log.
    Ok(rows.iter().map_while(|text| Checkpoint::verify(text, key.public()).ok()).collect())
}

/// What the log takes up on the disk, in bytes, without what is free within it.
fn size(connection: &Connection) -> Result<u64, AuditError> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    Ok((pragma("page_count")?.saturating_sub(pragma("freelist_count")?)) * pragma("page_size")?)
}
