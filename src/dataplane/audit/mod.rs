//! The audit log: every decision as a line that holds the hash of the line before, committed in groups.
//!
//! A deciding thread hands its event over and goes on; one writer thread numbers, chains and commits the waiting events. A
//! mutating request is answered only after that commit, which SQLite makes durable (synchronous = FULL). At intervals the
//! node signs a checkpoint of its log, so that a cut at the end is detected as well. If the end of a log does not match the
//! last checkpoint, the node refuses to go on with it: the next checkpoint would vouch for lines that someone else wrote.
//!
//! While the disk accepts no write, mutating requests are denied. Reads go on, within bounds: their events wait in memory
//! and are written when the disk accepts them again.

mod block;
mod lag;
mod observe;
mod read;
mod retention;
#[cfg(test)]
mod tests;
mod uploaded;
mod verify;
mod writer;

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::dataplane::node::inventory::Inventory;
use crate::dataplane::node::schema::{self, Unfit};
use crate::platform::clock::Clock;
use crate::platform::database::is_damaged;
use crate::protocol::event::{Draft, EventId};
use crate::protocol::id::NodeId;
use crate::protocol::key::SigningKey;
use crate::protocol::time::Time;

pub use lag::UploadLag;
pub use observe::AuditMetrics;
pub use read::{Stretch, arrived_checkpoint, events, hash_at, readable};
pub use retention::Retention;
pub use uploaded::{Extent, extent, set_uploaded, uploaded};
pub use verify::{Fault, Report, verify};
use writer::Writer;

