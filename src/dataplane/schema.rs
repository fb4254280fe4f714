//! The schema of a host's databases: each is a file, brought to its newest schema a migration at a time when it is opened.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};
use thiserror::Error;

/// A newer build has written the database, with this version of its schema. What it means there is not guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("has schema {0}, which this build does not know; start the newer build again")]
pub struct Newer(pub usize);

/// Opens the database at `path`, or makes it, and brings it to the end of `migrations`: what has shipped of them is never
/// edited, only added to. What is committed from then on is on the disk.
///
/// The outer error is SQLite's; the inner one leaves the database as it is.
pub(super) fn open(path: &Path, migrations: &[&str]) -> rusqlite::Result<Result<Connection, Newer>> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let version: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > migrations.len() {
        return Ok(Err(Newer(version)));
    }
    for (number, migration) in migrations.iter().enumerate().skip(version) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number + 1)?;
        transaction.commit()?;
    }
    Ok(Ok(connection))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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
        assert_eq!(open(&path, &[FIRST]).unwrap().unwrap_err(), Newer(2));
        assert!(open(&path, &[FIRST, SECOND]).unwrap().is_ok());
    }

    #[test]
    fn a_migration_that_breaks_off_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        open(&path, &["CREATE TABLE a (x INTEGER) STRICT; CREATE TABLE a (y INTEGER) STRICT;"]).unwrap_err();
        open(&path, &[FIRST]).unwrap().unwrap();
    }
}
