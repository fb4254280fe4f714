//! Outages of the control plane, as this node sees them: beginning and end, kept across restarts, and the events in between.

mod error;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::dataplane::audit::{Stretch, extent, readable};
use crate::dataplane::node::alarm::Alarm;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::schema::{self};
use crate::dataplane::node::state::Live;
use crate::dataplane::revocations::Revocations;
use crate::protocol::event::{Connectivity, Event, EventKind};
use crate::protocol::outage::{End, Ended, LogFault, MergedRevocation, Opening, OutageState, Report, Use};
use crate::protocol::reconciliation::{AlarmNote, MAX_ALARMS, MAX_LINES, OutageStatement};
use crate::protocol::time::Time;

pub use error::OutageError;

/// Migrations; a released one is never edited.
const MIGRATIONS: [&str; 1] = ["
-- `ended_at` is NULL while it lasts; `reported_at` while the control plane has not been told.
CREATE TABLE outage (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, began_at INTEGER NOT NULL, ended_at INTEGER,
    last_contact_at INTEGER, cause TEXT NOT NULL, first_sequence INTEGER NOT NULL, last_sequence INTEGER NOT NULL,
    alarms TEXT NOT NULL, reported_at INTEGER) STRICT;
"];

/// Maximum number of outages that are kept.
const REMEMBERED: u64 = 1000;

/// Outage as stored.
struct Kept {
    statement: OutageStatement,
    ended: bool,
    reported: bool,
}

const COLUMNS: &str =
    "id, began_at, ended_at, last_contact_at, cause, first_sequence, last_sequence, alarms, reported_at";

fn read_row(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let began_at = Time::from_unix(row.get(1)?);
    let ended_at: Option<i64> = row.get(2)?;
    let statement = OutageStatement {
        id: row.get(0)?,
        began_at,
        ended_at: ended_at.map_or(began_at, Time::from_unix),
        last_contact_at: row.get::<_, Option<i64>>(3)?.map(Time::from_unix),
        cause: row.get(4)?,
        first_sequence: row.get(5)?,
        last_sequence: row.get(6)?,
        alarms: serde_json::from_str(&row.get::<_, String>(7)?).unwrap_or_default(),
    };
    let reported = row.get::<_, Option<i64>>(8)?.is_some();
    Ok(Kept { statement, ended: ended_at.is_some(), reported })
}

/// Checks that the last [`REMEMBERED`] outages are there. SQLite keeps the number of the last row of a table with
/// `AUTOINCREMENT` in a table of its own, and older outages alone are ever deleted.
fn check_complete(connection: &Connection) -> Result<(), OutageError> {
    let last = "SELECT seq FROM sqlite_sequence WHERE name = 'outage'";
    let last: u64 = connection.query_row(last, [], |row| row.get(0)).optional()?.unwrap_or(0);
    let made = last.min(REMEMBERED);
    let held = "SELECT count(*) FROM outage WHERE number > ?1";
    let held = connection.query_row(held, [last - made], |row| row.get(0))?;
    if held < made { Err(OutageError::Lost { held, made }) } else { Ok(()) }
}

/// Outages of this node.
pub struct Outages {
    connection: Mutex<Connection>,
    live: Arc<Live>,
    prover: Arc<Prover>,
    revocations: Arc<Revocations>,
    audit_path: PathBuf,
    before: Mutex<Before>,
}

/// State before an outage, as of the control plane's last answer.
#[derive(Debug, Default)]
struct Before {
    /// Last event of the log at the last look.
    seen: u64,
    /// Last event of the log at the last answer, or one before it. Later requests were allowed on an old state.
    sequence: u64,
    /// Time of that answer.
    answered: Option<Time>,
    /// Number of alarms at the beginning of the outage.
    alarms: u64,
    /// Alarms of the open outage that were raised before the last restart.
    earlier: Vec<AlarmNote>,
    /// Number of alarms when those of the open outage were last stored.
    stored: u64,
}

impl Outages {
    /// Opens or creates the database at `path`.
    pub fn open(
        path: &Path,
        live: Arc<Live>,
        prover: Arc<Prover>,
        revocations: Arc<Revocations>,
        audit_path: PathBuf,
    ) -> Result<Self, OutageError> {
        let connection = schema::open(path, &MIGRATIONS)??;
        check_complete(&connection)?;
        let last = extent(&audit_path)?.last;
        let earlier = open_one(&connection)?.map(|open| open.statement.alarms).unwrap_or_default();
        let before = Mutex::new(Before { seen: last, sequence: last, earlier, ..Before::default() });
        Ok(Self { connection: Mutex::new(connection), live, prover, revocations, audit_path, before })
    }

    fn before(&self) -> MutexGuard<'_, Before> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // Every change is one statement: after a panic the database is as it was before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the state of the connection. An outage begins when the control plane is found not to answer. One that was
    /// open at the end of the daemon continues.
    pub fn observe(&self, now: Time) -> Result<(), OutageError> {
        let standing = self.live.standing();
        let connection = self.lock();
        let open = open_one(&connection)?;
        match (standing.progress.connectivity, open) {
            (Connectivity::Offline, None) => {
                let last =
                    "SELECT ended_at FROM outage WHERE ended_at IS NOT NULL ORDER BY number DESC LIMIT 1";
                let ended: Option<i64> = connection.query_row(last, [], |row| row.get(0)).optional()?;
                // An older state must not reopen an outage that has just been stated to have ended. A future end is that of a
                // wrong clock, and says nothing about what follows it.
                let ended = ended.map(Time::from_unix).filter(|ended| *ended <= now).unwrap_or_default();
                if standing.progress.connectivity_since <= ended && now.since(ended) < 5 {
                    return Ok(());
                }
                let began_at = standing.progress.connectivity_since.max(ended).min(now);
                let head = self.live.snapshot().head().map(|head| head.head().iat);
                let last_contact = standing.progress.answered.or(head).map(|time| time.min(began_at));
                let first = {
                    let mut before = self.before();
                    before.alarms = self.live.alarms.raised();
                    before.earlier.clear();
                    before.sequence + 1
                };
                let cause = standing.last_error.unwrap_or_default();
                let row = params![
                    format!("out_{}", self.prover.nonces.next()),
                    began_at.unix(),
                    last_contact.map(Time::unix),
                    cause,
                    first
                ];
                connection.execute(
                    "INSERT INTO outage (id, began_at, last_contact_at, cause, first_sequence, last_sequence, alarms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?5 - 1, '[]')",
                    row,
                )?;
                connection.execute(
                    "DELETE FROM outage WHERE number <= (SELECT max(number) FROM outage) - ?1 AND reported_at IS NOT NULL",
                    [REMEMBERED],
                )?;
            }
            (Connectivity::Offline, Some(open)) => self.store_alarms(&connection, &open.statement)?,
            (Connectivity::Online, Some(open)) => {
                self.end(&connection, &self.ending(open.statement, standing.progress.connectivity_since)?)?;
            }
            (Connectivity::Online, None) => {
                let last = extent(&self.audit_path)?.last;
                let mut before = self.before();
                // A control plane counts as reachable for a while after its last answer. Events in that time belong to the
                // outage, if there is one, as do events between the look before the answer and the answer.
                if standing.progress.answered != before.answered {
                    (before.answered, before.sequence) = (standing.progress.answered, before.seen);
                }
                before.seen = last;
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the statement of an outage that is over, or that is over if this statement arrives.
    pub fn to_report(&self, now: Time) -> Result<Option<OutageStatement>, OutageError> {
        let connection = self.lock();
        let query = format!("SELECT {COLUMNS} FROM outage WHERE reported_at IS NULL ORDER BY number LIMIT 1");
        match connection.query_row(&query, [], read_row).optional()? {
            Some(kept) if kept.ended => Ok(Some(kept.statement)),
            Some(kept) => self.ending(kept.statement, now).map(Some),
            None => Ok(None),
        }
    }

    /// Records that a statement was sent.
    pub fn reported(&self, statement: &OutageStatement, now: Time) -> Result<(), OutageError> {
        let connection = self.lock();
        self.end(&connection, statement)?;
        connection
            .execute("UPDATE outage SET reported_at = ?2 WHERE id = ?1", params![statement.id, now.unix()])?;
        Ok(())
    }

    /// Stores the alarms of the open outage, so that a restart does not remove them from its report.
    fn store_alarms(&self, connection: &Connection, open: &OutageStatement) -> Result<(), OutageError> {
        let raised = self.live.alarms.raised();
        if raised == self.before().stored {
            return Ok(());
        }
        let alarms = serde_json::to_string(&self.alarms_since(open.began_at)).unwrap_or_default();
        let update = "UPDATE outage SET alarms = ?2 WHERE id = ?1 AND ended_at IS NULL";
        connection.execute(update, params![open.id, alarms])?;
        self.before().stored = raised;
        Ok(())
    }

    /// Returns the alarms of an outage that began at `began_at`, those from before a restart first.
    fn alarms_since(&self, began_at: Time) -> Vec<AlarmNote> {
        let before = self.before();
        // Selected by their numbers too: after a clock was corrected, their times may lie before the beginning.
        let meanwhile = |alarm: &Alarm| alarm.time >= began_at || alarm.number > before.alarms;
        let raised = self.live.alarms.latest().into_iter().filter(meanwhile).map(|alarm| AlarmNote {
            time: alarm.time,
            kind: alarm.kind.as_str().to_owned(),
            what: alarm.what,
            times: alarm.times,
        });
        let mut alarms: Vec<_> = before.earlier.iter().cloned().chain(raised).collect();
        alarms.drain(..alarms.len().saturating_sub(MAX_ALARMS));
        alarms
    }

    fn ending(&self, open: OutageStatement, now: Time) -> Result<OutageStatement, OutageError> {
        let alarms = self.alarms_since(open.began_at);
        let last_sequence = extent(&self.audit_path)?.last;
        Ok(OutageStatement { ended_at: now.max(open.began_at), last_sequence, alarms, ..open })
    }

    fn end(&self, connection: &Connection, statement: &OutageStatement) -> Result<(), OutageError> {
        let alarms = serde_json::to_string(&statement.alarms).unwrap_or_default();
        connection.execute(
            "UPDATE outage SET ended_at = ?2, last_sequence = ?3, alarms = ?4 WHERE id = ?1 AND ended_at IS NULL",
            params![statement.id, statement.ended_at.unix(), statement.last_sequence, alarms],
        )?;
        let mut before = self.before();
        (before.seen, before.sequence) = (statement.last_sequence, statement.last_sequence);
        Ok(())
    }

    /// Returns the reports of the latest outages, newest first, at most `limit`.
    pub fn list(&self, limit: usize, now: Time) -> Result<Vec<Report>, OutageError> {
        let kept: Vec<Kept> = {
            let connection = self.lock();
            let query = format!("SELECT {COLUMNS} FROM outage ORDER BY number DESC LIMIT ?1");
            let mut statement = connection.prepare_cached(&query)?;
            let rows = statement.query_map([limit], read_row)?;
            rows.collect::<Result<_, _>>()?
        };
        kept.into_iter().map(|kept| self.report(kept, now)).collect()
    }

    /// Returns the report of an outage, from this node's records.
    pub fn show(&self, id: &str, now: Time) -> Result<Report, OutageError> {
        let kept = {
            let connection = self.lock();
            let query = format!("SELECT {COLUMNS} FROM outage WHERE id = ?1");
            connection.query_row(&query, [id], read_row).optional()?
        };
        self.report(kept.ok_or_else(|| OutageError::Unknown(id.to_owned()))?, now)
    }

    fn report(&self, kept: Kept, now: Time) -> Result<Report, OutageError> {
        let uploaded = extent(&self.audit_path)?.uploaded;
        let (statement, state) = if kept.ended {
            let whole = kept.reported && uploaded >= kept.statement.last_sequence;
            (kept.statement, if whole { OutageState::Closed } else { OutageState::Reconciling })
        } else {
            (self.ending(kept.statement, now)?, OutageState::Open)
        };
        let identity = &self.prover.identity;
        let mut report = Report::open(Opening {
            node_id: identity.node_id.as_str(),
            node_name: None,
            data_plane_id: identity.data_plane_id.as_str(),
            state,
            statement: &statement,
            log_through: uploaded,
        });
        let snapshot = self.live.snapshot();
        let end = |token: &_, _| snapshot.ended(token).map(|at| End { at, how: Ended::Revoked });
        let read = self.uses(&statement, now)?;
        report.add_uses(read.uses, |_| None, end);
        for fault in read.faults {
            report.add_fault(fault);
        }
        let from = statement.last_contact_at.unwrap_or(statement.began_at).min(statement.began_at);
        for held in self.revocations.list()? {
            if (from..=statement.ended_at).contains(&held.revoked_at) {
                report.add_revocation(MergedRevocation {
                    token_id: held.token_id,
                    node_id: held.node_id.to_string(),
                    revoked_at: held.revoked_at,
                    operator: held.operator,
                    reason: held.reason,
                    outcome: held.answer,
                });
            }
        }
        Ok(report.finish())
    }

    /// Returns the requests that were allowed in the outage, from this node's log. Events that cannot be read are named, and
    /// hide no others.
    fn uses(&self, statement: &OutageStatement, now: Time) -> Result<Recorded, OutageError> {
        let mut recorded = Recorded::default();
        let mut after = statement.first_sequence.saturating_sub(1);
        while after < statement.last_sequence {
            let stretch = match readable(&self.audit_path, after, MAX_LINES) {
                Err(error) if error.is_damage() => Stretch::default(),
                read => read?,
            };
            // Without a line, the rest of the log is unreadable, or not there.
            let lines = stretch.lines.len() as u64;
            let next = if lines == 0 { statement.last_sequence } else { stretch.after };
            if next > after {
                recorded.faults.push(unreadable(after + 1, next.min(statement.last_sequence), now));
            }
            after = next + lines;
            recorded.uses.extend(stretch.lines.iter().filter_map(|line| use_of(line)));
        }
        Ok(recorded)
    }
}

/// Uses in an outage, and faults of the log that records them.
#[derive(Default)]
struct Recorded {
    uses: Vec<Use>,
    faults: Vec<LogFault>,
}

/// Returns the fault of events that cannot be read.
fn unreadable(first: u64, last: u64, now: Time) -> LogFault {
    let what = format!("events {first} to {last} cannot be read; what they record is not in this report");
    LogFault { sequence: first, kind: "unreadable".into(), what, noted_at: now }
}

/// Parses the use in a line of the log. The place in the log assigns it to the outage, since its time may be that of a wrong clock.
fn use_of(line: &str) -> Option<Use> {
    let event: Event = serde_json::from_str(line).ok()?;
    let allowed = event.kind == EventKind::Decision && event.decision.as_deref() == Some("allow");
    let meanwhile = event.connectivity != Connectivity::Online;
    if !allowed || !meanwhile {
        return None;
    }
    Some(Use {
        time: event.time,
        event_id: event.id,
        token_id: event.token?,
        generation: event.generation.unwrap_or(0),
        deployment_id: event.deployment.map(|id| id.to_string()),
        method: event.method,
        path: event.path,
        client: event.client.map(|client| client.to_string()),
    })
}

fn open_one(connection: &Connection) -> Result<Option<Kept>, OutageError> {
    let query = format!("SELECT {COLUMNS} FROM outage WHERE ended_at IS NULL ORDER BY number LIMIT 1");
    Ok(connection.prepare_cached(&query)?.query_row([], read_row).optional()?)
}
