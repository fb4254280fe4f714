//! Deletes events beyond the byte limit, of the node with the most bytes first, so that no node displaces what others recorded
//! before it has lost its own surplus.

use rusqlite::params;

use super::{BATCH, EVENT, RECENT_EVENTS, aim, delete_events};
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::memory::metrics::Cause;
use crate::controlplane::store::table_size::EVENT_OVERHEAD;

/// Deletes at most `?1` events of the node `?2`, in the order of its logs.
const OF_NODE: &str = delete_events!("node = ?2", "branch, sequence");

impl ControlPlane {
    /// Deletes events until they fit into `max_bytes`, in at most `batches` transactions.
    pub(super) fn prune_largest_nodes(
        &self,
        max_bytes: i64,
        batches: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let mut bytes = self.bytes_of(EVENT.name)?;
        if bytes <= max_bytes || batches == 0 || stop() {
            return Ok(());
        }
        let mut nodes = self.bytes_by_node()?;
        for _ in 0..batches {
            let largest = nodes.iter_mut().max_by_key(|(_, bytes)| *bytes);
            let Some((node, of_node)) = largest.filter(|_| bytes > aim(max_bytes) && !stop()) else { break };
            let deleted = self.store.note(|transaction| {
                Ok(transaction.prepare_cached(OF_NODE)?.execute(params![BATCH, *node, RECENT_EVENTS])?)
            })?;
            self.metrics.pruned(EVENT.name, Cause::Bytes, deleted);
            let before = std::mem::replace(&mut bytes, self.bytes_of(EVENT.name)?);
            *of_node -= before - bytes;
            if deleted < BATCH {
                // Only its newest events are left.
                let node = node.clone();
                nodes.retain(|(other, _)| *other != node);
            }
        }
        Ok(())
    }

    /// Returns the size of each node's events, in bytes. It reads the whole table, which happens only beyond the byte limit.
    fn bytes_by_node(&self) -> Result<Vec<(String, i64)>, Error> {
        let query =
            format!("SELECT node, sum(octet_length(line) + {EVENT_OVERHEAD}) FROM event GROUP BY node");
        self.store.read(|connection| {
            let mut statement = connection.prepare_cached(&query)?;
            let nodes = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(nodes.collect::<Result<_, _>>()?)
        })
    }
}
