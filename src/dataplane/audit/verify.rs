//! Verifies a log: every line has the next sequence number, holds the hash of the line before, and matches the checkpoints.
//!
//! docs/audit.md states the limits of the proof: a writer of the database can cut a log back to a checkpoint, or change
//! events that no checkpoint covers yet, and the database alone cannot show it.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use serde::Serialize;

use super::AuditError;
use super::block::{self, Stored};
use super::read::hash_of;
use super::uploaded::uploaded;
use super::writer::{CHECKPOINT_EVENTS, CHECKPOINT_SECONDS};
use crate::protocol::event::{Checkpoint, Event, GENESIS, line_hash, split_lines};
use crate::protocol::id::NodeId;
use crate::protocol::json::object;
use crate::protocol::key::PublicKey;
use crate::protocol::reconciliation::Position;

/// First fault in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Sequence number of the event at which the fault appears.
    pub sequence: u64,
    /// Description of the fault.
    pub what: String,
}

/// Result of verifying a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Sequence number of the last event that the node signed as dropped; 0 if none was dropped.
    pub dropped: u64,
    /// Sequence number of the last valid event.
    pub events: u64,
    /// Hash of the last valid event.
    pub last: String,
    /// Number of valid checkpoints.
    pub checkpoints: u64,
    /// Sequence number of the last event that a checkpoint covers. Later events could be cut off or changed undetected.
    pub covered: u64,
    /// First fault, or `None` if the log is valid.
    pub fault: Option<Fault>,
}

/// Verifies the log of `node` at `path`, also while it is written, against checkpoints signed with `key`. A host that enrolled
/// twice is two nodes with one key, so the key alone does not tell whose log it is.
pub fn verify(path: &Path, node: &NodeId, key: &PublicKey) -> Result<Report, AuditError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // One read transaction: blocks and checkpoints must be of the same moment.
    let transaction = connection.unchecked_transaction()?;
    let mut proof = Proof::new(node);
    let found = proof.all(&transaction, key)?;
    Ok(Report { fault: found.err(), ..proof.report })
}

/// Verifies the end of a log, for which the next checkpoint will vouch: from the last checkpoint and from the uploaded
/// position on. Returns the number and the hash of the last event, which the next event follows. The outer error is a
/// database that cannot be read.
pub(super) fn tail(
    connection: &Connection,
    node: &NodeId,
    key: &PublicKey,
) -> Result<Result<(u64, String), Fault>, AuditError> {
    let mut proof = Proof::new(node);
    let place = uploaded(connection)?;
    if let Err(fault) = proof.anchor(connection, key)? {
        return Ok(Err(fault));
    }
    let last: Option<(u64, String)> = connection
        .query_row("SELECT sequence, text FROM checkpoint ORDER BY sequence DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let signed = match last {
        None => proof.covering.take(),
        Some((sequence, text)) => match Checkpoint::verify(&text, key) {
            Ok(found) if found.sequence != sequence || found.dropped => {
                return Ok(fault(sequence, "its checkpoint was signed for another place"));
            }
            Ok(found) if proof.is_another(&found.iss) => {
                return Ok(fault(sequence, format!("its checkpoint is one of the node {}", found.iss)));
            }
            Ok(found) => Some(found),
            Err(error) => return Ok(fault(sequence, format!("its checkpoint does not hold: {error}"))),
        },
    };
    if let Some(hash) = hash_of(connection, place.sequence)?.filter(|hash| *hash != place.hash) {
        return Ok(fault(
            place.sequence,
            format!(
                "the control plane is said to have taken in another event ({}) than stands there ({hash})",
                place.hash
            ),
        ));
    }
    // Begins at the block that holds the signed event.
    let mut statement = connection.prepare(
        "SELECT first, last, lines FROM block
         WHERE first >= coalesce((SELECT max(first) FROM block WHERE first <= ?1), 0) ORDER BY first",
    )?;
    let mut rows = statement.query([signed.as_ref().map_or(1, |signed| signed.sequence.max(1))])?;
    let mut before: Option<(u64, String)> = None;
    while let Some(row) = rows.next()? {
        let Some(Stored { first, last: end, packed }) = Stored::read(row)? else {
            return Ok(fault(before.map_or(1, |(last, _)| last + 1), UNREADABLE));
        };
        let lines = match whole_lines(first, packed) {
            Ok(lines) => lines,
            Err(fault) => return Ok(Err(fault)),
        };
        if before.as_ref().is_some_and(|(last, _)| first != last + 1) {
            return Ok(fault(first, "events before it are missing"));
        }
        for (sequence, line) in (first..).zip(split_lines(&lines)) {
            let hash = line_hash(line);
            let event: Event = match object(line.as_bytes()) {
                Ok(event) => event,
                Err(error) => return Ok(fault(sequence, format!("it is no event: {error}"))),
            };
            if event.sequence != sequence || before.as_ref().is_some_and(|(_, prev)| event.prev != *prev) {
                return Ok(fault(sequence, "it is not chained to the event before"));
            }
            if proof.is_another(&event.node) {
                return Ok(fault(sequence, format!("it is an event of the node {}", event.node)));
            }
            if signed.as_ref().is_some_and(|signed| signed.sequence == sequence && signed.hash != hash) {
                return Ok(fault(sequence, "it is not the event its checkpoint was signed for"));
            }
            before = Some((sequence, hash));
        }
        let last = before.as_ref().map_or(0, |(last, _)| *last);
        if let Err(fault) = ends_with(first, end, last) {
            return Ok(Err(fault));
        }
    }
    let (last, hash) = before.unwrap_or((proof.report.dropped, proof.report.last));
    Ok(match signed {
        Some(signed) if signed.sequence > last => {
            fault(last + 1, format!("it is missing: the node signed for {} events", signed.sequence))
        }
        None if last > 0 => fault(1, "the node signed with its first event, and that checkpoint is missing"),
        _ if place.sequence > last => {
            fault(last + 1, format!("it is missing: the control plane took in {} events", place.sequence))
        }
        _ => Ok((last, hash)),
    })
}

