//! How far the log has been taken in above. What has not been taken in must not be dropped.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::AuditError;
use super::read::last;
use crate::protocol::event::GENESIS;
use crate::protocol::reconciliation::Position;

/// The last event that was taken in above, by a connection to the log's database. Retention keeps what comes after it.
pub fn uploaded(connection: &Connection) -> Result<Position, AuditError> {
    let known = connection
        .query_row("SELECT sequence, hash FROM uploaded", [], |row| {
            Ok(Position { sequence: row.get(0)?, hash: row.get(1)? })
        })
        .optional()?;
    Ok(known.unwrap_or_else(|| Position { sequence: 0, hash: GENESIS.into() }))
}

/// Where the log at `path` begins, where it ends, and how far it was taken in above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first event that is still there; 0 in an empty log.
    pub oldest: u64,
    /// The last event.
    pub last: u64,
    /// The last event that was taken in above.
    pub uploaded: u64,
}

/// Reads the extent of the log at `path`.
pub fn extent(path: &Path) -> Result<Extent, AuditError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let oldest = connection
        .query_row("SELECT first FROM block ORDER BY first LIMIT 1", [], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let last = last(&connection)?;
    Ok(Extent { oldest, last, uploaded: uploaded(&connection)?.sequence })
}

/// Notes how far the log at `path` was taken in above.
pub fn set_uploaded(path: &Path, position: &Position) -> Result<(), AuditError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Losing it to a crash means that something is sent twice, which does no harm: no need to wait for the disk.
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.execute(
        "INSERT OR REPLACE INTO uploaded VALUES (1, ?1, ?2)",
        params![position.sequence, position.hash],
    )?;
    Ok(())
}
