//! Ingestion of the nodes' audit logs: each event once, at its position, chained to the one before.
//!
//! A node sends the events after the position in the control plane's last answer. Events that arrived earlier are
//! recognised by their hash and skipped. An event that does not follow the stored ones is stored too, since it may be the
//! only record of a use, and a fault is stored with it: no gap is filled silently, and no stored event is overwritten.

use rusqlite::{OptionalExtension as _, Statement, params};

use super::outages;
use super::recorded::Line;
use super::uses::Uses;
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::nodes::log_faults::{Fault, FoundFaults};
use crate::controlplane::store::Transaction;
use crate::controlplane::store::table_size::count_events;
use crate::protocol::event::{GENESIS, line_hash};
use crate::protocol::id::TokenId;
use crate::protocol::json::object;
use crate::protocol::reconciliation::Position;
use crate::protocol::time::Time;

/// Lines after which a transaction ends if other writers wait for it.
const LINES_AT_LEAST: usize = 32;

/// Inserts an event that is not stored yet.
const INSERT: &str =
    "INSERT INTO event (node, branch, sequence, hash, time, kind, decision, token, line, received_at, deployment)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
    ON CONFLICT (node, hash) DO NOTHING";

/// Last stored position of a node's log.
struct Log {
    branch: u64,
    sequence: u64,
    hash: String,
}

impl Log {
    /// Returns true if the event comes right after the last stored one and is chained to it.
    fn is_followed_by(&self, event: &Line) -> bool {
        event.sequence == self.sequence + 1 && event.prev == self.hash
    }
}

/// Relation of an event to the events stored before it.
enum Place {
    Next,
    /// The event is chained to the last event of another branch, and continues that branch.
    Continues(u64),
    /// The event fills a gap in a branch whose later events arrived earlier.
    Fills(u64),
    /// Earlier events are missing and the node still has them, so it must send the events after this position.
    Rewind(Position),
    Fault(&'static str, String),
    /// The event begins a new branch of the log, which is a fault: the log was restarted or forked, or the event is not
    /// chained to any stored one.
    Branch(&'static str, String),
}

/// Event whose place in the stored log is to be found.
struct Arrival<'a> {
    event: &'a Line,
    /// True for the first line of a call: the node may have events before it that it did not send.
    first: bool,
    /// Number of the first event that the node still has.
    oldest: u64,
}

/// Line of a call, parsed outside of the transaction.
struct ReceivedLine<'l> {
    line: &'l str,
    hash: String,
    /// Parsed line, or `None` if the line is not an event of the node.
    event: Option<Line>,
}

impl<'l> ReceivedLine<'l> {
    fn new(line: &'l str, node: &str) -> Self {
        let event = object::<Line>(line.as_bytes()).ok();
        let event = event.filter(|event| event.node.as_str() == node && event.sequence > 0);
        Self { line, hash: line_hash(line), event }
    }

    /// Inserts the line at a branch and a sequence number with [`INSERT`]. Returns false if it was stored before.
    fn insert(
        &self,
        statement: &mut Statement<'_>,
        node: &str,
        (branch, sequence): (u64, u64),
        now: Time,
    ) -> Result<bool, Error> {
        let event = self.event.as_ref();
        let row = params![
            node,
            branch,
            sequence,
            self.hash,
            event.map_or(now, |event| event.time).unix(),
            event.map_or("unreadable", |event| &event.kind),
            event.and_then(|event| event.decision.as_deref()),
            event.and_then(|event| event.token.as_ref()).map(TokenId::as_str),
            self.line,
            now.unix(),
            event.and_then(|event| event.deployment.as_deref())
        ];
        Ok(statement.execute(row)? > 0)
    }
}

/// Result of a transaction.
struct Stored {
    /// Number of lines that were stored, or had been before.
    lines: usize,
    position: Position,
    /// True if the node must send the events after `position` first.
    rewound: bool,
    faults: FoundFaults,
    /// True if an announcement may have been queued.
    announced: bool,
}

