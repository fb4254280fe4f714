//! The audit log: every decision as a line, each chained to the one before by its hash, committed in groups.
//!
//! Whoever decides hands its event over and goes on; one thread numbers, chains and commits whatever has gathered. A
//! mutating request waits for that commit, which SQLite has made durable (synchronous = FULL), before it is answered.
//! At intervals the node signs where its log stands, so that even its end can't be cut off unseen. A log whose end does not
//! follow from what was signed last is not gone on with: the next signature would vouch for what somebody else wrote.
//!
//! While the disk takes nothing, what changes something upstream is denied. Reads go on, within bounds: their events wait in
//! memory, and are written when the disk takes them again.

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

use crate::dataplane::Clock;
use crate::dataplane::schema::{self, Unfit};
use crate::protocol::event::{Draft, EventId};
use crate::protocol::id::NodeId;
use crate::protocol::key::SigningKey;
use crate::protocol::time::Time;

pub use lag::UploadLag;
pub use observe::AuditMetrics;
pub use read::{arrived_checkpoint, events, hash_at};
pub use retention::Retention;
pub use uploaded::{Extent, extent, set_uploaded, uploaded};
pub use verify::{Fault, Report, verify};
use writer::Writer;

/// What has shipped is never edited. A log of a build that gave it no version has these tables already.
const MIGRATIONS: [&str; 1] = ["
CREATE TABLE IF NOT EXISTS block (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, lines BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS checkpoint (sequence INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
-- What the node signed when it dropped the events before the first one.
CREATE TABLE IF NOT EXISTS anchor (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS boot (number INTEGER PRIMARY KEY) STRICT;
-- How far the log has been taken in above.
CREATE TABLE IF NOT EXISTS uploaded (id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
"];

/// The event could not be recorded: the queue is full, or the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the audit log can't take the event")]
pub struct AuditUnavailable;

/// Why the log can't be opened or read.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The database can't be used.
    #[error("the audit database can't be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// A newer build has written it, or it is gone.
    #[error("the audit database {0}")]
    Unfit(#[from] Unfit),
    /// A block is not what a log is made of.
    #[error("the audit log's block that begins with event {0} can't be unpacked")]
    Block(u64),
    /// A batch that no block can hold.
    #[error("a batch of events is longer than 4 GiB")]
    TooLong,
    /// A checkpoint that can't be written down.
    #[error("a checkpoint can't be written as JSON: {0}")]
    Checkpoint(#[from] serde_json::Error),
    /// What the node signed last, or what the control plane took in, does not hold.
    #[error("the audit log is not what this node wrote, from event {} on: {}", .0.sequence, .0.what)]
    Tampered(Fault),
    /// No thread could be started.
    #[error("the audit writer can't be started: {0}")]
    Thread(std::io::Error),
}

/// Raises the alarm that events can't be recorded, or can't be dropped: what, in a sentence, and when.
pub type Alarm = Arc<dyn Fn(&str, Time) + Send + Sync>;

/// What is denied while the log can't be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// What may change something. Reads go on as long as their events find room in memory.
    #[default]
    DenyMutating,
    /// Everything.
    DenyAll,
}

/// What a log is to be.
#[derive(Clone)]
pub struct Options {
    /// How many events may wait to be written. Together they take at most a KiB for each.
    pub capacity: usize,
    /// What is denied while it can't be written.
    pub when_full: WhenFull,
    /// How much of it is kept.
    pub retention: Retention,
    /// Who is told when it can't be written.
    pub alarm: Alarm,
}

impl Options {
    /// A log in which so many events may wait, and of which all is kept.
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

/// Drafts on their way to the disk: their JSON, one after the other, and where each ends.
#[derive(Default)]
struct Batch {
    text: String,
    drafts: Vec<Waiting>,
    /// The latest time of any.
    latest: Time,
}

/// Where a draft ends in the text, and who waits for it to be on the disk.
struct Waiting {
    end: usize,
    durable: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Pending {
    batch: Batch,
    /// Someone waits: commit at once.
    urgent: bool,
    /// Who asks whether the writer is there.
    probes: Vec<oneshot::Sender<()>>,
    closed: bool,
}

/// What those who decide and the writer share.
struct Queue {
    pending: Mutex<Pending>,
    wake: Condvar,
    failing: AtomicBool,
    capacity: usize,
    when_full: WhenFull,
    /// The last event on the disk, and how many the writer has taken that are not.
    sequence: AtomicU64,
    writing: AtomicUsize,
}

thread_local! {
    /// Where a draft is written before the lock is taken: whoever decides next must not wait for that.
    static DRAFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Nothing panics while it holds the lock; were it so, the events in it are whole all the same.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open audit log.
pub struct AuditLog {
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    boot: u64,
    count: AtomicU64,
}

impl AuditLog {
    /// Opens the log at `path`, or begins it, for `node`, whose `key` signs its checkpoints. At most `capacity` events
    /// wait to be written, and all of it is kept.
    pub fn open(
        path: &Path,
        node: NodeId,
        key: Arc<SigningKey>,
        clock: Clock,
        capacity: usize,
    ) -> Result<Self, AuditError> {
        Self::open_with(path, node, key, clock, Options::new(capacity))
    }

    /// Opens the log at `path`, or begins it, as `options` say.
    pub fn open_with(
        path: &Path,
        node: NodeId,
        key: Arc<SigningKey>,
        clock: Clock,
        options: Options,
    ) -> Result<Self, AuditError> {
        let lay_out = |connection: &Connection| {
            // Blocks are long: larger pages make fewer writes of them. What is dropped is given back to the disk.
            connection.pragma_update(None, "page_size", 16_384)?;
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")
        };
        let connection = schema::open_with(path, lay_out, &MIGRATIONS)??;
        // An event's id is given before the event has its place. The time of the start makes ids unique also when a log
        // was lost; counting on makes them unique when two starts fall into one second.
        let boot = connection.query_row(
            "INSERT INTO boot SELECT max(?1, coalesce(max(number) + 1, 0)) FROM boot RETURNING number",
            [clock().unix()],
            |row| row.get(0),
        )?;
        let (sequence, prev) = verify::tail(&connection, key.public())?.map_err(AuditError::Tampered)?;
        let queue = Arc::new(Queue {
            pending: Mutex::default(),
            wake: Condvar::new(),
            failing: AtomicBool::new(false),
            capacity: options.capacity,
            when_full: options.when_full,
            sequence: AtomicU64::new(sequence),
            writing: AtomicUsize::new(0),
        });
        let writer = Writer::new(connection, sequence, prev, node, key, clock, Arc::clone(&queue), options)?;
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run());
        let thread = thread.map_err(AuditError::Thread)?;
        Ok(Self { queue, writer: Mutex::new(Some(thread)), boot, count: AtomicU64::new(0) })
    }

    /// A new event id, unique in this node's log.
    #[must_use]
    pub fn next_id(&self) -> EventId {
        EventId::new(self.boot, self.count.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Hands an event over; its place is found later. With `durable`, what is returned resolves once the event is on
    /// the disk, and to an error if it can't be.
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
            // Asked again under the lock: whoever waits for the disk must not come in behind the failure.
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

    /// Whether the writer answers: it has written, or tried to, all that was handed over before.
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

    /// The last event that is on the disk.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.queue.sequence.load(Ordering::Relaxed)
    }

    /// How many events wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.lock().batch.drafts.len() + self.queue.writing.load(Ordering::Relaxed)
    }

    /// Whether the last write failed.
    #[must_use]
    pub fn failing(&self) -> bool {
        self.queue.failing.load(Ordering::Relaxed)
    }

    /// Writes what waits, signs where the log stands, and ends the writer.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.wake.notify_one();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A writer that panicked has said so already; there is nothing left to write.
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
