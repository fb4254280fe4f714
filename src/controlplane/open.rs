//! Opens the database of a control plane that was initialized before.

use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use thiserror::Error;

use super::ControlPlane;
use super::error::Error as CallError;
use super::signing::Signing;
use super::store::Store;
use crate::platform::clock::Clock;

/// Reason why a control plane does not open its database.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The database can't be opened, read or migrated.
    #[error("the database {path} can't be used: {source}")]
    Unusable {
        /// File of the database.
        path: PathBuf,
        /// Error of the database.
        source: CallError,
    },
    /// The database is damaged. A control plane that went on would fail at some calls and serve others.
    #[error(
        "the database {path} can't be used: it is damaged ({what}); put it back from a backup, without the -wal and -shm files \
         that are beside it now, and run halligan-control recover before it serves again"
    )]
    Damaged {
        /// File of the database.
        path: PathBuf,
        /// First fault that SQLite names.
        what: String,
    },
    /// There are signing keys, but no database of theirs.
    #[error(
        "the database {path} {what}, though there are keys beside it; put it back from a backup, without the -wal and -shm files \
         that are beside it now, and run halligan-control recover, or, for a control plane that knows of nothing, halligan-control init"
    )]
    Lost {
        /// File of the database.
        path: PathBuf,
        /// Predicate of the message, such as `is missing`.
        what: &'static str,
    },
}

impl OpenError {
    /// Returns the reason for which `source` keeps the database at `path` from being opened.
    #[must_use]
    pub fn of(path: &Path, source: CallError) -> Self {
        match source {
            CallError::Store(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt) =>
            {
                Self::Damaged { path: path.into(), what: error.to_string() }
            }
            source => Self::Unusable { path: path.into(), source },
        }
    }
}

impl ControlPlane {
    /// Fails if the database at `path` is missing, empty, of a newer program, or no database. Creates nothing and changes nothing.
    pub fn examine(path: &Path) -> Result<(), OpenError> {
        Self::find(path)?;
        Store::examine(path).map(drop).map_err(|source| OpenError::of(path, source))
    }

