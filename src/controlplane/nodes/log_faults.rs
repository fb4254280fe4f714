//! Faults of the nodes' audit logs: events that do not follow from the stored ones, or contradict what the node signed.

use rusqlite::{Connection, params};

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;

/// Time for which a node is told of a fault of its log, in seconds.
const TOLD: i64 = 24 * 3600;
/// Maximum number of faults that a node is told of.
const MAX_TOLD: u64 = 16;

/// Fault of a node's log.
pub(in crate::controlplane) struct Fault<'a> {
    pub(in crate::controlplane) node: &'a str,
    pub(in crate::controlplane) branch: u64,
    /// Sequence number of the event at which it was found.
    pub(in crate::controlplane) sequence: u64,
    /// Code of the fault, for programs.
    pub(in crate::controlplane) kind: &'a str,
    /// Explanation of the fault, for people.
    pub(in crate::controlplane) what: &'a str,
}

impl Fault<'_> {
    /// Stores and logs the fault unless it is already stored. Returns true if it was new.
    pub(in crate::controlplane) fn note(
        &self,
        transaction: &Transaction<'_>,
        now: Time,
    ) -> Result<bool, Error> {
        let Self { node, branch, sequence, kind, what } = *self;
        let written = transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO log_fault (node, branch, sequence, kind, what, noted_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![node, branch, sequence, kind, what, now.unix()])?;
        if written > 0 {
            tracing::warn!(node, sequence, kind, what, "a node's log has a fault");
        }
        Ok(written > 0)
    }

    /// Returns true if the fault is already stored.
    pub(in crate::controlplane) fn is_known(&self, connection: &Connection) -> Result<bool, Error> {
        let query = "SELECT 1 FROM log_fault WHERE node = ?1 AND branch = ?2 AND sequence = ?3 AND kind = ?4";
        let row = params![self.node, self.branch, self.sequence, self.kind];
        Ok(connection.prepare_cached(query)?.exists(row)?)
    }
}

impl ControlPlane {
    /// Returns the recent faults of a node's log for its host. A log that was restarted is left out, because the host
    /// knows that.
    pub(in crate::controlplane) fn recent_log_faults(&self, node: &str) -> Result<Vec<String>, Error> {
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