/// Migrations; a released one is never edited. A log of a build that set no schema version has these tables already.
const MIGRATIONS: [&str; 1] = ["
CREATE TABLE IF NOT EXISTS block (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, lines BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS checkpoint (sequence INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
-- What the node signed when it dropped the events before the first one.
CREATE TABLE IF NOT EXISTS anchor (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS boot (number INTEGER PRIMARY KEY) STRICT;
-- How far the log has been taken in above.
CREATE TABLE IF NOT EXISTS uploaded (id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
"];

/// The event cannot be recorded: the queue is full, or the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the audit log can't take the event")]
pub struct AuditUnavailable;

/// Reasons why the log cannot be opened or read.
#[derive(Debug, Error)]
pub enum AuditError {
    /// SQLite reports an error.
    #[error("the audit database can't be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// The schema is newer than this build, or the database is gone.
    #[error("the audit database {0}")]
    Unfit(#[from] Unfit),
    /// The block that begins at this event is not valid.
    #[error("the audit log's block that begins with event {0} can't be unpacked")]
    Block(u64),
    /// The batch exceeds the maximum size of a block.
    #[error("a batch of events is longer than 4 GiB")]
    TooLong,
    /// A checkpoint cannot be serialized.
    #[error("a checkpoint can't be written as JSON: {0}")]
    Checkpoint(#[from] serde_json::Error),
    /// The log does not match the last checkpoint of the node, or the position that was uploaded.
    #[error("the audit log is not what this node wrote, from event {} on: {}", .0.sequence, .0.what)]
    Tampered(Fault),
    /// The writer thread cannot be started.
    #[error("the audit writer can't be started: {0}")]
    Thread(std::io::Error),
}

impl AuditError {
    /// Returns true if what is stored can't be read: a block, or a part of the database.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Block(_) => true,
            Self::Database(error) => is_damaged(error),
            _ => false,
        }
    }
}

/// Callback that raises the alarm that events cannot be recorded or dropped. Its arguments are a sentence and the time.
pub type Alarm = Arc<dyn Fn(&str, Time) + Send + Sync>;

/// Requests that are denied while the log cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Mutating requests. Reads go on as long as their events find room in memory.
    #[default]
    DenyMutating,
    /// All requests, reads included.
    DenyAll,
}

/// Options of a log.
#[derive(Clone)]
pub struct Options {
    /// Maximum number of events that wait to be written. Each takes at most one KiB on average.
    pub capacity: usize,
    /// Requests that are denied while the log cannot be written.
    pub when_full: WhenFull,
    /// Limits above which old events are dropped.
    pub retention: Retention,
    /// Callback for the alarm that the log cannot be written.
    pub alarm: Alarm,
}

impl Options {
    /// Returns options for a queue of `capacity` events, without retention limits.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            when_full: WhenFull::default(),
            retention: Retention::default(),
            alarm: Arc::new(|what, _| tracing::error!("{what}")),
        }
    }
}

/// Drafts that wait to be written: their JSON texts one after the other, and the end of each.
#[derive(Default)]
struct Batch {
    text: String,
    drafts: Vec<Waiting>,
    /// Latest time of the drafts.
    latest: Time,
}

/// End of a draft in the text, and the sender that is told when the draft is durable.
struct Waiting {
    end: usize,
    durable: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Pending {
    batch: Batch,
    /// True if a caller waits for the disk: the batch is committed at once.
    urgent: bool,
    /// Callers that check whether the writer answers.
    probes: Vec<oneshot::Sender<()>>,
    closed: bool,
}

/// State that the deciding threads share with the writer.
struct Queue {
    pending: Mutex<Pending>,
    wake: Condvar,
    failing: AtomicBool,
    capacity: usize,
    when_full: WhenFull,
    /// Sequence number of the last event on the disk, and the number of events that the writer has taken and not written yet.
    sequence: AtomicU64,
    writing: AtomicUsize,
}

thread_local! {
    /// Buffer in which a draft is serialized before the lock is taken, so that other deciding threads do not wait for it.
    static DRAFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // No code panics while it holds the lock. Even after a panic the events in it would be complete.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Audit log, open for writing.
pub struct AuditLog {
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    boot: u64,
    count: AtomicU64,
}

impl AuditLog {
    /// Opens or creates the log at `path` for `node`, whose `key` signs its checkpoints. At most `capacity` events wait to
    /// be written, and no event is dropped.
    pub fn open(
        path: &Path,
        node: NodeId,
        key: Arc<SigningKey>,
        clock: Clock,
        capacity: usize,
    ) -> Result<Self, AuditError> {
        Self::open_with(path, node, key, clock, Options::new(capacity))
    }

    /// Opens or creates the log at `path` with these options.
    pub fn open_with(
        path: &Path,
        node: NodeId,
        key: Arc<SigningKey>,
        clock: Clock,
        options: Options,
    ) -> Result<Self, AuditError> {
        let lay_out = |connection: &Connection| {
            // Blocks are long: larger pages need fewer writes. Dropped events give their space back to the disk.
            connection.pragma_update(None, "page_size", 16_384)?;
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")
        };
        let connection = schema::open_with(path, lay_out, &MIGRATIONS)??;
        // An event gets its id before its place in the log. The time of the start keeps ids unique after a log was lost;
        // the counter keeps them unique when two starts fall into one second.
        let boot = connection.query_row(
            "INSERT INTO boot SELECT max(?1, coalesce(max(number) + 1, 0)) FROM boot RETURNING number",
            [clock().unix()],
            |row| row.get(0),
        )?;
        let (sequence, prev) =
            verify::tail(&connection, &node, key.public())?.map_err(AuditError::Tampered)?;
        // The database alone cannot show that it was emptied, or set back to an older copy.
        let inventory = Inventory::beside(path);
        let noted = inventory.events().map_err(Unfit::from)?;
        if sequence < noted {
            let what = format!("it is missing: this host noted that its log had {noted} events");
            return Err(AuditError::Tampered(Fault { sequence: sequence + 1, what }));
        }
        let queue = Arc::new(Queue {
            pending: Mutex::default(),
            wake: Condvar::new(),
            failing: AtomicBool::new(false),
            capacity: options.capacity,
            when_full: options.when_full,
            sequence: AtomicU64::new(sequence),
            writing: AtomicUsize::new(0),
        });
        let (queued, place) = (Arc::clone(&queue), (sequence, prev));
        let writer = Writer::new((connection, inventory), place, node, key, clock, queued, options)?;
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run());
        let thread = thread.map_err(AuditError::Thread)?;
        Ok(Self { queue, writer: Mutex::new(Some(thread)), boot, count: AtomicU64::new(0) })
    }

    /// Returns a new event id, unique in this node's log.
    #[must_use]
    pub fn next_id(&self) -> EventId {
        EventId::new(self.boot, self.count.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Queues an event; its sequence number is assigned later. With `durable`, the returned future resolves when the event
    /// is on the disk, and to an error if it cannot be written.
    pub fn record(
        &self,
        draft: &Draft<'_>,
        durable: bool,
    ) -> Result<Option<oneshot::Receiver<()>>, AuditUnavailable> {
        if self.denies(durable) {
            return Err(AuditUnavailable);
        }
        let (sender, receiver) = durable.then(oneshot::channel).unzip();
        let wake = DRAFT.with_borrow_mut(|json| {
            json.clear();
            draft.write(json);
            let text = std::str::from_utf8(json).map_err(|_| AuditUnavailable)?;
            let mut pending = self.queue.lock();
            let room = pending.batch.drafts.len() < self.queue.capacity
                && pending.batch.text.len() + text.len() <= self.queue.capacity.saturating_mul(1024);
            // Checked again under the lock: a caller that waits for the disk must not enter the queue after the writer failed it.
            if pending.closed || !room || self.denies(durable) {
                return Err(AuditUnavailable);
            }
            pending.batch.latest = pending.batch.latest.max(draft.time);
            let wake = pending.batch.drafts.is_empty() || (durable && !pending.urgent);
            pending.urgent |= durable;
            pending.batch.text.push_str(text);
            let end = pending.batch.text.len();
            pending.batch.drafts.push(Waiting { end, durable: sender });
            Ok(wake)
        })?;
        if wake {
            self.queue.wake.notify_one();
        }
        Ok(receiver)
    }

    /// Returns true once the writer has written, or tried to write, all events that were queued before this call.
    pub async fn answers(&self) -> bool {
        let (probe, answer) = oneshot::channel();
        {
            let mut pending = self.queue.lock();
            if pending.closed {
                return false;
            }
            pending.probes.push(probe);
        }
        self.queue.wake.notify_one();
        answer.await.is_ok()
    }

    /// Records an event, and returns once it is on the disk.
    pub async fn record_durably(&self, draft: &Draft<'_>) -> Result<(), AuditUnavailable> {
        match self.record(draft, true)? {
            Some(written) => written.await.map_err(|_| AuditUnavailable),
            None => Err(AuditUnavailable),
        }
    }

    fn denies(&self, durable: bool) -> bool {
        self.failing() && (durable || self.queue.when_full == WhenFull::DenyAll)
    }

    /// Returns the sequence number of the last event on the disk.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.queue.sequence.load(Ordering::Relaxed)
    }

    /// Returns the number of events that wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.lock().batch.drafts.len() + self.queue.writing.load(Ordering::Relaxed)
    }

    /// Returns true if the last write failed.
    #[must_use]
    pub fn failing(&self) -> bool {
        self.queue.failing.load(Ordering::Relaxed)
    }

    /// Writes the waiting events, signs a checkpoint, and ends the writer.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.wake.notify_one();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A writer that panicked has reported it already, and there is nothing left to write.
            let _ = writer.join();
        }
    }
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditLog").field("sequence", &self.sequence()).finish_non_exhaustive()
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}
