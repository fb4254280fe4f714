//! Copies the write-ahead log into the database on a thread of its own, while the writer continues. SQLite would copy it within the
//! commit that exceeds a limit, and the next writer would wait for that.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use crate::controlplane::error::Error;

/// Number of pages in the write-ahead log from which on the thread copies it.
const PAGES: i32 = 1000;
/// Number of pages in the write-ahead log from which on the writer copies the rest itself. SQLite reuses the log from its beginning
/// only when all of it is copied, which the thread does not achieve while others write without a pause.
const MOST: i32 = 16_000;

/// Running thread. It ends when the connection that it was started for is closed. Dropping this value waits for the thread, and then
/// closes the thread's connection. If that is the last one, SQLite copies the rest of the log into the database and deletes the log.
///
/// The thread does not close its connection itself: if two connections are closed at the same time, SQLite copies nothing, because
/// each close sees the other connection as open.
pub(super) struct Checkpoints(Option<JoinHandle<Connection>>);

impl Checkpoints {
    /// Starts the thread for a connection to the database at `path`.
    pub(super) fn start(connection: &mut Connection, path: &Path) -> Result<Self, Error> {
        let own = Connection::open(path)?;
        let (wake, woken) = mpsc::sync_channel(1);
        let hook = move |wal: &mut Wal, pages| {
            if pages >= MOST {
                // The transaction is committed, so its caller must not get this error. A full disk fails the next transaction.
                let _ = wal.checkpoint();
            } else if pages >= PAGES {
                // If the channel is full, the thread has been woken already, and will copy these pages as well.
                let _ = wake.try_send(());
            }
            Ok(())
        };
        connection.wal_hook(Some(hook))?;
        let run = move || {
            while woken.recv().is_ok() {
                // PASSIVE waits for no reader or writer. Pages that it cannot copy now are copied the next time.
                let _ = own.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            }
            own
        };
        Ok(Self(Some(std::thread::Builder::new().name("checkpoints".into()).spawn(run)?)))
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // A panicked thread has already printed its panic.
            drop(thread.join());
        }
    }
}
