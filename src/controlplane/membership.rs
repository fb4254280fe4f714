//! What nodes state of themselves: their names, and the heads they hold. Two heads of one version that differ prove that
//! somebody with the replica key shows different hosts different replicas.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::enrolment::Caller;
use super::error::Error;
use super::instances::SHOWN;
use super::organizations::check_name;
use super::{ControlPlane, audit_log, publish};
use crate::protocol::head::{Head, SignedHead};
use crate::protocol::membership::{MAX_HEADS, NodeStanding, NodeStatement};
use crate::protocol::record::{NodeRecord, Record, RecordKind};
use crate::protocol::time::Time;

/// Versions of which it is remembered what the replica was.
const REMEMBERED: u64 = 10_000;
/// Contradictions that are kept of one data plane.
const MAX_FORKS: u64 = 1000;
/// For how long the node list tells of a log that was continued in two ways, in seconds.
const LOG_FORK_SHOWN: i64 = 24 * 3600;

impl ControlPlane {
    /// Takes a node's statement of itself. Most state nothing new, and write nothing.
    pub(super) fn take_statement(
        &self,
        caller: &Caller,
        statement: &NodeStatement,
    ) -> Result<NodeStanding, Error> {
        let (keyset, now) = (self.signing().keyset.clone(), self.now());
        let audience = caller.data_plane.parse().map_err(|_| Error::NotFound("data plane"))?;
        // What this control plane's keys did not sign proves nothing.
        let heads: Vec<SignedHead> = statement
            .heads
            .iter()
            .take(MAX_HEADS)
            .filter_map(|text| SignedHead::verify(text, &keyset, &audience).ok())
            .collect();
        let name_refused = match &statement.name {
            None => None,
            Some(name) => match check_name("name", name) {
                Ok(()) => {
                    self.rename_node(caller, name, now)?;
                    None
                }
                Err(error) => Some(error.to_string()),
            },
        };
        let news = self.store.read(|connection| {
            let mut news = Vec::new();
            for head in heads {
                if !agrees(connection, &caller.data_plane, head.head())? {
                    news.push(head);
                }
            }
            Ok(news)
        })?;
        if !news.is_empty() {
            self.store.note(|transaction| {
                news.iter().try_for_each(|head| note_head(transaction, caller, head, now))
            })?;
        }
        let shared_at: Option<i64> = self.store.read(|connection| {
            let query = "SELECT shared_at FROM node WHERE id = ?1";
            Ok(connection.query_row(query, [&caller.node], |row| row.get(0))?)
        })?;
        if let Some(checkpoint) = &statement.checkpoint {
            self.take_checkpoint(&caller.node, checkpoint)?;
        }
        let log_faults = self.recent_log_faults(&caller.node)?;
        let shared_identity = shared_at.is_some_and(|at| now.since(Time::from_unix(at)) < SHOWN);
        Ok(NodeStanding { shared_identity, name_refused, log_faults })
    }

    /// Gives a node the name its host's configuration says.
    fn rename_node(&self, caller: &Caller, name: &str, now: Time) -> Result<(), Error> {
        let row = |connection: &Connection| {
            connection.query_row("SELECT name, key FROM node WHERE id = ?1", [&caller.node], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
        };
        if self.store.read(|connection| Ok(row(connection)?.0 == name))? {
            return Ok(());
        }
        self.store.write(|transaction| {
            let (before, key) = row(transaction)?;
            transaction.execute("UPDATE node SET name = ?2 WHERE id = ?1", [caller.node.as_str(), name])?;
            let node = NodeRecord {
                id: caller.node.parse().map_err(|_| Error::NotFound("node"))?,
                name: name.to_owned(),
                key: serde_json::from_str(&key).map_err(std::io::Error::from)?,
                retired_at: None,
            };
            let record = Record::of(RecordKind::Node, caller.node.as_str(), &node);
            publish::put(transaction, &caller.data_plane, &[record])?;
            let query = "SELECT organization FROM data_plane WHERE id = ?1";
            let organization: String =
                transaction.query_row(query, [&caller.data_plane], |row| row.get(0))?;
            let (who, call) =
                ((caller.node.as_str(), before.as_str()), "POST /v1/data-planes/{id}/statement");
            audit_log::done(transaction, &organization, who, call, &caller.node, now)
        })
    }
}

/// What was stated of a version first.
fn stated(connection: &Connection, data_plane: &str, version: u64) -> Result<Option<(Vec<u8>, u64)>, Error> {
    Ok(connection
        .prepare_cached("SELECT digest, count FROM replica_state WHERE data_plane = ?1 AND version = ?2")?
        .query_row(params![data_plane, version], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

fn agrees(connection: &Connection, data_plane: &str, head: &Head) -> Result<bool, Error> {
    let before = stated(connection, data_plane, head.version)?;
    Ok(before.is_some_and(|(digest, count)| digest == head.digest && count == head.count))
}

/// Notes a head: the first one of its version, or one that contradicts it.
fn note_head(
    transaction: &Transaction<'_>,
    caller: &Caller,
    signed: &SignedHead,
    now: Time,
) -> Result<(), Error> {
    let head = signed.head();
    if stated(transaction, &caller.data_plane, head.version)?.is_none() {
        return note_state(transaction, &caller.data_plane, head.version, &head.digest, head.count);
    }
    let kept: u64 = transaction
        .prepare_cached("SELECT count(*) FROM replica_fork WHERE data_plane = ?1")?
        .query_row([&caller.data_plane], |row| row.get(0))?;
    if kept >= MAX_FORKS {
        return Ok(());
    }
    let row = params![
        caller.data_plane,
        head.version,
        head.digest.as_slice(),
        head.count,
        caller.node,
        signed.as_str(),
        now.unix()
    ];
    let new = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO replica_fork (data_plane, version, digest, count, node, head, noted_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(row)?;
    if new > 0 {
        tracing::error!(
            node = caller.node,
            data_plane = caller.data_plane,
            version = head.version,
            "a node holds a head that contradicts another one of this version: its replica key has signed two histories"
        );
    }
    Ok(())
}

/// Remembers what the replica is at a version, if nothing is known of it yet.
pub(super) fn note_state(
    transaction: &Transaction<'_>,
    data_plane: &str,
    version: u64,
    digest: &[u8],
    count: u64,
) -> Result<(), Error> {
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO replica_state (data_plane, version, digest, count) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![data_plane, version, digest, count])?;
    transaction
        .prepare_cached(
            "DELETE FROM replica_state WHERE data_plane = ?1
                 AND version <= (SELECT max(version) FROM replica_state WHERE data_plane = ?1) - ?2",
        )?
        .execute(params![data_plane, REMEMBERED])?;
    Ok(())
}

/// What operators must know of a node, in a sentence: by when two hosts were last heard under its identity, the latest
/// version of which it held another replica than others, and when its log was last continued in two ways.
pub(super) fn remark(
    shared_at: Option<Time>,
    contradicted: Option<u64>,
    log_forked_at: Option<Time>,
    now: Time,
) -> Option<String> {
    if shared_at.is_some_and(|at| now.since(at) < SHOWN) {
        return Some("fork: two hosts share this identity".into());
    }
    if let Some(version) = contradicted {
        return Some(format!("fork: it holds a replica of version {version} that contradicts another"));
    }
    let forked = log_forked_at.filter(|at| now.since(*at) < LOG_FORK_SHOWN);
    forked.map(|_| "fork: its log goes on in two ways; its state directory was copied or set back".into())
}
