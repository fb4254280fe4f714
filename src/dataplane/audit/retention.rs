//! Retention: drops old events, and never one that was not uploaded.
//!
//! The rest of the log must still be provable. Therefore the log is cut only at a checkpoint, and the node signs an anchor
//! that states the cut. A log that begins later without such an anchor is a fault.

use std::sync::Arc;

use rusqlite::Connection;

use super::AuditError;
use super::uploaded::uploaded;
use crate::protocol::event::Checkpoint;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::time::Time;

/// Maximum number of checkpoints that one pass reads, so that it does not keep the writer from writing.
const PASS: usize = 1000;

/// Limits of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Age in seconds above which events may be dropped.
    pub seconds: Option<i64>,
    /// Size in bytes above which the oldest events may be dropped.
    pub bytes: Option<u64>,
}

/// Result of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pass {
    /// Sequence number of the last event that the pass dropped, or 0 if none.
    pub(super) through: u64,
    /// True if the log exceeds its limits and no more of it may be dropped.
    pub(super) stuck: bool,
}

impl Retention {
    /// Drops events that exceed the limits.
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
        // Returns the free pages to the file system.
        connection.execute_batch("PRAGMA incremental_vacuum")?;
        Ok(Pass { through, stuck: excess > 0 })
    }
}

/// Returns the checkpoints at which the log may be cut, oldest first. All events before such a checkpoint were uploaded,
/// and at least one event remains.
fn droppable(connection: &Connection, key: &Arc<SigningKey>) -> Result<Vec<Checkpoint>, AuditError> {
    let mut statement = connection.prepare_cached(
        "SELECT text FROM checkpoint WHERE sequence <= ?1 AND sequence < (SELECT max(sequence) FROM checkpoint)
         ORDER BY sequence LIMIT ?2",
    )?;
    let rows = statement
        .query_map((uploaded(connection)?.sequence, PASS), |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    // Stops at an invalid checkpoint, and leaves it to the verification of the log.
    Ok(rows.iter().map_while(|text| Checkpoint::verify(text, key.public()).ok()).collect())
}

/// Returns the size of the log on the disk, in bytes, without free pages.
fn size(connection: &Connection) -> Result<u64, AuditError> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    Ok((pragma("page_count")?.saturating_sub(pragma("freelist_count")?)) * pragma("page_size")?)
}
