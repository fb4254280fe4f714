//! Checkpoints of nodes' logs: what a node signed of its log, held against the events that arrived. The last one of a branch is
//! kept: events are chained, so its signature vouches for all before it.

use rusqlite::{OptionalExtension as _, params};

use super::ControlPlane;
use super::error::Error;
use crate::protocol::event::Checkpoint;
use crate::protocol::jws::{Typ, Unverified};
use crate::protocol::key::PublicKey;
use crate::protocol::time::Time;

/// For how long a node is told of a fault of its log, in seconds.
const TOLD: i64 = 24 * 3600;
/// Faults that a node is told at once.
const MAX_TOLD: u64 = 16;

impl ControlPlane {
    /// Takes a checkpoint whose event, the node says, has arrived. One that the node did not sign says nothing; one that was
    /// signed for another event than arrived is a fault of the log.
    pub(super) fn take_checkpoint(&self, node: &str, text: &str) -> Result<(), Error> {
        let key: String = self.store.read(|connection| {
            Ok(connection.query_row("SELECT key FROM node WHERE id = ?1", [node], |row| row.get(0))?)
        })?;
        let Some(checkpoint) =
            signed(text, &key).filter(|signed| signed.iss.as_str() == node && !signed.dropped)
        else {
            tracing::warn!(node, "a checkpoint is not believed");
            return Ok(());
        };
        let now = self.now();
        let (arrived, other, kept) = self.store.read(|connection| {
            let arrived: Option<(u64, u64)> = connection
                .prepare_cached("SELECT branch, sequence FROM event WHERE node = ?1 AND hash = ?2")?
                .query_row([node, &checkpoint.hash], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let other: Option<(u64, String)> = connection
                .prepare_cached(
                    "SELECT event.branch, event.hash FROM event, node_log WHERE node_log.node = ?1 AND event.node = ?1
                     AND event.branch = node_log.branch AND event.sequence = ?2",
                )?
                .query_row(params![node, checkpoint.sequence], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let kept: Option<String> = match arrived {
                Some((branch, _)) => connection
                    .prepare_cached("SELECT text FROM checkpoint WHERE node = ?1 AND branch = ?2")?
                    .query_row(params![node, branch], |row| row.get(0))
                    .optional()?,
                None => None,
            };
            Ok((arrived, other, kept))
        })?;
        match (arrived, other) {
            (Some((branch, sequence)), _) if sequence == checkpoint.sequence => {
                if kept.as_deref() == Some(text) {
                    return Ok(());
                }
                self.store.note(|transaction| {
                    let row = params![node, branch, sequence, checkpoint.hash, text, now.unix()];
                    transaction
                        .prepare_cached(
                            "INSERT OR REPLACE INTO checkpoint (node, branch, sequence, hash, text, received_at)
                             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                        )?
                        .execute(row)?;
                    Ok(())
                })
            }
            (None, Some((branch, hash))) => {
                let what = format!(
                    "the node signed that event {} hashes to {}, and the event that arrived hashes to {hash}",
                    checkpoint.sequence, checkpoint.hash
                );
                tracing::warn!(node, sequence = checkpoint.sequence, what, "a node's log has a fault");
                self.store.note(|transaction| {
                    let row = params![node, branch, checkpoint.sequence, what, now.unix()];
                    transaction
                        .prepare_cached(
                            "INSERT OR IGNORE INTO log_fault (node, branch, sequence, kind, what, noted_at)
                             VALUES (?1, ?2, ?3, 'checkpoint', ?4, ?5)",
                        )?
                        .execute(row)?;
                    Ok(())
                })
            }
            // It has not arrived, as after a restore of this control plane, or it is not kept any more.
            _ => Ok(()),
        }
    }

    /// Returns the recent faults of a node's log that its host is told of. A log that begins anew is left out: its host knows.
    pub(super) fn recent_log_faults(&self, node: &str) -> Result<Vec<String>, Error> {
        let since = self.now().plus(-TOLD).unix();
        self.store.read(|connection| {
            let mut faults = connection.prepare_cached(
                "SELECT kind, sequence, what, noted_at FROM log_fault
                 WHERE node = ?1 AND noted_at >= ?2 AND kind <> 'restart' ORDER BY noted_at DESC LIMIT ?3",
            )?;
            let told = faults.query_map(params![node, since, MAX_TOLD], |row| {
                let (kind, sequence, what) =
                    (row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get::<_, String>(2)?);
                let at = Time::from_unix(row.get(3)?).rfc3339();
                Ok(format!("{kind} at event {sequence}, found at {at}: {what}"))
            })?;
            Ok(told.collect::<Result<_, _>>()?)
        })
    }
}

fn signed(text: &str, key: &str) -> Option<Checkpoint> {
    let key = PublicKey::from_jwk(&serde_json::from_str(key).ok()?).ok()?;
    Unverified::parse(text.as_bytes(), 4096).ok()?.verify(Typ::AuditCheckpoint, &key).ok()?.claims().ok()
}