/// State of the verification.
struct Proof<'n> {
    /// Node whose log it is.
    node: &'n NodeId,
    report: Report,
    /// Position that the control plane received last.
    uploaded: Position,
    checkpoints: BTreeMap<u64, Checkpoint>,
    /// Last valid checkpoint, or the anchor.
    covering: Option<Checkpoint>,
}

const UNREADABLE: &str = "its block can't be unpacked: it is not what the node wrote";

fn fault<T>(sequence: u64, what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { sequence, what: what.into() })
}

/// Returns the lines of a block, each with its line feed.
fn whole_lines(first: u64, packed: &[u8]) -> Result<String, Fault> {
    let Some(lines) = block::unpack(packed) else {
        return fault(first, UNREADABLE);
    };
    if lines.ends_with('\n') { Ok(lines) } else { fault(first, "its block breaks off within a line") }
}

/// Checks that a block which begins with event `first` ends with event `end`, as its row says. `last` is its last event.
fn ends_with(first: u64, end: u64, last: u64) -> Result<(), Fault> {
    if end == last && last >= first {
        return Ok(());
    }
    fault(first, format!("its block is said to end with event {end}, and ends with {last}"))
}

impl<'n> Proof<'n> {
    fn new(node: &'n NodeId) -> Self {
        let report =
            Report { dropped: 0, events: 0, last: GENESIS.into(), checkpoints: 0, covered: 0, fault: None };
        let uploaded = Position { sequence: 0, hash: GENESIS.into() };
        Self { node, report, uploaded, checkpoints: BTreeMap::new(), covering: None }
    }

    fn is_another(&self, node: &NodeId) -> bool {
        self.node != node
    }

