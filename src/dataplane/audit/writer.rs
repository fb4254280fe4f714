//! The thread that writes the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::oneshot::Sender;

use super::block::{KEPT, Packer};
use super::{AuditError, Batch, Options, Pending, Queue, WhenFull};
use crate::dataplane::node::inventory::Inventory;
use crate::platform::clock::Clock;
use crate::protocol::event::{Checkpoint, line_hash, place};
use crate::protocol::id::NodeId;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::time::Time;

/// Time for which events may gather before a commit, if no caller waits for them.
const GATHER: Duration = Duration::from_millis(10);
/// Pause before a failed write is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// Number of events, or of seconds with any event, after which a checkpoint is signed. [`super::verify()`] relies on it:
/// fewer events are without a checkpoint, and they are not much later than the last one.
pub(super) const CHECKPOINT_EVENTS: u64 = 10_000;
pub(super) const CHECKPOINT_SECONDS: i64 = 60;

pub(super) struct Writer {
    connection: Connection,
    inventory: Inventory,
    /// Time at which the number of events was noted in the inventory last.
    noted: Option<Time>,
    sequence: u64,
    prev: String,
    node: NodeId,
    key: Arc<SigningKey>,
    clock: Clock,
    queue: Arc<Queue>,
    options: Options,
    /// Last checkpoint, or `None` if the log has none: the first events get one then.
    checkpoint: Option<Checkpoint>,
    /// True if the log exceeds its limits and the alarm for it was raised.
    stuck: bool,
    /// Lines of a batch and the block made of them. The memory is reused for each batch.
    lines: String,
    packer: Packer,
}

impl Writer {
    /// Returns the writer of a log whose last event has the number and the hash `place`.
    pub(super) fn new(
        (connection, inventory): (Connection, Inventory),
        place: (u64, String),
        node: NodeId,
        key: Arc<SigningKey>,
        clock: Clock,
        queue: Arc<Queue>,
        options: Options,
    ) -> Result<Self, AuditError> {
        let checkpoint: Option<String> = connection
            .query_row("SELECT text FROM checkpoint ORDER BY sequence DESC LIMIT 1", [], |row| row.get(0))
            .optional()?;
        let checkpoint = checkpoint.and_then(|text| Checkpoint::verify(&text, key.public()).ok());
        let (stuck, lines, packer, (sequence, prev)) = (false, String::new(), Packer::default(), place);
        Ok(Self {
            connection,
            inventory,
            noted: None,
            sequence,
            prev,
            node,
            key,
            clock,
            queue,
            options,
            checkpoint,
            stuck,
            lines,
            packer,
        })
    }

