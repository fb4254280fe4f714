//! Verifying a log: every line in its place, and chained to the one before.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::AuditError;
use crate::protocol::event::{Event, GENESIS, line_hash};

/// What is wrong with the first event that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// The place in the log where it shows.
    pub sequence: u64,
    /// What is wrong there.
    pub what: String,
}

/// The result of verifying a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Events found good, from the first on.
    pub events: u64,
    /// Hash of the last good one.
    pub last: String,
    /// The first fault.
    pub fault: Option<Fault>,
}

/// Verifies the log at `path` while it may be written to. A log cut off at its end is found by comparing `events` and
/// `last` with what was known before.
pub fn verify(path: &Path) -> Result<Report, AuditError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut statement = connection.prepare("SELECT lines FROM block ORDER BY first")?;
    let mut rows = statement.query([])?;
    let mut report = Report { events: 0, last: GENESIS.into(), fault: None };
    while let Some(row) = rows.next()? {
        for line in row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?.lines() {
            let sequence = report.events + 1;
            let what = match serde_json::from_str::<Event>(line) {
                Err(error) => Some(format!("it is no event: {error}")),
                Ok(event) if event.sequence != sequence => {
                    Some(format!("event {} stands in its place", event.sequence))
                }
                Ok(event) if event.prev != report.last => {
                    Some("it is not chained to the event before".into())
                }
                Ok(_) => None,
            };
            if let Some(what) = what {
                report.fault = Some(Fault { sequence, what });
                return Ok(report);
            }
            (report.events, report.last) = (sequence, line_hash(line));
        }
    }
    Ok(report)
}
