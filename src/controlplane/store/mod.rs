//! Database of the control plane: SQLite with one writer, and numbered migrations.

mod checkpoints;
pub(in crate::controlplane) mod columns;
mod published;
pub(in crate::controlplane) mod table_size;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::watch;

use self::checkpoints::Checkpoints;
pub use self::published::Published;
use self::published::Replicas;
pub use self::writer::Transaction;
use self::writer::{Turn, Writer};
use super::error::Error;
use crate::platform::database::{self, Newer, missing_table};
use crate::protocol::key::PublicKey;

/// Migrations, each from one version of the schema to the next. A released migration is never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("0001_first.sql"),
    include_str!("0002_deployment_routes.sql"),
    include_str!("0003_roles.sql"),
    include_str!("0004_audit_log.sql"),
    include_str!("0005_teams.sql"),
    include_str!("0006_glass.sql"),
    include_str!("0007_oldest_delta.sql"),
    include_str!("0008_reconciliation.sql"),
    include_str!("0009_token_limits.sql"),
    include_str!("0010_standard_tokens.sql"),
    include_str!("0011_dual_control.sql"),
    include_str!("0012_webhook.sql"),
    include_str!("0013_late_use.sql"),
    include_str!("0014_membership.sql"),
    include_str!("0015_signed_as.sql"),
    include_str!("0016_writable.sql"),
    include_str!("0017_retention.sql"),
    include_str!("0018_user_token_end.sql"),
    include_str!("0019_checkpoint.sql"),
    include_str!("0020_changed_by.sql"),
    include_str!("0021_rotation_request.sql"),
    include_str!("0022_token_workspace_role.sql"),
    include_str!("0023_subject_roles.sql"),
    include_str!("0024_deployment_settings.sql"),
    include_str!("0025_token_lists.sql"),
    include_str!("0026_environment.sql"),
    include_str!("0027_deploys.sql"),
    include_str!("0028_events_counted.sql"),
    include_str!("0029_retention_clock.sql"),
    include_str!("0030_log_faults_counted.sql"),
    include_str!("0031_signed_under.sql"),
    include_str!("0032_lost_generations.sql"),
];

/// Returns the thumbprint of a stored key, for migrations that index keys by it.
fn key_id(jwk: &str) -> Option<String> {
    let key = PublicKey::from_jwk(&serde_json::from_str(jwk).ok()?).ok()?;
    Some(key.kid().to_string())
}

/// Database of the control plane.
pub struct Store {
    /// Idle connections for reads that run beside the writer. They are dropped before the writer: the connection that is closed
    /// last copies the write-ahead log into the database, and a read-only connection can't.
    readers: Mutex<Vec<Connection>>,
    /// A mutex of `parking_lot`, which is handed to the longest-waiting thread after it was held for long. With std's, a thread that
    /// writes again and again blocks others for seconds.
    writer: Mutex<Writer>,
    /// Number of threads that wait for their turn to write.
    waiting: AtomicUsize,
    #[cfg(test)]
    always_awaited: AtomicBool,
    /// Thread that copies the write-ahead log, or `None` for a database in memory. The field is declared after the writer, so that it
    /// is dropped after it: closing the writer's connection stops the thread, whose own connection is then the last one.
    _checkpoints: Option<Checkpoints>,
    /// Path of the file, or `None` for a database in memory.
    path: Option<PathBuf>,
    changed: watch::Sender<()>,
    replicas: Replicas,
}

/// Size of the writer's page cache, in KiB. It holds most of the pages into which the events of many nodes are inserted.
const CACHE: i64 = 32 << 10;

/// Maximum number of idle connections kept.
const READERS: usize = 8;

/// Applies this database's settings to a connection.
fn connect(connection: Connection) -> Result<Connection, Error> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    keep_plans(&connection)?;
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection
        .create_scalar_function("key_id", 1, flags, |arguments| Ok(key_id(&arguments.get::<String>(0)?)))?;
    Ok(connection)
}

/// Keeps query plans. Otherwise SQLite plans a statement again for each value, if a partial index might apply to the
/// value.
fn keep_plans(connection: &Connection) -> Result<(), Error> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), Error> {
    database::migrate(connection, migrations)?.map_err(too_new)
}

fn too_new(newer: Newer) -> Error {
    Error::Conflict {
        code: "database_too_new",
        detail: format!("{newer}; use the program that wrote it, or a later one"),
    }
}