    /// Verifies the whole log. The outer error is a database that cannot be read; the inner one is a fault of the log.
    fn all(&mut self, connection: &Connection, key: &PublicKey) -> Result<Result<(), Fault>, AuditError> {
        self.uploaded = uploaded(connection)?;
        if let Err(fault) = self.anchor(connection, key)? {
            return Ok(Err(fault));
        }
        if let Err(fault) = self.checkpoints(connection, key)? {
            return Ok(Err(fault));
        }
        let mut statement = connection.prepare("SELECT first, last, lines FROM block ORDER BY first")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let Some(Stored { first, last, packed }) = Stored::read(row)? else {
                return Ok(fault(self.report.events + 1, UNREADABLE));
            };
            if let Err(fault) = self.block(first, last, packed) {
                return Ok(Err(fault));
            }
        }
        Ok(self.end(self.uploaded.sequence))
    }

    /// Verifies the anchor. A log that does not begin at event 1 needs the node's signature over the drop of the earlier events.
    fn anchor(&mut self, connection: &Connection, key: &PublicKey) -> Result<Result<(), Fault>, AuditError> {
        let text: Option<String> =
            connection.query_row("SELECT text FROM anchor", [], |row| row.get(0)).optional()?;
        let Some(text) = text else { return Ok(Ok(())) };
        Ok(match Checkpoint::verify(&text, key) {
            Ok(anchor) if anchor.dropped && !self.is_another(&anchor.iss) => {
                self.report.dropped = anchor.sequence;
                self.report.events = anchor.sequence;
                self.report.covered = anchor.sequence;
                self.report.last.clone_from(&anchor.hash);
                self.covering = Some(anchor);
                Ok(())
            }
            Ok(anchor) => fault(anchor.sequence, "it was not dropped by the node, though the log says so"),
            Err(error) => {
                fault(1, format!("what the node signed when it dropped events does not hold: {error}"))
            }
        })
    }

    /// Verifies that every checkpoint is valid, has the hash of its event, and follows the one before without a gap.
    fn checkpoints(
        &mut self,
        connection: &Connection,
        key: &PublicKey,
    ) -> Result<Result<(), Fault>, AuditError> {
        let mut number = self.covering.as_ref().map_or(0, |anchor| anchor.number);
        let mut statement = connection.prepare("SELECT sequence, text FROM checkpoint ORDER BY sequence")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (sequence, text): (u64, String) = (row.get(0)?, row.get(1)?);
            number += 1;
            let what = match Checkpoint::verify(&text, key) {
                Err(error) => format!("its checkpoint does not hold: {error}"),
                Ok(found) if found.sequence != sequence || found.dropped => {
                    "its checkpoint was signed for another place".into()
                }
                Ok(found) if self.is_another(&found.iss) => {
                    format!("its checkpoint is one of the node {}", found.iss)
                }
                Ok(found) if found.number != number => {
                    format!("its checkpoint is number {}, where number {number} is missing", found.number)
                }
                Ok(_) if sequence <= self.report.dropped => {
                    "it was dropped, and its checkpoint was not".into()
                }
                Ok(found) => {
                    self.checkpoints.insert(sequence, found);
                    continue;
                }
            };
            return Ok(fault(sequence, what));
        }
        Ok(Ok(()))
    }

    fn block(&mut self, first: u64, last: u64, packed: &[u8]) -> Result<(), Fault> {
        if first != self.report.events + 1 {
            return fault(
                self.report.events + 1,
                format!("it is missing: event {first} stands in its place"),
            );
        }
        for line in split_lines(&whole_lines(first, packed)?) {
            self.line(line)?;
        }
        ends_with(first, last, self.report.events)
    }

    fn line(&mut self, line: &str) -> Result<(), Fault> {
        let (sequence, hash) = (self.report.events + 1, line_hash(line));
        let event: Event = match object(line.as_bytes()) {
            Ok(event) => event,
            Err(error) => return fault(sequence, format!("it is no event: {error}")),
        };
        if event.sequence != sequence {
            return fault(sequence, format!("event {} stands in its place", event.sequence));
        }
        if self.is_another(&event.node) {
            return fault(sequence, format!("it is an event of the node {}", event.node));
        }
        if event.prev != self.report.last {
            return fault(sequence, "it is not chained to the event before");
        }
        if sequence == self.uploaded.sequence && hash != self.uploaded.hash {
            return fault(sequence, "it is not the event that the control plane is said to have taken in");
        }
        if let Some(checkpoint) = self.checkpoints.remove(&sequence) {
            if checkpoint.hash != hash {
                return fault(sequence, "it is not the event its checkpoint was signed for");
            }
            self.report.checkpoints += 1;
            self.report.covered = sequence;
            self.covering = Some(checkpoint);
        }
        (self.report.events, self.report.last) = (sequence, hash);
        // The node signs often, so only few and recent events follow the last checkpoint. While checkpoints are still to
        // come, one of them may cover this event.
        if self.checkpoints.is_empty() && self.report.covered < sequence {
            let due = self.covering.as_ref().map(|last| last.iat.plus(CHECKPOINT_SECONDS));
            if sequence - self.report.covered >= CHECKPOINT_EVENTS || due.is_none_or(|due| event.time >= due)
            {
                return fault(
                    sequence,
                    "the node signed where its log stood by then, and that checkpoint is missing",
                );
            }
        }
        Ok(())
    }

    fn end(&self, uploaded: u64) -> Result<(), Fault> {
        let (events, signed) = (self.report.events, self.checkpoints.keys().next_back());
        match signed {
            Some(signed) => fault(events + 1, format!("it is missing: the node signed for {signed} events")),
            None if uploaded > events => {
                fault(events + 1, format!("it is missing: the control plane took in {uploaded} events"))
            }
            None => Ok(()),
        }
    }
}