impl ControlPlane {
    /// Stores events of a node and returns the new position of its log. `oldest` is the first event that the node still
    /// has.
    pub fn take_events<'l>(
        &self,
        data_plane: &str,
        node: &str,
        oldest: u64,
        lines: impl IntoIterator<Item = &'l str>,
    ) -> Result<Position, Error> {
        let lines: Vec<ReceivedLine<'l>> =
            lines.into_iter().map(|line| ReceivedLine::new(line, node)).collect();
        let _alone = self.uploads.alone();
        let mut faults = FoundFaults::default();
        let taken = self.store_all(data_plane, node, oldest, &lines, &mut faults);
        faults.report(self, data_plane, node);
        taken
    }

    /// Stores the lines of a call, and adds the faults that were stored to `faults`.
    fn store_all(
        &self,
        data_plane: &str,
        node: &str,
        oldest: u64,
        lines: &[ReceivedLine<'_>],
        faults: &mut FoundFaults,
    ) -> Result<Position, Error> {
        let mut rest = lines;
        loop {
            // A call without lines is answered with the position of the node's log.
            let stored = self.store_events(data_plane, node, oldest, rest, rest.len() == lines.len())?;
            // Added after the commit: the node sends the events of a failed transaction again.
            faults.append(stored.faults);
            if stored.announced {
                self.store.notify();
            }
            rest = rest.get(stored.lines..).unwrap_or_default();
            if stored.rewound || rest.is_empty() {
                return Ok(stored.position);
            }
        }
    }

    /// Stores lines of a call in one transaction: all of them, or fewer if other writers wait. `first` is true for the beginning
    /// of the call.
    fn store_events(
        &self,
        data_plane: &str,
        node: &str,
        oldest: u64,
        lines: &[ReceivedLine<'_>],
        first: bool,
    ) -> Result<Stored, Error> {
        let now = self.now();
        self.store.note(|transaction| {
            let mut log = log_of(transaction, node)?;
            let (mut rewind, mut faults) = (None, FoundFaults::default());
            let (mut rows, mut bytes) = (0_usize, 0_usize);
            // Highest position reached. A new log may begin among these lines, so that the last position is lower.
            let mut reached = log.sequence;
            let mut uses = Uses::new(self, transaction, data_plane, node);
            let mut known =
                transaction.prepare_cached("SELECT 1 FROM event WHERE node = ?1 AND hash = ?2")?;
            let mut insert = transaction.prepare_cached(INSERT)?;
            let mut taken = 0;
            for (number, received) in lines.iter().enumerate() {
                if number > 0 && number.is_multiple_of(LINES_AT_LEAST) && self.store.is_awaited() {
                    break;
                }
                taken = number + 1;
                let ReceivedLine { line, hash, event } = received;
                // The next event of the log is nearly always new. If it is not, the insertion reports that.
                let follows = event.as_ref().is_some_and(|event| log.is_followed_by(event));
                if !follows && known.exists([node, hash])? {
                    continue;
                }
                let (sequence, place) = match event {
                    Some(event) => {
                        let arrival = Arrival { event, first: first && number == 0, oldest };
                        (event.sequence, place(transaction, node, &log, &arrival)?)
                    }
                    None => (
                        log.sequence + 1,
                        Place::Fault("unreadable", "the line is not an event of this node".into()),
                    ),
                };
                // Branch of the event, true if the event becomes the last one of the log, and the fault.
                let (branch, last, fault) = match place {
                    Place::Rewind(position) => {
                        rewind = Some(position);
                        break;
                    }
                    Place::Next => (log.branch, true, None),
                    Place::Continues(branch) => (branch, true, None),
                    Place::Fills(branch) => (branch, false, None),
                    Place::Fault(kind, what) => (log.branch, true, Some((kind, what))),
                    Place::Branch(kind, what) => (next_branch(transaction, node)?, true, Some((kind, what))),
                };
                if let Some((kind, what)) = fault {
                    let fault = Fault { node, branch, sequence, kind, what: &what };
                    faults.note(transaction, &fault, now)?;
                }
                let inserted = received.insert(&mut insert, node, (branch, sequence), now)?;
                if !inserted {
                    continue;
                }
                (rows, bytes) = (rows + 1, bytes + line.len());
                if last {
                    log = Log { branch, sequence, hash: hash.clone() };
                    reached = reached.max(sequence);
                }
                if let Some(event) = event {
                    uses.add(event)?;
                }
            }
            let announced = uses.store()?;
            count_events(transaction, rows, bytes)?;
            let row = params![node, log.branch, log.sequence, log.hash];
            let insert =
                "INSERT OR REPLACE INTO node_log (node, branch, sequence, hash) VALUES (?1, ?2, ?3, ?4)";
            transaction.prepare_cached(insert)?.execute(row)?;
            outages::close(transaction, node, reached, now)?;
            let rewound = rewind.is_some();
            let position = rewind.unwrap_or(Position { sequence: log.sequence, hash: log.hash });
            Ok(Stored { lines: taken, position, rewound, faults, announced })
        })
    }
}

fn log_of(transaction: &Transaction<'_>, node: &str) -> Result<Log, Error> {
    let known = transaction
        .query_row("SELECT branch, sequence, hash FROM node_log WHERE node = ?1", [node], |row| {
            Ok(Log { branch: row.get(0)?, sequence: row.get(1)?, hash: row.get(2)? })
        })
        .optional()?;
    Ok(known.unwrap_or_else(|| Log { branch: 0, sequence: 0, hash: GENESIS.into() }))
}

/// Returns an unused branch number.
fn next_branch(transaction: &Transaction<'_>, node: &str) -> Result<u64, Error> {
    let query = "SELECT 1 + max(
        coalesce((SELECT max(branch) FROM event WHERE node = ?1), 0),
        coalesce((SELECT branch FROM node_log WHERE node = ?1), 0),
        coalesce((SELECT max(branch) FROM log_fault WHERE node = ?1), 0))";
    Ok(transaction.prepare_cached(query)?.query_row([node], |row| row.get(0))?)
}

