//! The audit log: every decision as a line, each chained to the one before by its hash, committed in groups.
//!
//! Whoever decides hands its event over and goes on; one thread numbers, chains and commits whatever has gathered. A
//! mutating request waits for that commit, which SQLite has made durable (synchronous = FULL), before it is answered.

mod verify;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension, params};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::protocol::event::{Event, GENESIS, line_hash};

pub use verify::{Fault, Report, verify};

/// Events in one row at most.
const BLOCK: usize = 256;

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
    /// The log's last line is no event.
    #[error("the audit log's last event can't be read: {0}")]
    Tail(#[from] serde_json::Error),
    /// No thread could be started.
    #[error("the audit writer can't be started: {0}")]
    Thread(std::io::Error),
}

struct Entry {
    event: Event,
    durable: Option<oneshot::Sender<()>>,
}

/// An open audit log.
pub struct AuditLog {
    queue: Mutex<Option<SyncSender<Entry>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    failing: Arc<AtomicBool>,
    boot: u64,
    count: AtomicU64,
}

impl AuditLog {
    /// Opens the log at `path`, or begins it. `queue` bounds the events that wait to be written.
    pub fn open(path: &Path, queue: usize) -> Result<Self, AuditError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS block (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, lines TEXT NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS boot (number INTEGER PRIMARY KEY) STRICT;
             INSERT INTO boot DEFAULT VALUES;",
        )?;
        // Each start counts: an event's id, made before the event has its place, is not given twice.
        let boot = connection.query_row("SELECT max(number) FROM boot", [], |row| row.get(0))?;
        let tail: Option<String> = connection
            .query_row("SELECT lines FROM block ORDER BY first DESC LIMIT 1", [], |row| row.get(0))
            .optional()?;
        let (sequence, prev) = match tail.as_deref().and_then(|lines| lines.lines().last()) {
            Some(line) => (serde_json::from_str::<Event>(line)?.sequence, line_hash(line)),
            None => (0, GENESIS.to_owned()),
        };
        let (sender, receiver) = sync_channel(queue);
        let failing = Arc::new(AtomicBool::new(false));
        let writer = Writer { connection, sequence, prev, failing: Arc::clone(&failing) };
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&receiver));
        let thread = thread.map_err(AuditError::Thread)?;
        Ok(Self {
            queue: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(thread)),
            failing,
            boot,
            count: AtomicU64::new(0),
        })
    }

    /// A new event id, unique in this node's log.
    #[must_use]
    pub fn next_id(&self) -> String {
        format!("evt_{}-{}", self.boot, self.count.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Hands an event over; its sequence and chain are filled in here. With `durable`, what is returned resolves once
    /// the event is on the disk, and to an error if it can't be.
    pub fn record(
        &self,
        event: Event,
        durable: bool,
    ) -> Result<Option<oneshot::Receiver<()>>, AuditUnavailable> {
        let (sender, receiver) = durable.then(oneshot::channel).unzip();
        let queue =
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(AuditUnavailable)?;
        if self.failing.load(Ordering::Relaxed) && !durable {
            return Err(AuditUnavailable);
        }
        queue.try_send(Entry { event, durable: sender }).map_err(|_| AuditUnavailable)?;
        Ok(receiver)
    }

    /// Whether the last write failed.
    #[must_use]
    pub fn failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Writes what waits, and ends the writer.
    pub fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A writer that panicked has said so already; there is nothing left to write.
            let _ = writer.join();
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}

struct Writer {
    connection: Connection,
    sequence: u64,
    prev: String,
    failing: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Entry>) {
        while let Ok(first) = queue.recv() {
            let mut batch = vec![first];
            while let Some(entry) = (batch.len() < BLOCK).then(|| queue.try_recv().ok()).flatten() {
                batch.push(entry);
            }
            let written = self.write(&mut batch);
            self.failing.store(written.is_err(), Ordering::Relaxed);
            match written {
                // Whoever waited may have gone: the event stands all the same.
                Ok(()) => batch.into_iter().filter_map(|entry| entry.durable).for_each(|done| {
                    let _ = done.send(());
                }),
                Err(error) => {
                    tracing::error!(%error, events = batch.len(), "alarm: events can't be recorded");
                }
            }
        }
    }

    fn write(&mut self, batch: &mut [Entry]) -> Result<(), AuditError> {
        let (mut sequence, mut prev, mut lines) = (self.sequence, self.prev.clone(), String::new());
        for Entry { event, .. } in batch {
            sequence += 1;
            event.sequence = sequence;
            event.prev = prev;
            let line = serde_json::to_string(event)?;
            prev = line_hash(&line);
            lines.push_str(&line);
            lines.push('\n');
        }
        self.connection.prepare_cached("INSERT INTO block VALUES (?1, ?2, ?3)")?.execute(params![
            self.sequence + 1,
            sequence,
            lines
        ])?;
        (self.sequence, self.prev) = (sequence, prev);
        Ok(())
    }
}
