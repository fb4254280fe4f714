//! Compaction of the table `change`: deletes a removal after every node has had time to receive it.
//!
//! Present records have one row each, with the version of their last change, so their rows are bounded. Removals only
//! grow in number. After those up to a version are deleted, no delta can begin before that version: a node that holds
//! an older one receives a snapshot, which contains the present records.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{BATCH, DAY, Retention};
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::memory::metrics::Cause;
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;

/// Time between two marks of a replica's version, at which its removals are also checked, in seconds.
const MARKS: i64 = 3600;
/// Size of a removal without its key, in bytes.
const ROW: i64 = 200;

const REMOVALS: &str = "FROM change LEFT JOIN record USING (data_plane, kind, key)
    WHERE data_plane = ?1 AND record.body IS NULL";

impl ControlPlane {
    /// Deletes removals beyond the age or size that `retention` allows, until `stop` returns true. Ages are computed at the
    /// time `trusted_time`. Marks are set by the wall clock, so that removals are also checked while retention does not trust it.
    pub(super) fn compact_changes(
        &self,
        retention: &Retention,
        trusted_time: Time,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let now = self.now();
        let due: Vec<String> = self.store.read(|connection| {
            let mut rows = connection.prepare_cached(
                "SELECT id FROM data_plane WHERE NOT EXISTS (
                     SELECT 1 FROM version_mark WHERE data_plane = id AND at > ?1 - ?2 AND at <= ?1)",
            )?;
            Ok(rows.query_map(params![now.unix(), MARKS], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })?;
        for plane in &due {
            if stop() {
                break;
            }
            let then = trusted_time.plus(-retention.change_days * DAY);
            let by_age = self.store.note(|transaction| mark(transaction, plane, now, then))?;
            // Compaction goes down to half of the limit, so that the next removal does not cause the next compaction.
            let (limit, aim) = (retention.change_max_bytes, retention.change_max_bytes / 2);
            let by_bytes = self.store.read(|connection| surplus(connection, plane, limit, aim))?;
            for (cause, version) in [(Cause::Age, by_age), (Cause::Bytes, by_bytes)] {
                if let Some(version) = version {
                    let forgotten = self.forget_removals(plane, version, stop)?;
                    self.metrics.pruned("change", cause, forgotten);
                }
            }
        }
        if due.is_empty() || stop() {
            return Ok(());
        }
        let (rows, bytes): (i64, i64) = self.store.read(|connection| {
            let query = format!(
                "SELECT count(*), coalesce(sum(octet_length(key) + {ROW}), 0)
                 FROM change LEFT JOIN record USING (data_plane, kind, key) WHERE record.body IS NULL"
            );
            Ok(connection.query_row(&query, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
        })?;
        self.store.note(|transaction| {
            let row = params![rows, bytes];
            transaction.execute("INSERT OR REPLACE INTO table_size VALUES ('change', ?1, ?2)", row)?;
            Ok(())
        })
    }

    /// Deletes the removals up to `version` until `stop` returns true, and returns how many it deleted.
    fn forget_removals(&self, plane: &str, version: u64, stop: &dyn Fn() -> bool) -> Result<usize, Error> {
        // Found without the writer's lock, because most rows are of present records.
        let removed: Vec<(String, String)> = self.store.read(|connection| {
            let query = format!("SELECT kind, key {REMOVALS} AND version <= ?2");
            let mut rows = connection.prepare_cached(&query)?;
            let rows = rows.query_map(params![plane, version], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        if removed.is_empty() {
            return Ok(0);
        }
        // Committed before any deletion, so that no node receives a delta that lacks one of the deleted removals.
        self.store.note(|transaction| {
            transaction.execute(
                "INSERT INTO oldest_delta VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET version = max(version, excluded.version)",
                params![plane, version],
            )?;
            Ok(())
        })?;
        let mut forgotten = 0;
        for batch in removed.chunks(BATCH) {
            // No delta contains the remaining rows, because they are below the oldest one. The next compaction deletes them.
            if stop() {
                break;
            }
            forgotten += self.store.note(|transaction| {
                let mut delete = transaction.prepare_cached(
                    "DELETE FROM change WHERE data_plane = ?1 AND kind = ?2 AND key = ?3 AND version <= ?4
                         AND NOT EXISTS (SELECT 1 FROM record WHERE data_plane = ?1 AND kind = ?2 AND key = ?3)",
                )?;
                let mut forgotten = 0;
                for (kind, key) in batch {
                    forgotten += delete.execute(params![plane, kind, key, version])?;
                }
                Ok(forgotten)
            })?;
        }
        Ok(forgotten)
    }
}

/// Stores the present version of a replica with the time `now`, and returns the version that it had at `then`.
fn mark(transaction: &Transaction<'_>, plane: &str, now: Time, then: Time) -> Result<Option<u64>, Error> {
    transaction.execute(
        "INSERT OR IGNORE INTO version_mark SELECT id, ?2, version FROM data_plane WHERE id = ?1",
        params![plane, now.unix()],
    )?;
    let found: Option<(i64, u64)> = transaction
        .prepare_cached(
            "SELECT at, version FROM version_mark WHERE data_plane = ?1 AND at <= ?2 ORDER BY at DESC LIMIT 1",
        )?
        .query_row(params![plane, then.unix()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((at, version)) = found else { return Ok(None) };
    transaction.execute("DELETE FROM version_mark WHERE data_plane = ?1 AND at < ?2", params![plane, at])?;
    Ok(Some(version))
}

/// Returns the version up to which removals must be deleted to leave at most `aim` bytes, if they take more than
/// `limit`.
fn surplus(connection: &Connection, plane: &str, limit: i64, aim: i64) -> Result<Option<u64>, Error> {
    let query = format!("SELECT coalesce(sum(octet_length(key) + {ROW}), 0) {REMOVALS}");
    let held: i64 = connection.prepare_cached(&query)?.query_row([plane], |row| row.get(0))?;
    if held <= limit {
        return Ok(None);
    }
    let query = format!(
        "SELECT max(version) FROM (
             SELECT version, sum(octet_length(key) + {ROW}) OVER (ORDER BY version DESC) AS newer {REMOVALS})
         WHERE newer > ?2"
    );
    Ok(connection.prepare_cached(&query)?.query_row(params![plane, aim], |row| row.get(0))?)
}
