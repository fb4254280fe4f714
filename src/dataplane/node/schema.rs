//! Opens the databases of a host and migrates each to its newest schema. A database that the host's inventory lists is not
//! created again if it is missing or empty, or lacks a table.

use std::path::Path;

use rusqlite::Connection;
use thiserror::Error;

use super::inventory::{Inventory, InventoryError};
use crate::platform::database::{self, Newer, has_no_table, missing_table};

/// Reasons why a database is not opened and stays unchanged.
#[derive(Debug, Error)]
pub enum Unfit {
    /// A newer build wrote the database, with a version of the schema that this build cannot interpret.
    #[error("has schema {}, which this build does not know; start the newer build again", .0.found)]
    Newer(#[from] Newer),
    /// The database is missing or empty, or lacks a table; or the inventory can't be used. A new database in its place would be
    /// indistinguishable from the original.
    #[error("can't be used: {0}")]
    Gone(#[from] InventoryError),
}

impl Unfit {
    /// Returns true if the database is lost, as opposed to written by a newer build or unknown for a fault of the inventory.
    pub(in crate::dataplane) fn is_lost(&self) -> bool {
        use InventoryError::{Empty, Incomplete, Missing};
        matches!(self, Self::Gone(Missing | Empty | Incomplete(_)))
    }
}

/// Opens or creates the database at `path`, and applies `migrations`. Released migrations are never edited, only followed
/// by others. Every later commit is durable.
///
/// The outer error is SQLite's; the inner one leaves the database as it is.
pub(in crate::dataplane) fn open(
    path: &Path,
    migrations: &[&str],
) -> rusqlite::Result<Result<Connection, Unfit>> {
    open_with(path, |_| Ok(()), migrations)
}

/// Opens the database like [`open`], but first calls `lay_out`, for settings that must be made before the first table.
pub(in crate::dataplane) fn open_with(
    path: &Path,
    lay_out: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    migrations: &[&str],
) -> rusqlite::Result<Result<Connection, Unfit>> {
    let inventory = Inventory::beside(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let made = match inventory.check(&name) {
        Ok(made) => made,
        Err(gone) => return Ok(Err(gone.into())),
    };
    let mut connection = database::open(path)?;
    let version = match database::version(&connection, migrations)? {
        Ok(version) => version,
        Err(newer) => return Ok(Err(newer.into())),
    };
    // A database that lost its write-ahead log before the first checkpoint is a valid file without any table.
    if made && version == 0 && has_no_table(&connection)? {
        return Ok(Err(InventoryError::Empty.into()));
    }
    let complete = Connection::open_in_memory()?;
    migrations[..version].iter().try_for_each(|migration| complete.execute_batch(migration))?;
    if let Some(table) = missing_table(&connection, &complete)? {
        return Ok(Err(InventoryError::Incomplete(table).into()));
    }
    lay_out(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if let Err(newer) = database::migrate(&mut connection, migrations)? {
        return Ok(Err(newer.into()));
    }
    Ok(inventory.made(&name).map(|()| connection).map_err(Unfit::from))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    const FIRST: &str = "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (1);";
    const SECOND: &str = "ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 2;";

    #[test]
    fn each_migration_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        for migrations in [&[FIRST][..], &[FIRST, SECOND], &[FIRST, SECOND]] {
            open(&path, migrations).unwrap().unwrap();
        }
        let connection = Connection::open(&path).unwrap();
        let row = connection.query_one("SELECT x, y FROM a", [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(row, Ok((1, 2)));
    }

    #[test]
    fn what_a_newer_build_has_written_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        open(&path, &[FIRST, SECOND]).unwrap().unwrap();
        assert!(matches!(open(&path, &[FIRST]).unwrap(), Err(Unfit::Newer(Newer { found: 2, known: 1 }))));
        assert!(open(&path, &[FIRST, SECOND]).unwrap().is_ok());
    }

    #[test]
    fn what_was_made_and_is_gone_is_not_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        drop(open(&path, &[FIRST]).unwrap().unwrap());
        std::fs::write(&path, "").unwrap();
        assert!(matches!(open(&path, &[FIRST]).unwrap(), Err(Unfit::Gone(InventoryError::Empty))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(open(&path, &[FIRST]).unwrap(), Err(Unfit::Gone(InventoryError::Missing))));
        assert!(!path.exists());
    }

    #[test]
    fn what_was_made_and_has_no_table_or_lacks_one_is_not_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        drop(open(&path, &[FIRST, "CREATE TABLE b (x INTEGER) STRICT;"]).unwrap().unwrap());
        let opened = |path: &Path| open(path, &[FIRST, "CREATE TABLE b (x INTEGER) STRICT;"]).unwrap();
        Connection::open(&path).unwrap().execute_batch("DROP TABLE a").unwrap();
        let Err(Unfit::Gone(InventoryError::Incomplete(table))) = opened(&path) else { panic!() };
        assert_eq!(table, "a");
        Connection::open(&path).unwrap().execute_batch("DROP TABLE b; PRAGMA user_version = 0").unwrap();
        assert!(matches!(opened(&path), Err(Unfit::Gone(InventoryError::Empty))));
        Inventory::beside(&path).forget("a.db").unwrap();
        opened(&path).unwrap();
    }

    #[test]
    fn a_database_that_was_copied_without_its_write_ahead_log_is_not_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let (path, aside) = (directory.path().join("a.db"), directory.path().join("b"));
        let held = open(&path, &[FIRST]).unwrap().unwrap();
        std::fs::copy(&path, &aside).unwrap();
        drop(held);
        std::fs::rename(&aside, &path).unwrap();
        assert!(matches!(open(&path, &[FIRST]).unwrap(), Err(Unfit::Gone(InventoryError::Empty))));
    }

    #[test]
    fn a_migration_that_breaks_off_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        open(&path, &["CREATE TABLE a (x INTEGER) STRICT; CREATE TABLE a (y INTEGER) STRICT;"]).unwrap_err();
        open(&path, &[FIRST]).unwrap().unwrap();
    }
}
