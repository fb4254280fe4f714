//! Writer's connection, and the commits that calls share ("group commit", DeWitt et al., "Implementation Techniques for Main
//! Memory Database Systems", SIGMOD 1984). A call that has done its part leaves the transaction open to waiting calls. Each part is
//! a savepoint, so that a part that fails rolls back only itself. The last call commits, and all calls are answered after that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::{Connection, Savepoint, ffi};

use super::published::Replicas;
use crate::controlplane::error::Error;

/// Part of the writer's transaction that one call makes.
pub type Transaction<'c> = Savepoint<'c>;

/// Time since the begin of a transaction after which it is committed although other calls wait.
const LONGEST: Duration = Duration::from_millis(2);

/// Reason why a transaction was not committed. All of its parts fail with it.
#[derive(Clone)]
struct Failure {
    error: ffi::Error,
    detail: Option<String>,
}

impl Failure {
    fn new(error: &rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(error, detail) => Self { error: *error, detail: detail.clone() },
            other => Self { error: ffi::Error::new(ffi::SQLITE_ERROR), detail: Some(other.to_string()) },
        }
    }
}

impl From<Failure> for Error {
    fn from(Failure { error, detail }: Failure) -> Self {
        rusqlite::Error::SqliteFailure(error, detail).into()
    }
}

/// Result of a transaction's commit; `None` until the transaction ends.
#[derive(Default)]
struct Commit {
    result: Mutex<Option<Result<(), Failure>>>,
    ended: Condvar,
}

impl Commit {
    fn end(&self, result: Result<(), Failure>) {
        *self.result.lock() = Some(result);
        self.ended.notify_all();
    }

    fn wait(&self) -> Result<(), Failure> {
        let mut result = self.result.lock();
        loop {
            if let Some(result) = &*result {
                return result.clone();
            }
            self.ended.wait(&mut result);
        }
    }
}

/// Open transaction that contains the parts of one or more calls.
struct Open {
    since: Instant,
    commit: Arc<Commit>,
    /// Error at which SQLite rolled back all parts, as it does when the disk is full.
    rolled_back: Option<Failure>,
}

/// Writer's connection.
pub(super) struct Writer {
    connection: Connection,
    open: Option<Open>,
    longest: Duration,
}

impl Writer {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, open: None, longest: LONGEST }
    }

    /// Returns the connection, outside of any transaction.
    pub(super) fn connection(&mut self, replicas: &Replicas) -> &Connection {
        self.commit(replicas);
        &self.connection
    }

    /// Begins a transaction unless one is open, and returns its commit.
    fn begin(&mut self, replicas: &Replicas) -> Result<Arc<Commit>, Error> {
        if let Some(open) = &self.open {
            return Ok(Arc::clone(&open.commit));
        }
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        replicas.begin();
        let commit = Arc::<Commit>::default();
        self.open = Some(Open { since: Instant::now(), commit: Arc::clone(&commit), rolled_back: None });
        Ok(commit)
    }

    /// Runs `work` as one call's part of the transaction. The part is rolled back if `work` fails.
    fn take_part<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let result = self.within_savepoint(work);
        if let (Err(Error::Store(error)), Some(open), true) =
            (&result, &mut self.open, self.connection.is_autocommit())
        {
            open.rolled_back = Some(Failure::new(error));
        }
        result
    }

    fn within_savepoint<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let savepoint = self.connection.savepoint()?;
        let result = work(&savepoint)?;
        savepoint.commit()?;
        Ok(result)
    }

    /// Returns true if the transaction may be left open to the next call.
    fn may_go_on(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.rolled_back.is_none() && open.since.elapsed() < self.longest)
    }

    /// Commits the open transaction, if there is one, and answers the calls that wait for it.
    fn commit(&mut self, replicas: &Replicas) {
        let Some(open) = self.open.take() else { return };
        let result = match open.rolled_back {
            Some(failure) => Err(failure),
            None => self.connection.execute_batch("COMMIT").map_err(|error| Failure::new(&error)),
        };
        if result.is_ok() {
            replicas.committed(&self.connection);
        } else if !self.connection.is_autocommit() {
            // The commit's error is returned, not the rollback's. Without the rollback no further transaction could begin.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        open.commit.end(result);
    }
}

/// Exclusive use of the writer's connection by one call. Dropping it commits the transaction, also when the call panics, unless the
/// transaction is left open to the next call.
pub(super) struct Turn<'s> {
    writer: MutexGuard<'s, Writer>,
    replicas: &'s Replicas,
    stays_open: bool,
}

impl<'s> Turn<'s> {
    pub(super) fn new(writer: MutexGuard<'s, Writer>, replicas: &'s Replicas) -> Self {
        Self { writer, replicas, stays_open: false }
    }

