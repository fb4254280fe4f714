//! Queues announcements of token uses. Each is inserted in the transaction of the use itself, so that it is delivered
//! at least once, by [`webhook`](crate::controlplane::webhook).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{OptionalExtension as _, params};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::memory::metrics::{Attempted, Loss};
use crate::controlplane::store::Transaction;
use crate::protocol::outage::{LateUse, Use};
use crate::protocol::time::Time;

/// Maximum number of queued announcements. Further ones are dropped with a log line; the outage report lists their uses
/// nevertheless.
const MAX_WAITING: u64 = 100_000;
/// Time for which delivered and abandoned announcements are remembered, in seconds.
const REMEMBERED: i64 = 30 * 86_400;

/// Place of a token's use.
#[derive(Clone, Copy)]
pub(in crate::controlplane) struct Place<'a> {
    pub(in crate::controlplane) data_plane: &'a str,
    pub(in crate::controlplane) node: &'a str,
    pub(in crate::controlplane) outage: Option<&'a str>,
}

/// Announcement in the queue.
#[derive(Clone, Debug)]
pub(in crate::controlplane) struct Announcement {
    /// Identifier, the same at every attempt, so that the receiver can detect duplicates.
    pub(in crate::controlplane) id: String,
    /// Body of the message.
    pub(in crate::controlplane) body: String,
    /// Time at which this control plane learned of the use.
    pub(in crate::controlplane) made_at: Time,
    /// Number of attempts so far.
    pub(in crate::controlplane) attempts: u32,
}

/// Finished attempt to deliver an announcement.
#[derive(Debug)]
pub(in crate::controlplane) struct Attempt {
    /// Identifier of the announcement.
    pub(in crate::controlplane) id: String,
    /// Result of the attempt.
    pub(in crate::controlplane) outcome: Outcome,
}

/// Result of a delivery attempt.
#[derive(Debug)]
pub(in crate::controlplane) enum Outcome {
    /// The endpoint accepted the message.
    Delivered,
    /// The attempt failed; the next one is due at `at`.
    Again { at: Time, error: String },
    /// The attempt failed, and no further one is made.
    GivenUp { error: String },
}

impl Outcome {
    fn counted(&self) -> Attempted {
        match self {
            Self::Delivered => Attempted::Delivered,
            Self::Again { .. } => Attempted::Failed,
            Self::GivenUp { .. } => Attempted::GivenUp,
        }
    }
}

/// Derives the identifier of an announcement from its key. A control plane that was restored from a backup and learns
/// of the same use again derives the same identifier.
fn id_of(key: &str) -> String {
    format!("msg_{}", URL_SAFE_NO_PAD.encode(&Sha256::digest(key)[..16]))
}

impl ControlPlane {
    /// Announces the first use of a token, ever or in an outage.
    pub(in crate::controlplane) fn announce_first_use(
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
        self.announce(transaction, &key, "direct_access.first_use", place, used, data)
    }

    /// Announces a use of a token after its end.
    pub(in crate::controlplane) fn announce_late_use(
        &self,
        transaction: &Transaction<'_>,
        place: Place<'_>,
        late: &LateUse,
    ) -> Result<(), Error> {
        let LateUse { used, ended_at, ended } = late;
        let key = format!("late-use/{}/{}", place.node, used.event_id);
        let data = json!({ "use": used, "endedAt": ended_at, "ended": ended });
        self.announce(transaction, &key, "direct_access.late_use", place, used, data)
    }

    fn announce(
        &self,
        transaction: &Transaction<'_>,
        key: &str,
        kind: &str,
        place: Place<'_>,
        used: &Use,
        mut data: serde_json::Value,
    ) -> Result<(), Error> {
        if !self.announces {
            return Ok(());
        }
        if transaction.prepare_cached("SELECT 1 FROM announcement WHERE key = ?1")?.exists([key])? {
            return Ok(());
        }
        let waiting: u64 = transaction
            .prepare_cached("SELECT count(*) FROM announcement WHERE done_at IS NULL")?
            .query_row([], |row| row.get(0))?;
        if waiting >= MAX_WAITING {
            tracing::error!(key, "too many announcements wait; this one is dropped");
            self.metrics.announcement_lost(Loss::Full);
            return Ok(());
        }
        let token: Option<(String, String)> = transaction
            .prepare_cached("SELECT name, organization FROM token WHERE id = ?1")?
            .query_row([used.token_id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (name, organization) = token.unzip();
        data["tokenName"] = name.into();
        data["organizationId"] = organization.into();
        data["dataPlaneId"] = place.data_plane.into();
        data["nodeId"] = place.node.into();
        data["outageId"] = place.outage.into();
        let now = self.now();
        let body = json!({ "type": kind, "timestamp": now.rfc3339(), "data": data }).to_string();
        transaction
            .prepare_cached(
                "INSERT INTO announcement (id, key, body, made_at, attempts, next_at) VALUES (?1, ?2, ?3, ?4, 0, ?4)",
            )?
            .execute(params![id_of(key), key, body, now.unix()])?;
        Ok(())
    }

    /// Returns the announcements due at `until`, oldest first. An announcement due after `latest` was scheduled by a
    /// wrong clock, and is returned as well.
    pub(in crate::controlplane) fn due_announcements(
        &self,
        limit: usize,
        until: Time,
        latest: Time,
    ) -> Result<Vec<Announcement>, Error> {
        self.store.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, body, made_at, attempts FROM announcement
                 WHERE done_at IS NULL AND (next_at <= ?1 OR next_at > ?2) ORDER BY next_at, id LIMIT ?3",
            )?;
            let rows = statement.query_map(params![until.unix(), latest.unix(), limit], |row| {
                Ok(Announcement {
                    id: row.get(0)?,
                    body: row.get(1)?,
                    made_at: Time::from_unix(row.get(2)?),
                    attempts: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Returns the time at which the next announcement is due, or none if the queue is empty.
    pub(in crate::controlplane) fn next_announcement_at(&self) -> Result<Option<Time>, Error> {
        self.store.read(|connection| {
            let next = connection
                .prepare_cached("SELECT min(next_at) FROM announcement WHERE done_at IS NULL")?
                .query_row([], |row| row.get::<_, Option<i64>>(0))?;
            Ok(next.map(Time::from_unix))
        })
    }

    /// Stores the results of attempts. Deletes finished announcements that are old by `trusted_time`.
    pub(in crate::controlplane) fn announced(
        &self,
        attempts: &[Attempt],
        trusted_time: Time,
    ) -> Result<(), Error> {
        let now = self.now();
        self.store.note(|transaction| {
            let mut done = transaction.prepare_cached(
                "UPDATE announcement SET done_at = ?2, attempts = attempts + 1, last_error = ?3, body = '' WHERE id = ?1",
            )?;
            let mut again = transaction.prepare_cached(
                "UPDATE announcement SET attempts = attempts + 1, next_at = ?2, last_error = ?3 WHERE id = ?1",
            )?;
            for Attempt { id, outcome } in attempts {
                match outcome {
                    Outcome::Delivered => done.execute(params![id, now.unix(), None::<&str>])?,
                    Outcome::GivenUp { error } => done.execute(params![id, now.unix(), error])?,
                    Outcome::Again { at, error } => again.execute(params![id, at.unix(), error])?,
                };
            }
            transaction
                .prepare_cached("DELETE FROM announcement WHERE done_at < ?1")?
                .execute([trusted_time.plus(-REMEMBERED).unix()])?;
            Ok(())
        })?;
        for attempt in attempts {
            self.metrics.attempted(attempt.outcome.counted());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
