//! Retention: the tables that grow with use are bounded in days and in bytes.
//!
//! | table | by age goes | beyond its bytes goes first |
//! | --- | --- | --- |
//! | `event` | the oldest | denials, then the oldest |
//! | `audit_log` | the oldest | refused calls, then the oldest |
//! | `change` | removals | removals; nodes that are further behind get a snapshot |
//!
//! Denials go first because anybody can cause them: noise must not push out the record of what was allowed. The newest
//! events of each node stay, so that a node that repeats its last call is recognised.

mod changes;
mod housekeeper;
#[cfg(test)]
mod tests;

use rusqlite::params;
use serde::Deserialize;

use super::ControlPlane;
use super::error::Error;
use crate::protocol::time::Time;

pub use housekeeper::Housekeeper;

const DAY: i64 = 86_400;
/// Rows that one transaction deletes: other writers wait for it.
const BATCH: usize = 500;
/// Transactions of one round. What is left over waits for the next.
const BATCHES: usize = 400;
/// Events of each node that stay whatever their age. A call brings at most a thousand, and is repeated if its answer is lost.
const RECENT_EVENTS: i64 = 4000;

/// How long, and how much, is kept.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Days that events of nodes are kept.
    pub event_days: i64,
    /// Bytes of them.
    pub event_max_bytes: i64,
    /// Days that lines of the audit log of calls are kept.
    pub audit_log_days: i64,
    /// Bytes of them.
    pub audit_log_max_bytes: i64,
    /// Days that a removal from a replica is kept, for nodes that are behind.
    pub change_days: i64,
    /// Bytes of them, for each data plane.
    pub change_max_bytes: i64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            event_days: 400,
            event_max_bytes: 4 << 30,
            audit_log_days: 1100,
            audit_log_max_bytes: 1 << 30,
            change_days: 30,
            change_max_bytes: 64 << 20,
        }
    }
}

/// Why rows were deleted: the labels of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Age,
    Bytes,
}

impl Cause {
    pub(super) const ALL: [Self; 2] = [Self::Age, Self::Bytes];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Bytes => "bytes",
        }
    }
}

/// A table that is pruned by rows.
struct Table {
    name: &'static str,
    /// Deletes at most `?1` rows that are older than `?2`.
    aged: &'static str,
    /// Deletes at most `?1` rows, in the order in which they may go.
    surplus: [&'static str; 2],
}

const EVENT: Table = Table {
    name: "event",
    aged: "DELETE FROM event WHERE (node, branch, sequence) IN (
        SELECT node, branch, sequence FROM event
        WHERE received_at < ?2 AND sequence <= (SELECT sequence FROM node_log WHERE node_log.node = event.node) - ?3
        ORDER BY received_at LIMIT ?1)",
    surplus: [
        "DELETE FROM event WHERE (node, branch, sequence) IN (
        SELECT node, branch, sequence FROM event
        WHERE decision = 'deny' AND sequence <= (SELECT sequence FROM node_log WHERE node_log.node = event.node) - ?3
        ORDER BY received_at LIMIT ?1)",
        "DELETE FROM event WHERE (node, branch, sequence) IN (
        SELECT node, branch, sequence FROM event
        WHERE sequence <= (SELECT sequence FROM node_log WHERE node_log.node = event.node) - ?3
        ORDER BY received_at LIMIT ?1)",
    ],
};

const AUDIT_LOG: Table = Table {
    name: "audit_log",
    // A call is never so old and still under way that its line could be missed.
    aged: "DELETE FROM audit_log WHERE id IN (
        SELECT id FROM audit_log WHERE at < ?2 ORDER BY at LIMIT ?1) AND ?3 > 0",
    surplus: [
        "DELETE FROM audit_log WHERE id IN (
        SELECT id FROM audit_log WHERE status >= 400 AND status < 500 ORDER BY at LIMIT ?1) AND ?3 > 0",
        "DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log ORDER BY at LIMIT ?1) AND ?3 > 0",
    ],
};

impl ControlPlane {
    /// Deletes what is older or larger than `retention` allows. Bounded in time: a large surplus takes several rounds. Returns
    /// before its next transaction once `stop` returns true; the next round goes on from there.
    pub fn prune(&self, retention: &Retention, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        let now = self.now();
        self.prune_table(&EVENT, now.plus(-retention.event_days * DAY), retention.event_max_bytes, stop)?;
        let before = now.plus(-retention.audit_log_days * DAY);
        self.prune_table(&AUDIT_LOG, before, retention.audit_log_max_bytes, stop)?;
        if stop() {
            return Ok(());
        }
        self.store.note(|transaction| {
            let before = now.plus(-retention.event_days * DAY).unix();
            transaction.execute("DELETE FROM log_fault WHERE noted_at < ?1", [before])?;
            Ok(())
        })?;
        self.compact_changes(retention, now, stop)
    }

    fn prune_table(
        &self,
        table: &Table,
        before: Time,
        max_bytes: i64,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let mut batches = 0;
        while batches < BATCHES && !stop() {
            let deleted = self.delete(table.aged, before)?;
            self.metrics.pruned(table.name, Cause::Age, deleted);
            batches += 1;
            if deleted < BATCH {
                break;
            }
        }
        if self.bytes_of(table.name)? <= max_bytes {
            return Ok(());
        }
        // Some more than needed, or every round would find a few rows too many.
        let aim = max_bytes - max_bytes / 10;
        for surplus in table.surplus {
            while batches < BATCHES && !stop() && self.bytes_of(table.name)? > aim {
                let deleted = self.delete(surplus, before)?;
                self.metrics.pruned(table.name, Cause::Bytes, deleted);
                batches += 1;
                if deleted == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    fn delete(&self, statement: &str, before: Time) -> Result<usize, Error> {
        self.store.note(|transaction| {
            let row = params![BATCH, before.unix(), RECENT_EVENTS];
            Ok(transaction.prepare_cached(statement)?.execute(row)?)
        })
    }

    fn bytes_of(&self, table: &str) -> Result<i64, Error> {
        self.store.read(|connection| {
            let mut query = connection.prepare_cached("SELECT bytes FROM table_size WHERE name = ?1")?;
            Ok(query.query_row([table], |row| row.get(0))?)
        })
    }
}
