//! Ingestion of the nodes' audit logs: each event once, at its position, chained to the one before.
//!
//! A node sends the events after the position that it was last told. Events that arrived earlier are recognised by
//! their hash and skipped. An event that does not follow is stored all the same, since it may show a use that nothing
//! else shows, and a fault is stored with it: no gap is filled silently, and no stored event is overwritten.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::last_uses;
use super::outages;
use super::recorded::{Line, Recorded, end_of, use_of};
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::nodes::log_faults::Fault;
use crate::controlplane::webhook::announcements;
use crate::protocol::event::{GENESIS, line_hash};
use crate::protocol::id::TokenId;
use crate::protocol::json::object;
use crate::protocol::reconciliation::Position;

/// Last stored position of a node's log.
struct Log {
    branch: u64,
    sequence: u64,
    hash: String,
}

/// Relation of an event to the events stored before it.
enum Place {
    Next,
    /// The event is chained to the last event of another branch, and continues that branch.
    Continues(u64),
    /// The event fills a gap in a branch of which later events arrived before.
    Fills(u64),
    /// Earlier events are missing and the node still has them, so it must send the events after this position.
    Rewind(Position),
    Fault(&'static str, String),
    /// The event begins a new branch of the log, which is a fault: the log was restarted or forked, or the event is not
    /// chained to any stored one.
    Branch(&'static str, String),
}

/// Event to be placed.
struct Arrival<'a> {
    event: &'a Line,
    /// True for the first line of a call: the node may have events before it that it did not send.
    first: bool,
    /// Number of the first event that the node still has.
    oldest: u64,
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
        let now = self.now();
        let mut faults = 0;
        let position = self.store.write(|transaction| {
            let mut log = log_of(transaction, node)?;
            let mut from = None;
            for (number, line) in lines.into_iter().enumerate() {
                let hash = line_hash(line);
                let known = transaction
                    .prepare_cached("SELECT 1 FROM event WHERE node = ?1 AND hash = ?2")?
                    .exists([node, &hash])?;
                if known {
                    continue;
                }
                let read = object::<Line>(line.as_bytes()).ok();
                let read = read.filter(|read| read.node.as_str() == node && read.sequence > 0);
                let (sequence, place) = match &read {
                    Some(event) => {
                        let arrival = Arrival { event, first: number == 0, oldest };
                        (event.sequence, place(transaction, node, &log, &arrival)?)
                    }
                    None => {
                        (log.sequence + 1, Place::Fault("unreadable", "it is no event of this node".into()))
                    }
                };
                // Branch of the event, whether it is now the last event of the log, and its fault.
                let (branch, last, fault) = match place {
                    Place::Rewind(position) => {
                        from = Some(position);
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
                    faults += u64::from(fault.note(transaction, now)?);
                }
                let row = params![
                    node,
                    branch,
                    sequence,
                    hash,
                    read.as_ref().map_or(now, |read| read.time).unix(),
                    read.as_ref().map_or("unreadable", |read| &read.kind),
                    read.as_ref().and_then(|read| read.decision.as_deref()),
                    read.as_ref().and_then(|read| read.token.as_ref()).map(TokenId::as_str),
                    line,
                    now.unix(),
                    read.as_ref().and_then(|read| read.deployment.as_deref())
                ];
                transaction
                    .prepare_cached(
                        "INSERT INTO event
                             (node, branch, sequence, hash, time, kind, decision, token, line, received_at, deployment)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                    )?
                    .execute(row)?;
                if last {
                    log = Log { branch, sequence, hash };
                }
                if let Some(recorded) = use_of(line).filter(|_| read.is_some()) {
                    self.used_on_node(transaction, data_plane, node, &recorded)?;
                }
            }
            let row = params![node, log.branch, log.sequence, log.hash];
            let insert =
                "INSERT OR REPLACE INTO node_log (node, branch, sequence, hash) VALUES (?1, ?2, ?3, ?4)";
            transaction.execute(insert, row)?;
            outages::close(transaction, node, log.sequence, now)?;
            Ok(from.unwrap_or(Position { sequence: log.sequence, hash: log.hash }))
        })?;
        // Counted after the commit: the node sends the events of a failed transaction again.
        self.metrics.count_log_faults(data_plane, faults);
        Ok(position)
    }

    /// Records the use of a token, announces the first one, and records a use that came after the token's end.
    fn used_on_node(
        &self,
        transaction: &Transaction<'_>,
        data_plane: &str,
        node: &str,
        Recorded { used, online }: &Recorded,
    ) -> Result<(), Error> {
        let token = used.token_id.as_str();
        // A node's word counts only for tokens of its own data plane.
        let ours = transaction
            .prepare_cached(
                "SELECT 1 FROM token, record WHERE token.id = ?1 AND record.data_plane = ?2 AND record.kind = 'token' AND record.key = ?1",
            )?
            .exists([token, data_plane])?;
        if !ours {
            return Ok(());
        }
        let first = transaction
            .prepare_cached(
                "INSERT INTO token_use (token, first_at, last_at, uses) VALUES (?1, ?2, ?2, 1) ON CONFLICT DO UPDATE SET
                     first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at), uses = uses + 1
                 RETURNING uses",
            )?
            .query_row(params![token, used.time.unix()], |row| row.get::<_, u64>(0))?
            == 1;
        let on = used.deployment_id.as_deref().unwrap_or(data_plane);
        last_uses::note(transaction, token, used.time, on)?;
        let outage = if *online { None } else { outages::at(transaction, node, used.time)? };
        let place = announcements::Place { data_plane, node, outage: outage.as_deref() };
        self.announce_first_use(transaction, place, used, first)?;
        self.note_late_use(transaction, place, used, end_of(transaction, used)?)
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
    let next = log.sequence + 1;
    if event.sequence == next && event.prev == log.hash {
        return Ok(Place::Next);
    }
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
            let what =
                format!("another event than this stood in its place, and {} had arrived", log.sequence);
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