    fn find(path: &Path) -> Result<(), OpenError> {
        let lost = |what| Err(OpenError::Lost { path: path.into(), what });
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => lost("is missing"),
            Ok(found) if found.len() == 0 => lost("is empty"),
            _ => Ok(()),
        }
    }

    /// Opens the control plane whose database is the file `path`. Keys without their database mean a loss, not a first
    /// start: an empty control plane would have no users, and would publish empty replicas to every node.
    ///
    /// # Errors
    ///
    /// [`OpenError::Lost`] if the file is missing, empty, or holds no organization; [`OpenError::Unusable`] if SQLite can't
    /// read it, or a newer program wrote it; [`OpenError::Damaged`] if a page or a table of it is not as SQLite left it. A file that
    /// is missing or empty is left as it is.
    pub fn open_existing(
        path: &Path,
        signing: Signing,
        issuer: String,
        clock: Clock,
        rng: Box<dyn CryptoRng + Send>,
    ) -> Result<Self, OpenError> {
        Self::find(path)?;
        let lost = |what| OpenError::Lost { path: path.into(), what };
        let unusable = |source| OpenError::of(path, source);
        let store = Store::open(path).map_err(unusable)?;
        if let Some(what) = store.find_damage().map_err(unusable)? {
            return Err(OpenError::Damaged { path: path.into(), what });
        }
        let control = Self::new(store, signing, issuer, clock, rng);
        if control.bootstrapped().map_err(unusable)? {
            Ok(control)
        } else {
            Err(lost("holds no organization"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::protocol::time::Time;

    fn random() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    fn open(directory: &Path) -> Result<ControlPlane, OpenError> {
        let (signing, issuer) = (Signing::load(directory).unwrap(), "https://control.example".to_owned());
        let clock: Clock = Arc::new(|| Time::from_unix(1_800_000_000));
        let path = directory.join("control.db");
        ControlPlane::open_existing(&path, signing, issuer, clock, Box::new(random()))
    }

    #[test]
    fn keys_without_a_database_are_a_loss_and_nothing_is_created() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.db");
        Signing::create(directory.path(), Time::from_unix(1_800_000_000), &mut random()).unwrap();
        assert!(matches!(open(directory.path()), Err(OpenError::Lost { what: "is missing", .. })));
        assert!(!path.exists());
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(open(directory.path()), Err(OpenError::Lost { what: "is empty", .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        std::fs::write(&path, b"no database").unwrap();
        assert!(matches!(open(directory.path()), Err(OpenError::Unusable { .. })));
        std::fs::remove_file(&path).unwrap();
        drop(Store::open(&path).unwrap());
        assert!(matches!(open(directory.path()), Err(OpenError::Lost { what: "holds no organization", .. })));
    }

    #[test]
    fn a_backup_beside_the_log_of_the_database_before_is_named_damaged_and_serves_without_it() {
        let directory = tempfile::tempdir().unwrap();
        let (path, kept) = (directory.path().join("control.db"), directory.path().join("kept"));
        Signing::create(directory.path(), Time::from_unix(1_800_000_000), &mut random()).unwrap();
        let clock: Clock = Arc::new(|| Time::from_unix(1_800_000_000));
        let issuer = "https://control.example".to_owned();
        let signing = Signing::load(directory.path()).unwrap();
        let made = ControlPlane::new(Store::open(&path).unwrap(), signing, issuer, clock, Box::new(random()));
        let backup = directory.path().join("backup");
        made.bootstrap("Acme", "owner@acme.example").unwrap();
        drop(made);
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute("VACUUM INTO ?1", [backup.to_str().unwrap()])
            .unwrap();
        let made = open(directory.path()).unwrap();
        // A crash leaves the log.
        let log = directory.path().join("control.db-wal");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE filler (x BLOB); INSERT INTO filler SELECT randomblob(3000) FROM (WITH RECURSIVE n(i) AS
                 (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) SELECT i FROM n); DROP TABLE filler",
            )
            .unwrap();
        std::fs::copy(&log, &kept).unwrap();
        drop((connection, made));
        std::fs::copy(&backup, &path).unwrap();
        std::fs::rename(&kept, &log).unwrap();
        let refused = open(directory.path()).err().unwrap().to_string();
        assert!(
            refused.contains("is damaged") && refused.contains("without the -wal and -shm files"),
            "{refused}"
        );
        for beside in ["control.db-wal", "control.db-shm"] {
            let _ = std::fs::remove_file(directory.path().join(beside));
        }
        std::fs::copy(&backup, &path).unwrap();
        open(directory.path()).unwrap();
    }

    #[test]
    fn a_database_that_is_damaged_in_its_middle_is_not_served() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.db");
        Signing::create(directory.path(), Time::from_unix(1_800_000_000), &mut random()).unwrap();
        let (signing, clock): (_, Clock) =
            (Signing::load(directory.path()).unwrap(), Arc::new(|| Time::from_unix(1_800_000_000)));
        let store = Store::open(&path).unwrap();
        let issuer = "https://control.example".to_owned();
        let made = ControlPlane::new(store, signing, issuer, clock, Box::new(random()));
        made.bootstrap("Acme", "owner@acme.example").unwrap();
        drop(made);
        open(directory.path()).unwrap();
        ControlPlane::examine(&path).unwrap();
        let newer = rusqlite::Connection::open(&path).unwrap();
        let version: usize = newer.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        for found in [version + 1, version] {
            newer.pragma_update(None, "user_version", found).unwrap();
            let examined = ControlPlane::examine(&path);
            assert_eq!(matches!(examined, Err(OpenError::Unusable { .. })), found > version, "{examined:?}");
        }
        drop(newer);
        let whole = rusqlite::Connection::open(&path).unwrap();
        whole.pragma_update(None, "journal_mode", "DELETE").unwrap();
        drop(whole);
        let bytes = std::fs::read(&path).unwrap();

        let mut random_pages = bytes.clone();
        for (number, byte) in random_pages[3 * 4096..9 * 4096].iter_mut().enumerate() {
            *byte = u8::try_from(number * 31 % 251).unwrap();
        }
        std::fs::write(&path, random_pages).unwrap();
        let refused = open(directory.path());
        assert!(
            matches!(refused, Err(OpenError::Damaged { .. } | OpenError::Unusable { .. })),
            "{:?}",
            refused.err()
        );

        std::fs::write(&path, bytes).unwrap();
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection.execute_batch("DROP TABLE token").unwrap();
        drop(connection);
        let refused = open(directory.path());
        assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{:?}", refused.err());
    }
}
