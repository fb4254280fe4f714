//! The one thread that writes the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::{AuditError, Entry, Queue};
use crate::dataplane::Clock;
use crate::protocol::event::{Checkpoint, line_hash};
use crate::protocol::id::NodeId;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::time::Time;

/// How long events that nobody waits for may gather before they are committed.
const GATHER: Duration = Duration::from_millis(10);
/// How many of them are committed at once even before that.
const PLENTY: usize = 1024;
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
        let mut kept = Vec::new();
        loop {
            let (mut batch, closed) = self.gather();
            kept.append(&mut batch);
            match self.write(&mut kept) {
                Ok(()) => {
                    self.queue.failing.store(false, Ordering::Relaxed);
                    for entry in kept.drain(..) {
                        // Whoever waited may have gone: the event stands all the same.
                        let _ = entry.durable.map(|waiting| waiting.send(()));
                    }
                }
                Err(error) => {
                    if !self.queue.failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(%error, "alarm: events can't be recorded; requests are denied");
                    }
                    // Whoever still waits is told no, and its event goes: it must not say "allow". The others have been
                    // answered; their events are kept until they can be written.
                    kept.retain(|entry| entry.durable.is_none());
                    if !closed {
                        std::thread::sleep(RETRY);
                    }
                }
            }
            if closed {
                return;
            }
        }
    }

    /// Waits for events, gives those nobody waits for a moment to gather, and takes them all.
    fn gather(&self) -> (Vec<Entry>, bool) {
        let pending = self.queue.lock();
        let idle = |pending: &mut super::Pending| pending.entries.is_empty() && !pending.closed;
        // While it fails, or when a checkpoint is due, there is something to do without an event.
        let rest = if self.queue.failing.load(Ordering::Relaxed) { RETRY } else { Duration::from_mins(1) };
        let Ok((pending, _)) = self.queue.wake.wait_timeout_while(pending, rest, idle) else {
            return (Vec::new(), true);
        };
        let calm = |pending: &mut super::Pending| {
            !pending.urgent && !pending.closed && pending.entries.len() < PLENTY
        };
        let Ok((mut pending, _)) = self.queue.wake.wait_timeout_while(pending, GATHER, calm) else {
            return (Vec::new(), true);
        };
        pending.urgent = false;
        (std::mem::take(&mut pending.entries), pending.closed)
    }

    fn write(&mut self, batch: &mut [Entry]) -> Result<(), AuditError> {
        let (mut sequence, mut prev) = (self.sequence, self.prev.clone());
        let mut lines = String::with_capacity(batch.len() * 512);
        for Entry { event, .. } in &mut *batch {
            sequence += 1;
            event.sequence = sequence;
            event.prev = prev;
            let line = serde_json::to_string(event)?;
            prev = line_hash(&line);
            lines.push_str(&line);
            lines.push('\n');
        }
        let now = (self.clock)();
        let (covered, at) = self.checkpoint;
        let due = self.queue.failing.load(Ordering::Relaxed)
            || (sequence > covered
                && (sequence - covered >= CHECKPOINT_EVENTS
                    || now.since(at) >= CHECKPOINT_SECONDS
                    || self.queue.lock().closed));
        if batch.is_empty() && !due {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        if !batch.is_empty() {
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