impl Store {
    /// Opens the database at `path`. Creates or migrates it if needed.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::prepare(database::open(path)?, Some(path.into()))
    }

    /// Opens the database at `path` for reading, as [`database::open_untouched`] does. Fails if a newer program wrote it.
    pub(in crate::controlplane) fn examine(path: &Path) -> Result<Option<Connection>, Error> {
        let Some(connection) = database::open_untouched(path)? else { return Ok(None) };
        database::version(&connection, MIGRATIONS)?.map_err(too_new)?;
        Ok(Some(connection))
    }

    /// Creates a database in memory.
    pub fn in_memory() -> Result<Self, Error> {
        Self::prepare(Connection::open_in_memory()?, None)
    }

    fn prepare(connection: Connection, path: Option<PathBuf>) -> Result<Self, Error> {
        let mut connection = connect(connection)?;
        migrate(&mut connection, MIGRATIONS)?;
        // Statements that may fail halfway keep copies of the pages that they change. These are kept in memory, not in files, but only
        // after the migrations, since one of those may sort a large table.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -CACHE)?;
        let replicas = Replicas::default();
        replicas.follow(&mut connection)?;
        let checkpoints =
            path.as_deref().map(|path| Checkpoints::start(&mut connection, path)).transpose()?;
        Ok(Self {
            readers: Mutex::default(),
            writer: Mutex::new(Writer::new(connection)),
            waiting: AtomicUsize::new(0),
            #[cfg(test)]
            always_awaited: AtomicBool::new(false),
            _checkpoints: checkpoints,
            path,
            changed: watch::Sender::new(()),
            replicas,
        })
    }

    /// Runs `work` in a transaction, and rolls its changes back if it fails. Returns after the commit, and wakes the waiters of
    /// [`Self::changes`].
    pub fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let result = self.note(work)?;
        self.notify();
        Ok(result)
    }

    /// Wakes the waiters of [`Self::changes`].
    pub(super) fn notify(&self) {
        self.changed.send_replace(());
    }

    /// Runs `work` like [`Self::write`], but wakes nobody. For changes that no node has to receive.
    pub fn note<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let turn = Turn::new(self.writer.lock(), &self.replicas);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        turn.run(work, || self.waiting.load(Ordering::Relaxed) > 0)
    }

    /// Returns the path of the database's file. It is empty for a database in memory.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone().unwrap_or_default()
    }

    /// Returns true if other threads wait to write, so that a long transaction should end soon.
    pub(super) fn is_awaited(&self) -> bool {
        #[cfg(test)]
        if self.always_awaited.load(Ordering::Relaxed) {
            return true;
        }
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Runs `work`, which only reads, on a connection of its own. It sees one state of the database, does not wait for a writer, and
    /// does not block one.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        // Each further connection to a database in memory would open a new, empty database.
        let Some(path) = &self.path else {
            return work(self.writer.lock().connection(&self.replicas));
        };
        let kept = self.readers().pop();
        let mut connection = if let Some(connection) = kept {
            connection
        } else {
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            keep_plans(&connection)?;
            connection
        };
        let result = work(&*connection.transaction()?);
        let mut readers = self.readers();
        if readers.len() < READERS {
            readers.push(connection);
        }
        result
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.readers.lock()
    }

    /// Returns the first fault of the database: a page that is not as SQLite left it, or a table of the schema that is missing.
    /// It reads the whole file.
    pub(super) fn find_damage(&self) -> Result<Option<String>, Error> {
        let mut writer = self.writer.lock();
        let connection = writer.connection(&self.replicas);
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Ok(Some(found));
        }
        let mut complete = connect(Connection::open_in_memory()?)?;
        migrate(&mut complete, MIGRATIONS)?;
        Ok(missing_table(connection, &complete)?.map(|table| format!("it has no table {table}")))
    }

    /// Writes and syncs a few pages, to find out whether the database can be written.
    pub(super) fn probe(&self) -> Result<(), Error> {
        self.note(|transaction| {
            // As large as a small change: on a nearly full disk a tiny row may fit where a change does not.
            transaction.execute("INSERT OR REPLACE INTO writable VALUES (1, zeroblob(16384))", [])?;
            Ok(())
        })
    }

    /// Makes [`Self::is_awaited`] return true from now on, as if other threads always waited.
    #[cfg(test)]
    pub(super) fn keep_awaited(&self) {
        self.always_awaited.store(true, Ordering::Relaxed);
    }

    /// Makes every write fail, like a read-only disk.
    #[cfg(test)]
    pub(super) fn refuse_writes(&self, refuse: bool) {
        let mut writer = self.writer.lock();
        let _ = writer.connection(&self.replicas).pragma_update(None, "query_only", refuse);
    }

    /// Wakes all waiters although nothing in the database has changed.
    pub fn wake(&self) {
        self.notify();
        self.replicas.wake();
    }

    /// Publishes changes that another process, such as `halligan-control recover`, has written. Cheap if there are none.
    pub(super) fn refresh(&self) -> Result<(), Error> {
        Ok(self.replicas.refresh(self.writer.lock().connection(&self.replicas))?)
    }

    /// Returns the state of a data plane's replica as of the last commit. Reads no database.
    pub(super) fn published(&self, data_plane: &str) -> Result<Published, Error> {
        self.replicas.get(data_plane).ok_or(Error::NotFound("data plane"))
    }

    /// Returns a receiver that is notified of each new version of a data plane's replica, and of [`Self::wake`].
    pub(super) fn versions(&self, data_plane: &str) -> Result<watch::Receiver<Published>, Error> {
        self.replicas.subscribe(data_plane).ok_or(Error::NotFound("data plane"))
    }

    /// Returns a number that rises whenever a row of `node` may have changed.
    pub(super) fn nodes_changed(&self) -> u64 {
        self.replicas.nodes_changed()
    }

    /// Returns a receiver that is notified of every change from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