fn place(
    transaction: &Transaction<'_>,
    node: &str,
    log: &Log,
    Arrival { event, first, oldest }: &Arrival<'_>,
) -> Result<Place, Error> {
    if log.is_followed_by(event) {
        return Ok(Place::Next);
    }
    let next = log.sequence + 1;
    let parent: Option<(u64, u64, bool)> = transaction
        .prepare_cached(
            "SELECT branch,
                 (SELECT max(sequence) FROM event AS any WHERE any.node = ?1 AND any.branch = parent.branch),
                 EXISTS (SELECT 1 FROM event AS other WHERE other.node = ?1 AND other.branch = parent.branch AND other.sequence = ?3)
             FROM event AS parent WHERE node = ?1 AND hash = ?2 AND sequence = ?3 - 1",
        )?
        .query_row(params![node, event.prev, event.sequence], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    match parent {
        Some((branch, last, false)) if last < event.sequence => return Ok(Place::Continues(branch)),
        Some((branch, _, false)) => return Ok(Place::Fills(branch)),
        Some((_, _, true)) => {
            let what = format!(
                "another event is stored at this position; {} events had arrived before",
                log.sequence
            );
            return Ok(Place::Branch("fork", what));
        }
        None => {}
    }
    if event.sequence == 1 && event.prev == GENESIS {
        let what = format!("the log begins anew; {} events of the one before had arrived", log.sequence);
        return Ok(Place::Branch("restart", what));
    }
    if event.sequence > next && *oldest <= next {
        return Ok(Place::Rewind(Position { sequence: log.sequence, hash: log.hash.clone() }));
    }
    // The log has been restarted, and a control plane that was restored from a backup does not know it: the node sent
    // the events before this one to the control plane whose data was lost.
    if *first && *oldest < event.sequence {
        return Ok(Place::Rewind(Position { sequence: 0, hash: GENESIS.into() }));
    }
    if event.sequence > next {
        let what =
            format!("events {next} to {} are missing; the node no longer has them", event.sequence - 1);
        return Ok(Place::Fault("gap", what));
    }
    Ok(Place::Branch("broken", "it is not chained to any event that has arrived".into()))
}
