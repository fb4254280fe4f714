//! Position up to which the control plane received the log. Later events must not be dropped.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::AuditError;
use crate::platform::database::is_damaged;
use crate::protocol::event::GENESIS;
use crate::protocol::reconciliation::Position;

/// Returns the last uploaded event, read through a connection to the log's database. Retention keeps all later events.
pub fn uploaded(connection: &Connection) -> Result<Position, AuditError> {
    let known = connection
        .query_row("SELECT sequence, hash FROM uploaded", [], |row| {
            Ok(Position { sequence: row.get(0)?, hash: row.get(1)? })
        })
        .optional()?;
    Ok(known.unwrap_or_else(|| Position { sequence: 0, hash: GENESIS.into() }))
}

/// First, last and last uploaded event of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Sequence number of the first event that the log still holds; 0 in an empty log. If the page with that event is damaged,
    /// it is the number of the first event that was not uploaded.
    pub oldest: u64,
    /// Sequence number of the last event.
    pub last: u64,
    /// Sequence number of the last uploaded event.
    pub uploaded: u64,
}

/// Reads the extent of the log at `path`.
pub fn extent(path: &Path) -> Result<Extent, AuditError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let uploaded = uploaded(&connection)?.sequence;
    let first = "SELECT first FROM block ORDER BY first LIMIT 1";
    let oldest = match connection.query_row(first, [], |row| row.get(0)).optional() {
        // Retention drops uploaded events only, so this event was in the log.
        Err(error) if is_damaged(&error) => uploaded + 1,
        found => found?.unwrap_or(0),
    };
    Ok(Extent { oldest, last: last(&connection)?, uploaded })
}

/// Stores the position up to which the log at `path` was uploaded.
pub fn set_uploaded(path: &Path, position: &Position) -> Result<(), AuditError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // A crash can lose this write, and then some events are sent twice, which is harmless: no need to wait for the disk.
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.execute(
        "INSERT OR REPLACE INTO uploaded VALUES (1, ?1, ?2)",
        params![position.sequence, position.hash],
    )?;
    Ok(())
}

/// Returns the sequence number of the last event of a log, or 0 if it is empty.
pub(super) fn last(connection: &Connection) -> Result<u64, AuditError> {
    let last = "SELECT last FROM block ORDER BY first DESC LIMIT 1";
    Ok(connection.query_row(last, [], |row| row.get(0)).optional()?.unwrap_or(0))
}