    /// Runs `work` as a part of a transaction, and waits for the commit. `is_awaited` returns true if other calls wait for the
    /// connection.
    pub(super) fn run<T>(
        mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
        is_awaited: impl FnOnce() -> bool,
    ) -> Result<T, Error> {
        let commit = self.writer.begin(self.replicas)?;
        let result = self.writer.take_part(work);
        self.stays_open = self.writer.may_go_on() && is_awaited();
        drop(self);
        // A part that failed waits for the commit as well: the data that it was rejected for may be of another part of the transaction,
        // and is not durable before the commit.
        let committed = commit.wait();
        let value = result?;
        committed?;
        Ok(value)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.stays_open {
            self.writer.commit(self.replicas);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::controlplane::store::Store;

    /// Opens a store with a table of parts, whose transactions stay open for `longest` while others wait.
    fn open(directory: &Path, longest: Duration) -> Store {
        let store = Store::open(&directory.join("control.db")).unwrap();
        store.writer.lock().longest = longest;
        store
            .note(|transaction| {
                Ok(transaction.execute_batch("CREATE TABLE part (number INTEGER PRIMARY KEY) STRICT")?)
            })
            .unwrap();
        store
    }

    /// Opens a store whose transactions stay open as long as others wait.
    fn patient(directory: &Path) -> Store {
        open(directory, Duration::from_hours(1))
    }

    fn insert(transaction: &Transaction<'_>, number: u32) -> Result<(), Error> {
        transaction.execute("INSERT INTO part VALUES (?1)", [number])?;
        Ok(())
    }

    fn stored(store: &Store) -> Vec<u32> {
        store
            .read(|connection| {
                let mut query = connection.prepare("SELECT number FROM part ORDER BY number")?;
                Ok(query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
            })
            .unwrap()
    }

    /// Makes `first` a part of a transaction that it leaves to the others, which wait for it to end.
    fn together<T: Send>(
        store: &Store,
        first: impl FnOnce(&Transaction<'_>) -> Result<T, Error> + Send,
        others: Vec<Box<dyn FnOnce() + Send + '_>>,
    ) -> Result<T, Error> {
        let number = others.len();
        thread::scope(|scope| {
            let (begun, go) = std::sync::mpsc::channel();
            let first = scope.spawn(move || {
                store.note(|transaction| {
                    begun.send(()).unwrap();
                    while store.waiting.load(Ordering::Relaxed) < number {
                        thread::yield_now();
                    }
                    first(transaction)
                })
            });
            go.recv().unwrap();
            for other in others {
                scope.spawn(other);
            }
            first.join().unwrap()
        })
    }

    #[test]
    fn parts_share_a_commit_and_one_that_fails_takes_back_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let store = patient(directory.path());
        let commits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&commits);
        let count = move || counted.fetch_add(1, Ordering::Relaxed) == usize::MAX;
        store.writer.lock().connection.commit_hook(Some(count)).unwrap();
        let failing = || {
            let refused = store.note(|transaction| {
                insert(transaction, 2)?;
                Err::<(), _>(Error::Stale)
            });
            assert!(matches!(refused, Err(Error::Stale)));
            assert_eq!(stored(&store), [1, 3], "it is refused only after the commit");
        };
        let third = || store.note(|transaction| insert(transaction, 3)).unwrap();
        together(&store, |transaction| insert(transaction, 1), vec![Box::new(failing), Box::new(third)])
            .unwrap();
        assert_eq!(stored(&store), [1, 3]);
        assert_eq!(commits.load(Ordering::Relaxed), 1);
    }

    /// Makes a part that fails the transaction as a whole, and returns the error of another part of it. Nothing of either must be
    /// stored, and the next transaction must work.
    fn error_of_the_other_part(
        last: impl Fn(&Transaction<'_>) -> Result<(), Error> + Send,
    ) -> rusqlite::Error {
        let directory = tempfile::tempdir().unwrap();
        let store = patient(directory.path());
        let failing = || {
            let part = store.note(last);
            assert!(matches!(part, Err(Error::Store(_))), "{part:?}");
        };
        let first = together(&store, |transaction| insert(transaction, 1), vec![Box::new(failing)]);
        assert!(stored(&store).is_empty());
        store.note(|transaction| insert(transaction, 3)).unwrap();
        assert_eq!(stored(&store), [3]);
        let Err(Error::Store(error)) = first else { panic!("{first:?}") };
        error
    }

    #[test]
    fn a_commit_that_fails_fails_each_part_and_the_next_transaction_works() {
        error_of_the_other_part(|transaction| {
            // A violation that is found at the commit.
            transaction.execute_batch(
                "CREATE TABLE child (part INTEGER REFERENCES part DEFERRABLE INITIALLY DEFERRED) STRICT;
                 INSERT INTO child VALUES (4)",
            )?;
            insert(transaction, 2)
        });
    }

    #[test]
    fn what_sqlite_rolls_back_as_a_whole_fails_each_part() {
        let error = error_of_the_other_part(|transaction| {
            Ok(transaction
                .execute_batch("INSERT INTO part VALUES (2); INSERT OR ROLLBACK INTO part VALUES (2)")?)
        });
        let code = error.sqlite_error_code();
        assert_eq!(code, Some(rusqlite::ErrorCode::ConstraintViolation), "the reason is told");
    }

    #[test]
    fn a_part_that_panics_leaves_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let store = patient(directory.path());
        let panics = || {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                store.note(|transaction| {
                    insert(transaction, 2)?;
                    if transaction.is_autocommit() { Ok(()) } else { panic!("on purpose") }
                })
            }));
            assert!(caught.is_err());
        };
        together(&store, |transaction| insert(transaction, 1), vec![Box::new(panics)]).unwrap();
        assert_eq!(stored(&store), [1]);
    }

    #[test]
    fn a_transaction_is_committed_in_time_however_many_wait() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), Duration::ZERO);
        let next = || {
            let seen = store.note(|_| Ok(stored(&store))).unwrap();
            assert_eq!(seen, [1], "committed before the next part");
        };
        together(&store, |transaction| insert(transaction, 1), vec![Box::new(next)]).unwrap();
    }

    #[test]
    fn threads_that_write_at_once_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), LONGEST);
        thread::scope(|scope| {
            for thread in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for number in (thread * 100)..(thread * 100 + 100) {
                        let part = store.note(|transaction| {
                            insert(transaction, number)?;
                            if number % 3 == 0 { Err(Error::Stale) } else { Ok(()) }
                        });
                        assert_eq!(part.is_ok(), number % 3 != 0);
                        assert_eq!(
                            stored(store).contains(&number),
                            number % 3 != 0,
                            "an answer tells what is durable"
                        );
                    }
                });
            }
        });
        assert_eq!(stored(&store).len(), 800 - 267);
    }
}
