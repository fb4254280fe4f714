//! Retention: bounds the tables that grow with use, in days and in bytes.
//!
//! | table | deleted by age | deleted first beyond the byte limit |
//! | --- | --- | --- |
//! | `event` | the oldest | denials, then the oldest of the node with the most bytes |
//! | `audit_log` | the oldest | rejected calls, then the oldest |
//! | `change` | removals | removals; nodes that are further behind receive a snapshot |
//!
//! Deploys are kept. Of their archives, those in force and the ten newest of each deployment are kept.
//!
//! Denials are deleted first because anybody can cause them: noise must not displace the record of allowed requests.
//! For the same reason a node that sends more events than others displaces its own first: a node key that was stolen must not
//! erase what other nodes recorded. The newest events of each node are kept, so that a node that repeats its last call is
//! recognised.
//!
//! Ages are computed with a clock of retention's own, which follows the wall clock unless that jumps ahead.

mod changes;
mod clock;
mod housekeeper;
mod shares;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rusqlite::params;
use serde::Deserialize;

use super::ControlPlane;
use super::error::Error;
use super::memory::metrics::Cause;
use crate::protocol::time::Time;

pub use housekeeper::Housekeeper;

const DAY: i64 = 86_400;
/// Rows deleted per transaction. Other writers wait for it.
const BATCH: usize = 500;
/// Transactions per round. Rows that remain are deleted in the next round.
const BATCHES: usize = 400;
/// Number of newest events of each node that are kept regardless of age. A call brings at most a thousand, and is
/// repeated if its answer is lost.
const RECENT_EVENTS: i64 = 4000;

/// Limits of retention.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Maximum age of nodes' events, in days.
    pub event_days: i64,
    /// Maximum size of nodes' events, in bytes.
    pub event_max_bytes: i64,
    /// Maximum age of audit-log lines, in days.
    pub audit_log_days: i64,
    /// Maximum size of audit-log lines, in bytes.
    pub audit_log_max_bytes: i64,
    /// Maximum age of removals from a replica, in days. Nodes that are further behind receive a snapshot.
    pub change_days: i64,
    /// Maximum size of removals, in bytes for each data plane.
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

/// Table that is pruned by rows.
struct Table {
    name: &'static str,
    /// Statement that deletes at most `?1` rows older than `?2`.
    aged: &'static str,
    /// Statements that delete at most `?1` rows each, in the order in which they are run.
    surplus: &'static [&'static str],
}

/// Makes a statement that deletes events that match the condition, in that order. The newest events of each node's current log
/// are kept, except lines longer than 16 KiB, which no node of this program writes: 4000 of those could exceed the byte limit of
/// all events.
macro_rules! delete_events {
    ($condition:literal, $order:literal) => {
        concat!(
            "DELETE FROM event WHERE (node, branch, sequence) IN (
             SELECT node, branch, sequence FROM event WHERE ",
            $condition,
            " AND (octet_length(line) > 16384 OR NOT EXISTS (
                 SELECT 1 FROM node_log WHERE node_log.node = event.node AND node_log.branch = event.branch
                     AND event.sequence > node_log.sequence - ?3))
             ORDER BY ",
            $order,
            " LIMIT ?1)"
        )
    };
}
use delete_events;

const EVENT: Table = Table {
    name: "event",
    aged: delete_events!("received_at < ?2", "received_at"),
    surplus: &[delete_events!("decision = 'deny' AND ?2 IS NOT NULL", "received_at")],
};

const AUDIT_LOG: Table = Table {
    name: "audit_log",
    // The age limit is far longer than any call takes, so no line of a call in progress is deleted.
    aged: "DELETE FROM audit_log WHERE id IN (
        SELECT id FROM audit_log WHERE at < ?2 ORDER BY at LIMIT ?1) AND ?3 > 0",
    surplus: &[
        "DELETE FROM audit_log WHERE id IN (
        SELECT id FROM audit_log WHERE status >= 400 AND status < 500 ORDER BY at LIMIT ?1) AND ?3 > 0",
        "DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log ORDER BY at LIMIT ?1) AND ?3 > 0",
    ],
};

/// Returns the size that a table beyond its limit is brought to: ten percent less than the limit, so that not every round finds
/// a few rows too many.
const fn aim(max_bytes: i64) -> i64 {
    max_bytes - max_bytes / 10
}

impl ControlPlane {
    /// Deletes rows beyond the age or size that `retention` allows. The work per call is bounded: a large surplus takes
    /// several rounds. Returns before its next transaction once `stop` returns true; the next round continues.
    ///
    /// `ran` is the time since the last round by a monotonic clock. After the wall clock jumped ahead, nothing becomes older until
    /// the sum of `ran` reaches seven days.
    pub fn prune(&self, retention: &Retention, ran: Duration, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        let now = self.move_retention_clock(ran)?;
        let before = now.plus(-retention.event_days * DAY);
        let batches = self.prune_table(&EVENT, before, retention.event_max_bytes, stop)?;
        self.prune_largest_nodes(retention.event_max_bytes, batches, stop)?;
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
        self.prune_deploys(now)?;
        self.compact_changes(retention, now, stop)
    }

    /// Returns the number of transactions that the round has left.
    fn prune_table(
        &self,
        table: &Table,
        before: Time,
        max_bytes: i64,
        stop: &dyn Fn() -> bool,
    ) -> Result<usize, Error> {
        let mut left = BATCHES;
        while left > 0 && !stop() {
            let deleted = self.delete(table.aged, before)?;
            self.metrics.pruned(table.name, Cause::Age, deleted);
            left -= 1;
            if deleted < BATCH {
                break;
            }
        }
        if self.bytes_of(table.name)? <= max_bytes {
            return Ok(left);
        }
        for surplus in table.surplus {
            while left > 0 && !stop() && self.bytes_of(table.name)? > aim(max_bytes) {
                let deleted = self.delete(surplus, before)?;
                self.metrics.pruned(table.name, Cause::Bytes, deleted);
                left -= 1;
                if deleted == 0 {
                    break;
                }
            }
        }
        Ok(left)
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
