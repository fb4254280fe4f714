//! Reads a log while it is written.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};

use super::AuditError;
use super::block::{self, Stored};
use super::uploaded::{last, uploaded};
use crate::protocol::event::{line_hash, split_lines};
use crate::protocol::version::MAX_VERSION;

/// Selects the blocks from the one that holds event `?1` on, so that earlier blocks are not read.
const FROM: &str = "SELECT first, last, lines FROM block
     WHERE first >= coalesce((SELECT max(first) FROM block WHERE first <= ?1), 0) ORDER BY first";

/// Returns at most `limit` lines of the log at `path` after event `after`. A negative `after` counts from the end.
pub fn events(path: &Path, after: i64, limit: usize) -> Result<Vec<String>, AuditError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let after =
        if after < 0 { i64::try_from(last(&connection)?).unwrap_or(i64::MAX) + after } else { after }.max(0);
    let mut statement = connection.prepare(FROM)?;
    let mut rows = statement.query([after.saturating_add(1)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (first, lines) = lines_of(row)?;
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

/// Lines of consecutive events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Sequence number of the event before the first line.
    pub after: u64,
    /// The lines.
    pub lines: Vec<String>,
}

/// Returns the next lines of the log at `path` after event `after` that can be read, at most `limit`. Events whose block is
/// missing, not valid, or on a damaged page of the database are passed over, and the lines end in front of the next such block.
pub fn readable(path: &Path, after: u64, limit: usize) -> Result<Stretch, AuditError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match stretch(&connection, after, limit) {
        Err(error) if error.is_damage() => {
            let Some(first) = behind_damage(&connection, after)? else { return Err(error) };
            stretch(&connection, first - 1, limit)
        }
        found => found,
    }
}

/// Returns the first event of the first block after event `after` that can be read, if there is one.
///
/// SQLite does not step over a damaged page, but finds a row behind it by its key. The distance between two probes grows with
/// the distance from `after`: a search through a long log stays short, and it passes over readable events between two damaged
/// pages only if these pages are 16 times as far from `after` as from each other.
fn behind_damage(connection: &Connection, after: u64) -> Result<Option<u64>, AuditError> {
    let mut next =
        connection.prepare("SELECT first, last, lines FROM block WHERE first > ?1 ORDER BY first LIMIT 1")?;
    let mut find = |after: u64| -> Result<Option<u64>, AuditError> {
        let found = next.query_row([after], |row| Ok(lines_of(row))).optional()?.transpose()?;
        Ok(found.map(|(first, _)| first))
    };
    let (mut damaged, mut probe) = (after, after);
    let mut found = loop {
        match find(probe) {
            Err(error) if !error.is_damage() => return Err(error),
            Err(_) if probe >= MAX_VERSION => return Ok(None),
            Err(_) => damaged = probe,
            Ok(found) => break found,
        }
        probe += 1 + (probe - after) / 16;
    };
    // The boundary lies between the last probe that failed and the one that did not.
    while probe > damaged + 1 {
        let middle = damaged + (probe - damaged) / 2;
        match find(middle) {
            Ok(nearer) => (probe, found) = (middle, nearer),
            Err(error) if error.is_damage() => damaged = middle,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn stretch(connection: &Connection, after: u64, limit: usize) -> Result<Stretch, AuditError> {
    let mut statement = connection.prepare(FROM)?;
    let mut rows = statement.query([after.saturating_add(1)])?;
    let mut found = Stretch { after, lines: Vec::new() };
    loop {
        let row = match rows.next().map_err(AuditError::from) {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(error) if error.is_damage() && !found.lines.is_empty() => break,
            Err(error) => return Err(error),
        };
        let (first, lines) = match lines_of(row) {
            Err(AuditError::Block(_)) if found.lines.is_empty() => continue,
            Err(AuditError::Block(_)) => break,
            read => read?,
        };
        let next = found.after + found.lines.len() as u64 + 1;
        if first > next && !found.lines.is_empty() {
            break;
        }
        let skip = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
        for line in split_lines(&lines).skip(skip) {
            if found.lines.is_empty() {
                found.after = first.max(next) - 1;
            }
            if found.lines.len() == limit {
                return Ok(found);
            }
            found.lines.push(line.to_owned());
        }
    }
    Ok(found)
}

/// Returns the number of the first event of a row, and its lines.
fn lines_of(row: &Row<'_>) -> Result<(u64, String), AuditError> {
    let Some(stored) = Stored::read(row)? else {
        return Err(AuditError::Block(row.get_ref(0)?.as_i64().unwrap_or(0).unsigned_abs()));
    };
    let lines = block::unpack(stored.packed).ok_or(AuditError::Block(stored.first))?;
    Ok((stored.first, lines))
}

/// Returns the hash of event `sequence` of the log at `path`, or `None` if the log does not hold it.
pub fn hash_at(path: &Path, sequence: u64) -> Result<Option<String>, AuditError> {
    hash_of(&Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?, sequence)
}

pub(super) fn hash_of(connection: &Connection, sequence: u64) -> Result<Option<String>, AuditError> {
    let found = "SELECT first, last, lines FROM block WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
    let found = connection.query_row(found, [sequence], |row| Ok(lines_of(row))).optional()?;
    let Some((first, lines)) = found.transpose()? else { return Ok(None) };
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
