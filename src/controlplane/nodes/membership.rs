//! Nodes' statements of themselves: their names and the heads they hold. Two different heads of one version prove that
//! the replica key has signed two histories, which show different hosts different replicas.

use rusqlite::{Connection, params};

use super::enrolment::Caller;
use super::instances::SHOWN;
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::names::check_name;
use crate::controlplane::replica::states::{REMEMBERED, note_state, stated};
use crate::controlplane::store::Transaction;
use crate::protocol::head::{Head, SignedHead};
use crate::protocol::membership::{MAX_HEADS, NodeStanding, NodeStatement};
use crate::protocol::time::Time;

/// Maximum number of contradictions stored per data plane.
const MAX_FORKS: u64 = 1000;
/// Time for which the node list shows that the log of a node was forked, in seconds.
const LOG_FORK_SHOWN: i64 = 24 * 3600;

impl ControlPlane {
    /// Processes a node's statement of itself. Most statements say nothing new, and write nothing.
    pub(in crate::controlplane) fn take_statement(
        &self,
        caller: &Caller,
        statement: &NodeStatement,
    ) -> Result<NodeStanding, Error> {
        let (keyset, now) = (self.signing().keyset.clone(), self.now());
        let audience = caller.data_plane.parse().map_err(|_| Error::NotFound("data plane"))?;
        // A head without a valid signature of this control plane is no evidence.
        let heads: Vec<SignedHead> = statement
            .heads
            .iter()
            .take(MAX_HEADS)
            .filter_map(|text| SignedHead::verify(text, &keyset, &audience).ok())
            .collect();
        let shared_at: Option<i64> = self.store.read(|connection| {
            let query = "SELECT shared_at FROM node WHERE id = ?1";
            Ok(connection.query_row(query, [&caller.node], |row| row.get(0))?)
        })?;
        let shared_identity = shared_at.is_some_and(|at| now.since(Time::from_unix(at)) < SHOWN);
        let name_refused = match &statement.name {
            None => None,
            Some(name) => match check_name("name", name) {
                Ok(()) => {
                    // Two hosts with one identity and different names would rename each other without end.
                    if !shared_identity {
                        self.rename_node(caller, name, now)?;
                    }
                    None
                }
                Err(error) => Some(error.to_string()),
            },
        };
        let news = self.store.read(|connection| {
            let mut news = Vec::new();
            for head in heads {
                if is_news(connection, &caller.data_plane, head.head())? {
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
        if let Some(checkpoint) = &statement.checkpoint {
            self.take_checkpoint(caller, checkpoint)?;
        }
        if let Some(text) = &statement.encryption_key {
            self.take_encryption_key(caller, text, now)?;
        }
        let environment_changes = self.environment_changes(&caller.data_plane)?;
        let deploy_changes = self.deploy_changes(&caller.data_plane)?;
        let log_faults = self.recent_log_faults(&caller.node)?;
        Ok(NodeStanding { shared_identity, name_refused, log_faults, environment_changes, deploy_changes })
    }
}

/// Returns true if a head must be stored: the first of its version, or one that contradicts it and is not stored yet.
/// This is checked for every statement before the writer's lock is taken.
fn is_news(connection: &Connection, data_plane: &str, head: &Head) -> Result<bool, Error> {
    if let Some((digest, count)) = stated(connection, data_plane, head.version)? {
        if digest == head.digest && count == head.count {
            return Ok(false);
        }
        let (kept, known): (u64, bool) = connection
            .prepare_cached(
                "SELECT count(*), EXISTS (SELECT 1 FROM replica_fork
                     WHERE data_plane = ?1 AND version = ?2 AND digest = ?3 AND count = ?4)
                 FROM replica_fork WHERE data_plane = ?1",
            )?
            .query_row(params![data_plane, head.version, head.digest.as_slice(), head.count], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        return Ok(!known && kept < MAX_FORKS);
    }
    // A head that is too far behind would be pruned as soon as it is stored.
    let newest: Option<u64> = connection
        .prepare_cached("SELECT max(version) FROM replica_state WHERE data_plane = ?1")?
        .query_row([data_plane], |row| row.get(0))?;
    Ok(newest.is_none_or(|newest| head.version.saturating_add(REMEMBERED) > newest))
}

/// Stores a head, unless another call has stored it meanwhile.
fn note_head(
    transaction: &Transaction<'_>,
    caller: &Caller,
    signed: &SignedHead,
    now: Time,
) -> Result<(), Error> {
    let head = signed.head();
    if !is_news(transaction, &caller.data_plane, head)? {
        return Ok(());
    }
    if stated(transaction, &caller.data_plane, head.version)?.is_none() {
        return note_state(transaction, &caller.data_plane, head.version, &head.digest, head.count);
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
    transaction
        .prepare_cached(
            "INSERT INTO replica_fork (data_plane, version, digest, count, node, head, noted_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(row)?;
    tracing::error!(
        node = caller.node,
        data_plane = caller.data_plane,
        version = head.version,
        "a node holds a head that contradicts another head of the same version: the replica key has signed two histories, so it may be stolen"
    );
    Ok(())
}

/// Returns the fault of a node that operators must know of, in one sentence. `shared_at` is the time at which two hosts
/// last called under its identity, `contradicted` the latest version of which it held another replica than other nodes,
/// and `log_forked_at` the time at which a fork of its log was last found.
pub(in crate::controlplane) fn remark(
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::controlplane::test_world::World;
    use crate::protocol::event::{Checkpoint, line_hash};
    use crate::protocol::jws::{Typ, sign};

    const FORKS: &str = "SELECT count(*) FROM replica_fork";
    const FAULTS: &str = "SELECT count(*) FROM log_fault";

    impl World {
        fn head(&self, version: u64, digest: u8) -> String {
            self.head_of(version, [digest; 32], 1)
        }

        fn checkpoint(&self, sequence: u64, hash: &str) -> String {
            let checkpoint = Checkpoint {
                iss: "nod_a".parse().unwrap(),
                iat: self.control.now(),
                number: 1,
                sequence,
                hash: hash.into(),
                dropped: false,
            };
            sign(Typ::AuditCheckpoint, &serde_json::to_vec(&checkpoint).unwrap(), &self.key)
        }

        /// Sends the same statement again while the database rejects writes.
        fn state_without_a_write(&self, statement: &NodeStatement) {
            self.control.store.refuse_writes(true);
            self.state(statement);
            self.control.store.refuse_writes(false);
        }
    }

    fn heads(heads: &[String]) -> NodeStatement {
        NodeStatement { heads: heads.to_vec(), ..NodeStatement::default() }
    }

    #[test]
    fn a_head_is_written_once_and_one_too_old_to_be_kept_never() {
        let world = World::new();
        let newest = REMEMBERED + 7;
        let first = heads(&[world.head(newest, 1)]);
        world.state(&first);
        world.state_without_a_write(&first);

        let fork = heads(&[world.head(newest, 2), world.head(newest, 3)]);
        world.state(&fork);
        assert_eq!(world.count(FORKS), 2);
        world.state_without_a_write(&fork);

        world.state_without_a_write(&heads(&[world.head(7, 1), world.head(1, 1)]));
        world.state(&heads(&[world.head(8, 1)]));
        let versions = "SELECT group_concat(version, ' ') = '8 10007' FROM replica_state";
        assert_eq!(world.count(versions), 1, "the oldest version that is remembered");

        world.write(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MAX_FORKS})
             INSERT INTO replica_fork SELECT 'dpl_a', 1, CAST(i AS BLOB), 1, 'nod_a', 'head', 0 FROM n"
        ));
        world.state_without_a_write(&heads(&[world.head(newest, 4)]));
    }

    #[test]
    fn a_checkpoint_is_written_once_and_its_fault_counted_once() {
        let world = World::new();
        let line = "{}";
        world.control.take_events("dpl_a", "nod_a", 1, [line]).unwrap();
        let unreadable = "halligan_control_log_faults_total{data_plane=\"dpl_a\"} 1";
        assert!(world.tells(unreadable), "it is no event");
        let mut stated =
            NodeStatement { checkpoint: Some(world.checkpoint(1, &line_hash(line))), ..Default::default() };
        world.state(&stated);
        assert_eq!(world.count("SELECT count(*) FROM checkpoint"), 1);
        world.state_without_a_write(&stated);

        stated.checkpoint = Some(world.checkpoint(1, &line_hash("{ }")));
        let told = world.state(&stated).log_faults;
        assert!(told.iter().any(|fault| fault.starts_with("checkpoint at event 1")), "{told:?}");
        world.state_without_a_write(&stated);
        world.state(&stated);
        assert_eq!(world.count(FAULTS), 2);
        assert!(world.tells("halligan_control_log_faults_total{data_plane=\"dpl_a\"} 2"));
    }

    #[test]
    fn the_count_of_log_faults_does_not_fall_when_retention_forgets_them() {
        let world = World::new();
        assert!(world.tells("halligan_control_log_faults_total{data_plane=\"dpl_a\"} 0"), "before the first");
        world.control.take_events("dpl_a", "nod_a", 1, ["a", "b"]).unwrap();
        world.write("DELETE FROM log_fault");
        assert!(world.tells("halligan_control_log_faults_total{data_plane=\"dpl_a\"} 2"));
    }
}
