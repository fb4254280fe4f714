//! Copies the write-ahead log into the database on a thread of its own, while the writer goes on. SQLite would do it within the
//! commit that passes a limit, and whoever writes next would wait for it.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use crate::controlplane::error::Error;

/// Pages in the write-ahead log from which on it is copied.
const PAGES: i32 = 1000;
/// Pages in the write-ahead log from which on the writer copies the rest itself: a log begins anew only when all of it is
/// copied, which the thread does not achieve while others write without a pause.
const MOST: i32 = 16_000;

/// Running thread. It ends when the connection that it was started for is closed; dropping this waits for it, and then closes
/// its connection. If that is the last one, SQLite copies the rest of the log into the database and deletes the log.
///
/// The thread does not close it itself: SQLite copies nothing when two connections are closed at once, as each takes the other
/// for one that stays open.
pub(super) struct Checkpoints(Option<JoinHandle<Connection>>);

impl Checkpoints {
    /// Starts the thread for a connection to the database at `path`.
    pub(super) fn start(connection: &mut Connection, path: &Path) -> Result<Self, Error> {
        let own = Connection::open(path)?;
        let (wake, woken) = mpsc::sync_channel(1);
        let hook = move |wal: &mut Wal, pages| {
            if pages >= MOST {
                // The transaction is committed, so that its caller has no use for the error; a full disk shows at the next one.
                let _ = wal.checkpoint();
            } else if pages >= PAGES {
                // A thread that has been woken and not begun yet copies these pages, too.
                let _ = wake.try_send(());
            }
            Ok(())
        };
        connection.wal_hook(Some(hook))?;
        let run = move || {
            while woken.recv().is_ok() {
                // PASSIVE waits for nobody. What it cannot copy now it copies the next time.
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
