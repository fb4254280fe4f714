//! What others are to be told: queued in the transaction in which it came about, so that it is told at least once.

use rusqlite::{Transaction, params};
use serde_json::json;

use super::ControlPlane;
use super::error::Error;
use crate::protocol::outage::{End, LateUse, Use};
use crate::protocol::time::Time;

/// The most announcements that may wait. What is above it is dropped, and the log says so: the outage's report names it
/// all the same.
const MAX_WAITING: u64 = 100_000;
/// How long what has been delivered is remembered, in seconds.
const REMEMBERED: i64 = 30 * 86_400;

/// Where a use came about.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) data_plane: &'a str,
    pub(super) node: &'a str,
    pub(super) outage: Option<&'a str>,
}

/// An announcement that is due.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its id: the same at every attempt, so that whoever is told twice can tell.
    pub id: String,
    /// What is sent.
    pub body: String,
    /// How often it was tried.
    pub attempts: u32,
}

impl ControlPlane {
    /// Announces the first use of a token, ever or in an outage.
    pub(super) fn announce_first_use(
        &self,
        transaction: &Transaction<'_>,
        place: Place<'_>,
        used: &Use,
        first: bool,
    ) -> Result<(), Error> {
        let token = &used.token_id;
        let key = match place.outage {
            Some(outage) => format!("first-use/{}/{outage}/{token}", place.node),
            None if first => format!("first-use/{token}"),
            None => return Ok(()),
        };
        let data = json!({ "use": used, "firstEver": first });
        self.announce(transaction, &key, "direct_access.first_use", place, data)
    }

    /// Announces a use that came too late.
    pub(super) fn announce_late_use(
        &self,
        transaction: &Transaction<'_>,
        place: Place<'_>,
        used: &Use,
        end: Option<End>,
    ) -> Result<(), Error> {
        let Some(late) = LateUse::of(used.clone(), end) else { return Ok(()) };
        let key = format!("late-use/{}/{}", place.node, used.event_id);
        let data = json!({ "use": used, "endedAt": late.ended_at, "ended": late.ended });
        self.announce(transaction, &key, "direct_access.late_use", place, data)
    }

    fn announce(
        &self,
        transaction: &Transaction<'_>,
        key: &str,
        kind: &str,
        place: Place<'_>,
        mut data: serde_json::Value,
    ) -> Result<(), Error> {
        if !self.announces {
            return Ok(());
        }
        let waiting: u64 = transaction
            .prepare_cached("SELECT count(*) FROM announcement WHERE delivered_at IS NULL")?
            .query_row([], |row| row.get(0))?;
        if waiting >= MAX_WAITING {
            tracing::error!(key, "too many announcements wait; this one is dropped");
            return Ok(());
        }
        data["dataPlaneId"] = place.data_plane.into();
        data["nodeId"] = place.node.into();
        data["outageId"] = place.outage.into();
        let now = self.now();
        let body = json!({ "type": kind, "timestamp": now.rfc3339(), "data": data }).to_string();
        let row = params![self.new_id("msg_"), key, body, now.unix()];
        transaction
            .prepare_cached("INSERT OR IGNORE INTO announcement VALUES (?1, ?2, ?3, ?4, 0, ?4, NULL, NULL)")?
            .execute(row)?;
        Ok(())
    }

    /// What is to be told now, oldest first.
    pub fn due_announcements(&self, limit: usize) -> Result<Vec<Due>, Error> {
        let now = self.now();
        self.store.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, body, attempts FROM announcement WHERE delivered_at IS NULL AND next_at <= ?1
                 ORDER BY next_at, id LIMIT ?2",
            )?;
            let rows = statement.query_map(params![now.unix(), limit], |row| {
                Ok(Due { id: row.get(0)?, body: row.get(1)?, attempts: row.get(2)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Notes what came of an attempt: delivered, or to be tried again at some time.
    pub fn announced(&self, due: &Due, outcome: Result<(), (String, Time)>) -> Result<(), Error> {
        let now = self.now();
        self.store.write(|transaction| {
            match outcome {
                Ok(()) => {
                    transaction.execute(
                        "UPDATE announcement SET delivered_at = ?2, attempts = attempts + 1, body = '' WHERE id = ?1",
                        params![due.id, now.unix()],
                    )?;
                    transaction.execute(
                        "DELETE FROM announcement WHERE delivered_at < ?1",
                        [now.plus(-REMEMBERED).unix()],
                    )?;
                }
                Err((error, next)) => {
                    transaction.execute(
                        "UPDATE announcement SET attempts = attempts + 1, next_at = ?2, last_error = ?3 WHERE id = ?1",
                        params![due.id, next.unix(), error],
                    )?;
                }
            }
            Ok(())
        })
    }
}
