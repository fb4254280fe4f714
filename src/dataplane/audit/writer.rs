//! The one thread that writes the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::sync::oneshot::Sender;

use super::{AuditError, Batch, Pending, Queue};
use crate::dataplane::Clock;
use crate::protocol::event::{Checkpoint, line_hash, place};
use crate::protocol::id::NodeId;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::time::Time;

/// How long events that nobody waits for may gather before they are committed.
const GATHER: Duration = Duration::from_millis(10);
/// Pause before a failed write is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// A checkpoint is signed after so many events, or so many seconds with any.
const CHECKPOINT_EVENTS: u64 = 10_000;
const CHECKPOINT_SECONDS: i64 = 60;

pub(super) struct Writer {
    connection: Connection,
    sequence: u64,
    prev: String,
    node: NodeId,
    key: Arc<SigningKey>,
    clock: Clock,
    queue: Arc<Queue>,
    /// Where the log stood, and when, at the last checkpoint.
    checkpoint: (u64, Time),
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        sequence: u64,
        prev: String,
        node: NodeId,
        key: Arc<SigningKey>,
        clock: Clock,
        queue: Arc<Queue>,
    ) -> Self {
        let checkpoint = (sequence, clock());
        Self { connection, sequence, prev, node, key, clock, queue, checkpoint }
    }

    pub(super) fn run(mut self) {
        let mut batch = Batch::default();
        loop {
            let (closed, probes) = self.gather(&mut batch);
            match self.write(&batch) {
                Ok(()) => {
                    self.queue.failing.store(false, Ordering::Relaxed);
                    for draft in batch.drafts.drain(..) {
                        // Whoever waited may have gone: the event stands all the same.
                        let _ = draft.durable.map(|waiting| waiting.send(()));
                    }
                    batch.text.clear();
                }
                Err(error) => {
                    if !self.queue.failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(%error, "alarm: events can't be recorded; requests are denied");
                    }
                    batch = batch.answered();
                    if !closed {
                        std::thread::sleep(RETRY);
                    }
                }
            }
            for probe in probes {
                // Whoever asked may have lost patience.
                let _ = probe.send(());
            }
            if closed {
                return;
            }
        }
    }

    /// Waits for events, gives those nobody waits for a moment to gather, and adds them all to `batch`.
    fn gather(&self, batch: &mut Batch) -> (bool, Vec<Sender<()>>) {
        let pending = self.queue.lock();
        let idle = |pending: &mut Pending| {
            pending.batch.drafts.is_empty() && pending.probes.is_empty() && !pending.closed
        };
        // While it fails, or when a checkpoint is due, there is something to do without an event.
        let rest = if self.queue.failing.load(Ordering::Relaxed) { RETRY } else { Duration::from_mins(1) };
        let Ok((pending, _)) = self.queue.wake.wait_timeout_while(pending, rest, idle) else {
            return (true, Vec::new());
        };
        let calm = |pending: &mut Pending| !pending.urgent && !pending.closed;
        let Ok((mut pending, _)) = self.queue.wake.wait_timeout_while(pending, GATHER, calm) else {
            return (true, Vec::new());
        };
        pending.urgent = false;
        if batch.drafts.is_empty() {
            // The emptied one takes the place of the full one, with the memory it has.
            std::mem::swap(batch, &mut pending.batch);
        } else {
            batch.append(&mut pending.batch);
        }
        (pending.closed, std::mem::take(&mut pending.probes))
    }

    fn write(&mut self, batch: &Batch) -> Result<(), AuditError> {
        let (mut sequence, mut prev) = (self.sequence, self.prev.clone());
        let mut lines = String::with_capacity(batch.text.len() + batch.drafts.len() * 96);
        for draft in batch.texts() {
            sequence += 1;
            let start = lines.len();
            place(sequence, &prev, draft, &mut lines);
            prev = line_hash(&lines[start..]);
            lines.push('\n');
        }
        let now = (self.clock)();
        let (covered, at) = self.checkpoint;
        let due = self.queue.failing.load(Ordering::Relaxed)
            || (sequence > covered
                && (sequence - covered >= CHECKPOINT_EVENTS
                    || now.since(at) >= CHECKPOINT_SECONDS
                    || self.queue.lock().closed));
        if batch.drafts.is_empty() && !due {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        if !batch.drafts.is_empty() {
            let row = params![self.sequence + 1, sequence, lines];
            transaction.prepare_cached("INSERT INTO block VALUES (?1, ?2, ?3)")?.execute(row)?;
        }
        if due {
            let checkpoint = Checkpoint { iss: self.node.clone(), iat: now, sequence, hash: prev.clone() };
            let text = sign(Typ::AuditCheckpoint, &serde_json::to_vec(&checkpoint)?, &self.key);
            transaction
                .execute("INSERT OR REPLACE INTO checkpoint VALUES (?1, ?2)", params![sequence, text])?;
        }
        transaction.commit()?;
        if due {
            self.checkpoint = (sequence, now);
        }
        (self.sequence, self.prev) = (sequence, prev);
        Ok(())
    }
}

impl Batch {
    fn texts(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.drafts.iter().map(|draft| draft.end));
        starts.zip(&self.drafts).map(|(start, draft)| &self.text[start..draft.end])
    }

    fn append(&mut self, other: &mut Self) {
        let offset = self.text.len();
        self.text.push_str(&other.text);
        other.text.clear();
        self.drafts.extend(other.drafts.drain(..).map(|mut draft| {
            draft.end += offset;
            draft
        }));
    }

    /// What is left when a write failed. Whoever still waits is told no, and its event goes: it must not say "allow".
    /// The others have been answered; their events are kept until they can be written.
    fn answered(self) -> Self {
        let mut kept = Self::default();
        for (text, draft) in self.texts().zip(&self.drafts) {
            if draft.durable.is_none() {
                kept.text.push_str(text);
                kept.drafts.push(super::Waiting { end: kept.text.len(), durable: None });
            }
        }
        kept
    }
}
