//! Checkpoints of nodes' logs: verifies what a node signed about its log against the events that arrived. The last
//! checkpoint of each branch is kept; events are chained, so its signature covers all earlier ones.

use rusqlite::{OptionalExtension as _, params};

use super::enrolment::Caller;
use super::log_faults::{Fault, FoundFaults};
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::protocol::event::Checkpoint;
use crate::protocol::key::PublicKey;

impl ControlPlane {
    /// Processes a checkpoint whose event should have arrived. A checkpoint that the node did not sign is ignored; one
    /// for another event than the one that arrived is a fault of the log. A node sends its checkpoint repeatedly: one
    /// that is kept, or whose fault is known, writes nothing.
    pub(in crate::controlplane) fn take_checkpoint(&self, caller: &Caller, text: &str) -> Result<(), Error> {
        let (node, now) = (caller.node.as_str(), self.now());
        let (key, kept): (String, bool) = self.store.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT key, EXISTS (SELECT 1 FROM checkpoint WHERE checkpoint.node = ?1 AND text = ?2)
                 FROM node WHERE id = ?1",
            )?;
            Ok(query.query_row([node, text], |row| Ok((row.get(0)?, row.get(1)?)))?)
        })?;
        // A kept checkpoint was verified earlier.
        if kept {
            return Ok(());
        }
        let Some(checkpoint) =
            signed(text, &key).filter(|signed| signed.iss.as_str() == node && !signed.dropped)
        else {
            if let Some(left_out) = self.complaints.due(node, "checkpoint", now) {
                tracing::warn!(node, left_out, "a node's checkpoint is invalid, and was ignored");
            }
            return Ok(());
        };
        let (arrived, other) = self.store.read(|connection| {
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
            Ok((arrived, other))
        })?;
        match (arrived, other) {
            (Some((branch, sequence)), _) if sequence == checkpoint.sequence => {
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
                let fault =
                    Fault { node, branch, sequence: checkpoint.sequence, kind: "checkpoint", what: &what };
                if self.store.read(|connection| fault.is_known(connection))? {
                    return Ok(());
                }
                let found = self.store.note(|transaction| {
                    let mut found = FoundFaults::default();
                    found.note(transaction, &fault, now)?;
                    Ok(found)
                })?;
                found.report(self, &caller.data_plane, node);
                Ok(())
            }
            // The event has not arrived, as after a restore of this control plane, or it was pruned.
            _ => Ok(()),
        }
    }
}

fn signed(text: &str, key: &str) -> Option<Checkpoint> {
    let key = PublicKey::from_jwk(&serde_json::from_str(key).ok()?).ok()?;
    Checkpoint::verify(text, &key).ok()
}
