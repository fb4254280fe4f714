//! Reads a log while it is written.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::uploaded::{last, uploaded};
use super::{AuditError, block};
use crate::protocol::event::{line_hash, split_lines};

/// Returns at most `limit` lines of the log at `path` after event `after`. A negative `after` counts from the end.
pub fn events(path: &Path, after: i64, limit: usize) -> Result<Vec<String>, AuditError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let after =
        if after < 0 { i64::try_from(last(&connection)?).unwrap_or(i64::MAX) + after } else { after }.max(0);
    // Begins at the block that holds the next event, so that earlier blocks are not read.
    let mut statement = connection.prepare(
        "SELECT first, lines FROM block
         WHERE first >= coalesce((SELECT max(first) FROM block WHERE first <= ?1 + 1), 0) ORDER BY first",
    )?;
    let mut rows = statement.query([after])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let first: u64 = row.get(0)?;
        let lines = block::unpack(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?);
        let lines = lines.ok_or(AuditError::Block(first))?;
        let skip = u64::try_from(after).unwrap_or(0).saturating_add(1).saturating_sub(first);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        for line in split_lines(&lines).skip(skip) {
            if found.len() == limit {
                return Ok(found);
            }
            found.push(line.to_owned());
        }
    }
    Ok(found)
}

/// Returns the hash of event `sequence` of the log at `path`, or `None` if the log does not hold it.
pub fn hash_at(path: &Path, sequence: u64) -> Result<Option<String>, AuditError> {
    hash_of(&Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?, sequence)
}

pub(super) fn hash_of(connection: &Connection, sequence: u64) -> Result<Option<String>, AuditError> {
    let found: Option<(u64, Vec<u8>)> = connection
        .query_row(
            "SELECT first, lines FROM block WHERE first <= ?1 ORDER BY first DESC LIMIT 1",
            [sequence],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((first, packed)) = found else { return Ok(None) };
    let lines = block::unpack(&packed).ok_or(AuditError::Block(first))?;
    let skip = usize::try_from(sequence - first).unwrap_or(usize::MAX);
    Ok(split_lines(&lines).nth(skip).map(line_hash))
}

/// Returns the last checkpoint of the log at `path` whose event was uploaded, as a compact JWS.
pub fn arrived_checkpoint(path: &Path) -> Result<Option<String>, AuditError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let through = uploaded(&connection)?.sequence;
    let last = "SELECT text FROM checkpoint WHERE sequence <= ?1 ORDER BY sequence DESC LIMIT 1";
    Ok(connection.query_row(last, [through], |row| row.get(0)).optional()?)
}