    pub(super) fn run(mut self) {
        let mut batch = Batch::default();
        self.retain();
        self.note_events(false);
        loop {
            let (closed, probes) = self.gather(&mut batch);
            self.queue.writing.store(batch.drafts.len(), Ordering::Relaxed);
            match self.write(&batch) {
                Ok(checkpointed) => {
                    if self.queue.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!("events can be recorded again");
                    }
                    self.queue.writing.store(0, Ordering::Relaxed);
                    self.queue.sequence.store(self.sequence, Ordering::Relaxed);
                    for draft in batch.drafts.drain(..) {
                        // The caller may have gone. The event is recorded nevertheless.
                        let _ = draft.durable.map(|waiting| waiting.send(()));
                    }
                    batch.text.clear();
                    batch.latest = Time::default();
                    if checkpointed {
                        self.retain();
                        self.note_events(closed);
                    }
                }
                Err(error) => {
                    batch = self.fail(batch, &error);
                    if closed {
                        let lost = batch.drafts.len();
                        tracing::error!(lost, "the daemon ends while events can't be recorded");
                    } else {
                        std::thread::sleep(RETRY);
                    }
                }
            }
            for probe in probes {
                // The caller may have timed out.
                let _ = probe.send(());
            }
            if closed {
                return;
            }
        }
    }

    /// Handles a failed write: each caller that waits for the disk gets an error, in the batch and in the queue, and the
    /// queue accepts no new one.
    fn fail(&self, batch: Batch, error: &AuditError) -> Batch {
        let mut pending = self.queue.lock();
        let before = self.queue.failing.swap(true, Ordering::Relaxed);
        pending.batch = std::mem::take(&mut pending.batch).answered();
        drop(pending);
        if !before {
            let denied = match self.options.when_full {
                WhenFull::DenyMutating => "mutating requests are denied, reads go on while memory lasts",
                WhenFull::DenyAll => "every request is denied",
            };
            (self.options.alarm)(&format!("events can't be recorded ({error}): {denied}"), (self.clock)());
        }
        let kept = batch.answered();
        self.queue.writing.store(kept.drafts.len(), Ordering::Relaxed);
        kept
    }

    /// Notes the number of events in the inventory of the host, so that the next start finds a log that was emptied or set
    /// back. This happens after the commit, and a crash or a full disk leaves a smaller number, which the log exceeds. Each
    /// note waits for the disk, so that there is one in [`CHECKPOINT_SECONDS`] at most, and one at the end.
    fn note_events(&mut self, closed: bool) {
        let now = (self.clock)();
        let early = |noted: Time| (noted..noted.plus(CHECKPOINT_SECONDS)).contains(&now);
        if !closed && self.noted.is_some_and(early) {
            return;
        }
        match self.inventory.note_events(self.sequence) {
            Ok(()) => self.noted = Some(now),
            Err(error) => {
                tracing::warn!(%error, "the length of the audit log can't be written to the inventory of databases");
            }
        }
    }

    /// Drops events that exceed the limits. If some cannot be dropped now, a later pass tries again.
    fn retain(&mut self) {
        let now = (self.clock)();
        match self.options.retention.apply(&mut self.connection, &self.key, now) {
            Ok(pass) => {
                if pass.through > 0 {
                    tracing::info!(through = pass.through, "old events were dropped");
                }
                if pass.stuck && !self.stuck {
                    let what = "the audit log is larger than audit.max_bytes, and nothing of it may be dropped \
                                before the control plane has taken it in";
                    (self.options.alarm)(what, now);
                }
                self.stuck = pass.stuck;
            }
            Err(error) => tracing::warn!(%error, "old events can't be dropped"),
        }
    }

    /// Waits for events, lets those without a waiting caller gather for a moment, and appends all to `batch`. While the
    /// disk fails, waiting events stay in the bounded queue.
    fn gather(&self, batch: &mut Batch) -> (bool, Vec<Sender<()>>) {
        let mut pending = self.queue.lock();
        let failing = self.queue.failing.load(Ordering::Relaxed);
        if failing && !batch.drafts.is_empty() && !pending.closed {
            return (false, std::mem::take(&mut pending.probes));
        }
        let idle = |pending: &mut Pending| {
            pending.batch.drafts.is_empty() && pending.probes.is_empty() && !pending.closed
        };
        // While writes fail, or when a checkpoint is due, there is work even without an event.
        let rest = if failing { RETRY } else { Duration::from_mins(1) };
        let Ok((pending, _)) = self.queue.wake.wait_timeout_while(pending, rest, idle) else {
            return (true, Vec::new());
        };
        let calm = |pending: &mut Pending| !pending.urgent && !pending.closed;
        let Ok((mut pending, _)) = self.queue.wake.wait_timeout_while(pending, GATHER, calm) else {
            return (true, Vec::new());
        };
        pending.urgent = false;
        if batch.drafts.is_empty() {
            // The swap reuses the memory of the emptied batch for the queue.
            std::mem::swap(batch, &mut pending.batch);
        } else {
            batch.append(&mut pending.batch);
        }
        (pending.closed, std::mem::take(&mut pending.probes))
    }

    /// Returns true if the log needs a checkpoint after this write.
    fn due(&self, sequence: u64, batch: &Batch, now: Time) -> bool {
        let covered = self.checkpoint.as_ref().map_or(0, |last| last.sequence);
        if self.queue.failing.load(Ordering::Relaxed) {
            // Also without an event: the checkpoint is the write that shows whether the disk works again.
            return sequence > 0;
        }
        let Some(last) = &self.checkpoint else { return sequence > 0 };
        let until = last.iat.plus(CHECKPOINT_SECONDS);
        sequence > covered
            && (sequence - covered >= CHECKPOINT_EVENTS
                // A clock that was set back must not delay the checkpoint.
                || !(last.iat..until).contains(&now)
                || batch.latest >= until
                || self.queue.lock().closed)
    }

    /// Writes a batch. Returns true if a checkpoint was signed with it.
    fn write(&mut self, batch: &Batch) -> Result<bool, AuditError> {
        let (mut sequence, mut prev) = (self.sequence, self.prev.clone());
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        lines.shrink_to(KEPT);
        lines.reserve(batch.text.len() + batch.drafts.len() * 96);
        for draft in batch.texts() {
            sequence += 1;
            let start = lines.len();
            place(sequence, &prev, draft, &mut lines);
            prev = line_hash(&lines[start..]);
            lines.push('\n');
        }
        let now = (self.clock)();
        let due = self.due(sequence, batch, now);
        if batch.drafts.is_empty() && !due {
            return Ok(false);
        }
        let transaction = self.connection.transaction()?;
        if !batch.drafts.is_empty() {
            let row = params![self.sequence + 1, sequence, self.packer.pack(&lines)?];
            transaction.prepare_cached("INSERT INTO block VALUES (?1, ?2, ?3)")?.execute(row)?;
        }
        let checkpoint = due.then(|| {
            // A second signature for the same event replaces the checkpoint.
            let number = self
                .checkpoint
                .as_ref()
                .map_or(1, |last| if last.sequence == sequence { last.number } else { last.number + 1 });
            let (iss, hash) = (self.node.clone(), prev.clone());
            Checkpoint { iss, iat: now, number, sequence, hash, dropped: false }
        });
        if let Some(checkpoint) = &checkpoint {
            let text = sign(Typ::AuditCheckpoint, &serde_json::to_vec(checkpoint)?, &self.key);
            transaction
                .execute("INSERT OR REPLACE INTO checkpoint VALUES (?1, ?2)", params![sequence, text])?;
        }
        transaction.commit()?;
        (self.sequence, self.prev, self.lines) = (sequence, prev, lines);
        self.checkpoint = checkpoint.or_else(|| self.checkpoint.take());
        Ok(due)
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
        self.latest = self.latest.max(std::mem::take(&mut other.latest));
        self.drafts.extend(other.drafts.drain(..).map(|mut draft| {
            draft.end += offset;
            draft
        }));
    }

    /// Returns the batch to keep after a failed write. Callers that still wait get an error, and their events are dropped: the log
    /// must not say "allow" for them. The other requests were answered already, so their events are kept until they can be written.
    fn answered(self) -> Self {
        let mut kept = Self { latest: self.latest, ..Self::default() };
        for (text, draft) in self.texts().zip(&self.drafts) {
            if draft.durable.is_none() {
                kept.text.push_str(text);
                kept.drafts.push(super::Waiting { end: kept.text.len(), durable: None });
            }
        }
        kept
    }
}
