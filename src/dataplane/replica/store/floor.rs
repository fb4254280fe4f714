//! Stores the time floor, the tokens that stay expired when the floor is lowered, and the age of the head in force.

use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::{ReplicaStore, StoreError};
use crate::dataplane::decide::{CLOCK_TOLERANCE, HeadAge};
use crate::protocol::time::Time;

/// Seconds by which the stored floor is ahead of the reached time. The floor therefore never falls in a crash, though it is
/// not stored at every tick.
pub const AHEAD: i64 = 60;

/// Token whose newest proved generation has expired by the time floor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    token: String,
    generation: u32,
    /// Expiry in seconds since 1970, if it is known.
    expires: Option<i64>,
}

impl ReplicaStore {
    /// Returns the time floor: the latest time of which this node has proof.
    pub fn floor(&self) -> Result<Time, StoreError> {
        let time = self.connection.query_row("SELECT time FROM floor", [], |row| row.get(0)).optional()?;
        Ok(Time::from_unix(time.unwrap_or(0)))
    }

    /// Raises the floor.
    pub fn raise_floor(&self, time: Time) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO floor VALUES (1, ?1) ON CONFLICT DO UPDATE SET time = max(time, excluded.time)",
        )?;
        statement.execute([time.unix()])?;
        Ok(())
    }

    /// Returns the tokens proved so far that have expired by the time `floor`, and that had not expired by `wall`, a clock
    /// in doubt. A token with an unknown expiry is one of them.
    pub fn ended_by(&self, floor: Time, wall: Time) -> Result<Vec<Ended>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT key, generation, expires FROM ledger WHERE kind = 'token' AND expired < generation
             AND (expires IS NULL OR (expires > ?1 AND expires <= ?2))",
        )?;
        // The floor may fall to a time that is earlier by the tolerance of the clock.
        let earliest = wall.plus(-CLOCK_TOLERANCE).unix();
        let rows = statement.query_map(params![earliest, floor.unix()], |row| {
            Ok(Ended { token: row.get(0)?, generation: row.get(1)?, expires: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Lowers the floor to `to`. Each token of `ended` whose expiry is after `to`, or unknown, stays dead up to its present
    /// generation. Returns the number of these tokens.
    ///
    /// `age`, if given, is stored in the same transaction.
    pub fn take_back_floor(
        &mut self,
        ended: &[Ended],
        to: Time,
        age: Option<HeadAge>,
    ) -> Result<usize, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut stay = 0;
        for ended in ended.iter().filter(|ended| ended.expires.is_none_or(|expires| expires > to.unix())) {
            let update = "UPDATE ledger SET expired = max(expired, ?2) WHERE kind = 'token' AND key = ?1";
            stay += transaction.prepare_cached(update)?.execute(params![ended.token, ended.generation])?;
        }
        transaction.execute("INSERT OR REPLACE INTO floor (id, time) VALUES (1, ?1)", [to.unix()])?;
        if let Some(age) = age {
            keep_age(&transaction, age)?;
        }
        transaction.commit()?;
        Ok(stay)
    }

    /// Returns the stored age of a head, or `None` before the first one.
    pub fn head_age(&self) -> Result<Option<HeadAge>, StoreError> {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(HeadAge {
                version: row.get(0)?,
                iat: Time::from_unix(row.get(1)?),
                held: row.get(2)?,
                signed: Time::from_unix(row.get(3)?),
            })
        };
        let query = "SELECT version, iat, held, signed FROM age";
        Ok(self.connection.query_row(query, [], read).optional()?)
    }

    /// Stores the age of a head.
    pub fn keep_head_age(&self, age: HeadAge) -> Result<(), StoreError> {
        Ok(keep_age(&self.connection, age)?)
    }
}

fn keep_age(connection: &rusqlite::Connection, age: HeadAge) -> rusqlite::Result<()> {
    let row = params![age.version, age.iat.unix(), age.held, age.signed.unix()];
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO age (id, version, iat, held, signed) VALUES (1, ?1, ?2, ?3, ?4)",
    )?;
    statement.execute(row).map(drop)
}
