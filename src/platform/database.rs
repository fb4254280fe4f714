//! SQLite databases: files that only their owner can read, and a schema that is migrated step by step. The number of the
//! migrations that were applied is SQLite's `user_version`.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use thiserror::Error;

use crate::platform::cause::causes;
use crate::platform::private_file::create_private;

/// Opens or creates the database at `path`, so that only its owner can read it.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    make_private(path).map_err(|error| {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(code, Some(format!("{}: {error}", path.display())))
    })?;
    Connection::open(path)
}

/// Opens the database at `path` for reading, and creates no file beside it: files of another user would keep the program that
/// owns the database from opening it. Returns `None` if nothing has it open and its write-ahead log is not empty, since reading the
/// log would create a file.
pub fn open_untouched(path: &Path) -> rusqlite::Result<Option<Connection>> {
    let beside = |suffix: &str| {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        std::fs::metadata(file).map_or(0, |found| found.len())
    };
    // With the index of the log in place SQLite creates nothing. Without it, only a file that is declared immutable
    // (https://www.sqlite.org/uri.html#uriimmutable) is read without one.
    let how = match (beside("-shm"), beside("-wal")) {
        (1.., _) => "mode=ro",
        (0, 0) => "mode=ro&immutable=1",
        (0, 1..) => return Ok(None),
    };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{}?{how}", uri_path(path)), flags).map(Some)
}

/// Encodes a path for a URI (RFC 3986 section 2.1).
fn uri_path(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_".contains(&byte);
    let bytes = path.as_os_str().as_bytes().iter();
    bytes.map(|byte| if plain(*byte) { char::from(*byte).into() } else { format!("%{byte:02X}") }).collect()
}

/// Returns true if what a database holds can't be read, as opposed to a disk that is full or out of reach.
#[must_use]
pub fn is_damaged(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        || matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::Utf8Error(..)
        )
}

/// Returns true if the disk can't be read or written, as opposed to a fault of the database: once the disk has room and can be
/// written, the same call succeeds.
#[must_use]
pub fn is_disk_fault(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure};
    matches!(
        error.sqlite_error_code(),
        Some(CannotOpen | DiskFull | PermissionDenied | ReadOnly | SystemIoFailure)
    )
}

/// Returns SQLite's error among `error` and its causes.
pub fn database_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rusqlite::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The database has more migrations than this program knows: a newer program wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it is of version {found}, and this program knows versions up to {known}")]
pub struct Newer {
    /// Version of the database.
    pub found: usize,
    /// Newest version that this program knows.
    pub known: usize,
}

/// Returns the number of `migrations` that a database has already.
pub fn version(connection: &Connection, migrations: &[&str]) -> rusqlite::Result<Result<usize, Newer>> {
    let known = migrations.len();
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(if found > known { Err(Newer { found, known }) } else { Ok(found) })
}

/// Brings a database to the version of its last migration, each migration in a transaction of its own. Released
/// migrations are never edited, only followed by others.
///
/// The outer error is SQLite's; the inner one leaves the database as it is.
pub fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<Result<(), Newer>> {
    let version = match version(connection, migrations)? {
        Ok(version) => version,
        Err(newer) => return Ok(Err(newer)),
    };
    for (number, migration) in migrations.iter().enumerate().skip(version) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number + 1)?;
        transaction.commit()?;
    }
    Ok(Ok(()))
}

/// Returns true if a database has no table but those that SQLite keeps for itself.
pub fn has_no_table(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(tables(connection)?.iter().all(|table| table.starts_with("sqlite_")))
}

/// Returns true if a database has the table `name`.
pub fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    Ok(tables(connection)?.contains(name))
}

/// Returns a table that the database `complete` has and `connection` lacks, or `None` if it has all of them.
pub fn missing_table(connection: &Connection, complete: &Connection) -> rusqlite::Result<Option<String>> {
    let present = tables(connection)?;
    Ok(tables(complete)?.into_iter().find(|table| !present.contains(table)))
}

fn tables(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut query = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    query.query_map([], |row| row.get(0))?.collect()
}

/// Makes the database at `path` and SQLite's files beside it readable only by their owner. SQLite creates files according
/// to the umask, and gives the files beside a database the database's permissions.
///
/// An existing file is not opened: closing it would release the locks that this process's own connections hold on it.
fn make_private(path: &Path) -> std::io::Result<()> {
    match create_private(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => return made.map(drop),
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match std::fs::metadata(&file) {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o077 != 0 => {
                std::fs::set_permissions(&file, Permissions::from_mode(0o600))?;
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_database_is_private_whatever_it_was_before() {
        let directory = tempfile::tempdir().unwrap();
        let (path, beside) = (directory.path().join("a.db"), directory.path().join("a.db-wal"));
        make_private(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        std::fs::write(&beside, "kept").unwrap();
        for file in [&path, &beside] {
            std::fs::set_permissions(file, Permissions::from_mode(0o666)).unwrap();
        }
        make_private(&path).unwrap();
        assert_eq!((mode(&path), mode(&beside)), (0o600, 0o600));
        assert_eq!(std::fs::read_to_string(beside).unwrap(), "kept");
    }

    #[test]
    fn a_database_is_examined_without_a_file_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("a?b=%41 #\u{e9}");
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("control.db");
        let files = || {
            let entries = std::fs::read_dir(&directory).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>()
        };
        let sees = |table: &str| {
            open_untouched(&path).unwrap().map(|connection| has_table(&connection, table).unwrap())
        };
        let owner = open(&path).unwrap();
        owner.pragma_update(None, "journal_mode", "WAL").unwrap();
        owner
            .execute_batch("CREATE TABLE a (b); PRAGMA wal_checkpoint(TRUNCATE); CREATE TABLE c (d)")
            .unwrap();
        let open_files = files();
        assert_eq!(open_files.len(), 3);
        assert_eq!((sees("a"), sees("c"), sees("e")), (Some(true), Some(true), Some(false)));
        assert_eq!(files(), open_files);

        // As a crash leaves them, without the index of the log.
        let left = directory.with_file_name("left");
        std::fs::create_dir(&left).unwrap();
        for name in ["control.db", "control.db-wal"] {
            std::fs::copy(directory.join(name), left.join(name)).unwrap();
        }
        assert!(open_untouched(&left.join("control.db")).unwrap().is_none());
        assert_eq!(std::fs::read_dir(&left).unwrap().count(), 2);

        drop(owner);
        assert_eq!(files().len(), 1);
        assert_eq!((sees("a"), sees("c"), sees("e")), (Some(true), Some(true), Some(false)));
        assert_eq!(files().len(), 1);
        let write = open_untouched(&path).unwrap().unwrap().execute_batch("CREATE TABLE f (g)");
        assert!(write.is_err());
    }
}
