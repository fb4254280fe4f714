//! The nodes' audit logs, as they arrive: each event once, in its place, chained to the one before.
//!
//! A node sends what it has after the place it was last told. What came before is ignored, by hash. Whatever does not
//! follow is taken in all the same, since it may be a use nobody else knows of; but that it does not follow is written
//! down as a fault: nothing is silently filled, and nothing that arrived is overwritten.

use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::Deserialize;

use super::error::Error;
use super::log_faults::Fault;
use super::usage;
use super::{ControlPlane, announcements, outages};
use crate::protocol::event::{GENESIS, line_hash};
use crate::protocol::id::{NodeId, TokenId};
use crate::protocol::json::object;
use crate::protocol::outage::{End, Ended, Use};
use crate::protocol::reconciliation::Position;
use crate::protocol::time::Time;

/// What is read of an event. Its line may say more: a newer node's log is taken in as it is.
#[derive(Deserialize)]
struct Line {
    sequence: u64,
    prev: String,
    id: String,
    time: Time,
    node: NodeId,
    kind: String,
    decision: Option<String>,
    token: Option<TokenId>,
    generation: Option<u32>,
    deployment: Option<String>,
    method: Option<String>,
    path: Option<String>,
    client: Option<String>,
    connectivity: String,
}

/// A use, and whether the node could reach its control plane then.
pub(super) struct Recorded {
    pub(super) used: Use,
    pub(super) online: bool,
}

/// Reads a use out of the line of an allowed decision.
pub(super) fn use_of(line: &str) -> Option<Recorded> {
    let line: Line = object(line.as_bytes()).ok()?;
    let allowed = line.kind == "decision" && line.decision.as_deref() == Some("allow");
    let (token_id, true) = (line.token?, allowed) else { return None };
    let used = Use {
        time: line.time,
        event_id: line.id,
        token_id,
        generation: line.generation.unwrap_or(0),
        deployment_id: line.deployment,
        method: line.method,
        path: line.path,
        client: line.client,
    };
    Some(Recorded { used, online: line.connectivity == "online" })
}

/// Where a node's log stands here.
struct Log {
    branch: u64,
    sequence: u64,
    hash: String,
}

/// How a line stands to what has arrived before it.
enum Place {
    Next,
    /// It is chained to the last event of another branch, and continues that one.
    Continues(u64),
    /// It fills a gap in a branch, of which later events arrived before.
    Fills(u64),
    /// Events are missing which the node still has: it is to send them, from after this position.
    Rewind(Position),
    Fault(&'static str, String),
    /// A fault after which the log goes on beside what was there.
    Branch(&'static str, String),
}

/// A line that is to be placed.
struct Arrival<'a> {
    event: &'a Line,
    /// Whether it is the first line of its call: the node may hold events before it that it did not send.
    first: bool,
    /// The first event that the node still holds.
    oldest: u64,
}

impl ControlPlane {
    /// Takes in events of a node, and says where its log stands now. `oldest` is the first event the node still has.
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
                let read = read.filter(|read| read.node.as_str() == node);
                let (sequence, place) = match &read {
                    Some(event) => {
                        let arrival = Arrival { event, first: number == 0, oldest };
                        (event.sequence, place(transaction, node, &log, &arrival)?)
                    }
                    None => {
                        (log.sequence + 1, Place::Fault("unreadable", "it is no event of this node".into()))
                    }
                };
                // Where it stands, and whether it is the last event of the log.
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
                    now.unix()
                ];
                transaction
                    .prepare_cached(
                        "INSERT INTO event
                             (node, branch, sequence, hash, time, kind, decision, token, line, received_at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
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
        // Counted once they stand: a transaction that fails is sent again.
        self.metrics.count_log_faults(data_plane, faults);
        Ok(position)
    }

    /// Notes the use of a token, and whether it came too late, and announces the first one.
    fn used_on_node(
        &self,
        transaction: &Transaction<'_>,
        data_plane: &str,
        node: &str,
        Recorded { used, online }: &Recorded,
    ) -> Result<(), Error> {
        let token = used.token_id.as_str();
        // A node speaks for tokens of its own data plane, and of no other.
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
        usage::note(transaction, token, used.time, on)?;
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

/// The number of a branch that the log does not have yet.
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
    let parent: Option<(u64, u64)> = transaction
        .prepare_cached("SELECT branch, sequence FROM event WHERE node = ?1 AND hash = ?2")?
        .query_row([node, &event.prev], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((branch, before)) = parent {
        let (last, taken): (u64, bool) = transaction
            .prepare_cached(
                "SELECT max(sequence), max(sequence = ?3) FROM event WHERE node = ?1 AND branch = ?2 AND sequence >= ?3 - 1",
            )?
            .query_row(params![node, branch, event.sequence], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if before + 1 == event.sequence && !taken {
            return Ok(if last == before { Place::Continues(branch) } else { Place::Fills(branch) });
        }
        let what = format!("another event than this stood in its place, and {} had arrived", log.sequence);
        return Ok(Place::Branch("fork", what));
    }
    if event.sequence == 1 && event.prev == GENESIS {
        let what = format!("the log begins anew; {} events of the one before had arrived", log.sequence);
        return Ok(Place::Branch("restart", what));
    }
    if event.sequence > next && *oldest <= next {
        return Ok(Place::Rewind(Position { sequence: log.sequence, hash: log.hash.clone() }));
    }
    // This log is not the one that arrived before: a control plane that was restored from a backup never heard of a log
    // that began anew since, and the node has told the events before this one to what was lost.
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

/// What ended the generation of the token that was used, as far as is known here.
pub(super) fn end_of(connection: &rusqlite::Connection, used: &Use) -> Result<Option<End>, Error> {
    let found = connection
        .prepare_cached("SELECT generation, deleted_at, last_rotated_at FROM token WHERE id = ?1")?
        .query_row([used.token_id.as_str()], |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(2)?))
        })
        .optional()?;
    let Some((generation, deleted_at, rotated_at)) = found else { return Ok(None) };
    let end = |how| move |at| End { at: Time::from_unix(at), how };
    let revoked = deleted_at.map(end(Ended::Revoked));
    // Of several rotations only the last one's time is kept: an older value ended then at the latest.
    let rotated = rotated_at.filter(|_| used.generation < generation).map(end(Ended::Rotated));
    Ok(revoked.into_iter().chain(rotated).min_by_key(|end| end.at))
}
