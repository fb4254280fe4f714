//! Report of an outage that a node stated, from the events of its log that have arrived so far.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::recorded::{Recorded, end_of, use_of};
use crate::controlplane::error::Error;
use crate::protocol::deploy::exchange::{HostDeployState, OutageDeploy};
use crate::protocol::id::TokenId;
use crate::protocol::outage::{
    End, LogFault, MAX_NAMED, MergedRevocation, Opening, OutageState, Report, Use,
};
use crate::protocol::reconciliation::{OutageStatement, Outcome};
use crate::protocol::time::Time;

/// Outage as its node stated it.
pub(super) struct Stated {
    pub(super) node: String,
    pub(super) node_name: String,
    pub(super) data_plane: String,
    pub(super) statement: OutageStatement,
    /// True if all of its events have arrived.
    pub(super) closed: bool,
}

/// Selects the allowed events of node `?1` from time `?2` to `?3`, and those with the numbers `?4` to `?5` of its log.
/// Each half has an index; one condition that joins both by OR would read every event of the node.
const USES: &str = "SELECT time, sequence, line FROM event
        WHERE node = ?1 AND decision = 'allow' AND time BETWEEN ?2 AND ?3
    UNION
    SELECT time, sequence, line FROM event
        WHERE node = ?1 AND decision = 'allow' AND sequence BETWEEN ?4 AND ?5
            AND branch = (SELECT branch FROM node_log WHERE node_log.node = ?1)
    ORDER BY time, sequence";

/// Returns the number of the last event of the node's log that has arrived.
pub(super) fn log_through(connection: &Connection, node: &str) -> Result<u64, Error> {
    let through =
        connection.query_row("SELECT sequence FROM node_log WHERE node = ?1", [node], |row| row.get(0));
    Ok(through.optional()?.unwrap_or(0))
}

/// Makes the report of an outage from the events that have arrived so far.
pub(super) fn report(connection: &Connection, stated: Stated) -> Result<Report, Error> {
    let Stated { node, node_name, data_plane, statement, closed } = stated;
    let opening = Opening {
        node_id: &node,
        node_name: Some(node_name),
        data_plane_id: &data_plane,
        state: if closed { OutageState::Closed } else { OutageState::Reconciling },
        statement: &statement,
        log_through: log_through(connection, &node)?,
    };
    let mut report = Report::open(opening);
    // The node knew nothing new after its last contact, so uses between that and the start of the outage may be late as
    // well.
    let from = statement.last_contact_at.unwrap_or(statement.began_at).min(statement.began_at);
    // Also selected by sequence number: after a correction of the clock, events of the outage may be dated before it.
    let lines: Vec<String> = connection
        .prepare_cached(USES)?
        .query_map(
            params![
                node,
                from.unix(),
                statement.ended_at.unix(),
                statement.first_sequence,
                statement.last_sequence
            ],
            |row| row.get(2),
        )?
        .collect::<Result<_, _>>()?;
    let recorded: Vec<Recorded> = lines.iter().filter_map(|line| use_of(line)).collect();
    let mut names = HashMap::new();
    let mut ends: HashMap<(TokenId, u32), Option<End>> = HashMap::new();
    for Recorded { used, .. } in &recorded {
        if let Entry::Vacant(vacant) = names.entry(used.token_id.clone()) {
            let name: Option<String> = connection
                .prepare_cached("SELECT name FROM token WHERE id = ?1")?
                .query_row([used.token_id.as_str()], |row| row.get(0))
                .optional()?;
            vacant.insert(name);
        }
        if let Entry::Vacant(vacant) = ends.entry((used.token_id.clone(), used.generation)) {
            vacant.insert(end_of(connection, used)?);
        }
    }
    let end = |token: &TokenId, generation| ends.get(&(token.clone(), generation)).copied().flatten();
    let (before, meanwhile): (Vec<_>, Vec<_>) = recorded.into_iter().partition(|recorded| recorded.online);
    let uses =
        |recorded: Vec<Recorded>| recorded.into_iter().map(|recorded| recorded.used).collect::<Vec<Use>>();
    report.add_uses(uses(meanwhile), |token| names.get(token).cloned().flatten(), end);
    report.add_late_uses(uses(before), end);
    for revocation in revocations(connection, &data_plane, &node, from, statement.ended_at)? {
        report.add_revocation(revocation);
    }
    for deploy in host_deploys(connection, &node, from, statement.ended_at)? {
        report.add_deploy(deploy);
    }
    for fault in faults(connection, &node, &statement)? {
        report.add_fault(fault);
    }
    Ok(report.finish())
}

/// Returns the revocations of the outage that were made on this node or sent by it.
fn revocations(
    connection: &Connection,
    data_plane: &str,
    node: &str,
    from: Time,
    to: Time,
) -> Result<Vec<MergedRevocation>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT token, node, revoked_at, operator, reason, outcome FROM local_revocation
         WHERE data_plane = ?1 AND (node = ?2 OR received_from = ?2) AND revoked_at BETWEEN ?3 AND ?4 ORDER BY revoked_at",
    )?;
    let rows = statement.query_map(params![data_plane, node, from.unix(), to.unix()], |row| {
        let token: String = row.get(0)?;
        let outcome: String = row.get(5)?;
        let token_id = TokenId::new(&token).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
        })?;
        Ok(MergedRevocation {
            token_id,
            node_id: row.get(1)?,
            revoked_at: Time::from_unix(row.get(2)?),
            operator: row.get(3)?,
            reason: row.get(4)?,
            outcome: Outcome::parse(&outcome),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the deploys of the outage that the host took.
fn host_deploys(
    connection: &Connection,
    node: &str,
    from: Time,
    to: Time,
) -> Result<Vec<OutageDeploy>, Error> {
    let mut rows = connection.prepare_cached(
        "SELECT id, deployment, created_by, created_at, status, superseded_by FROM deploy
         WHERE node = ?1 AND created_at BETWEEN ?2 AND ?3 ORDER BY created_at, id LIMIT ?4",
    )?;
    let rows = rows.query_map(params![node, from.unix(), to.unix(), MAX_NAMED], |row| {
        let state = match &*row.get::<_, String>(4)? {
            "DEPLOYED" => HostDeployState::Stored,
            "INITIALIZED" => HostDeployState::Wanted,
            _ => HostDeployState::Superseded,
        };
        Ok(OutageDeploy {
            deploy_id: row.get(0)?,
            deployment_id: row.get(1)?,
            token_id: row.get(2)?,
            time: Time::from_unix(row.get(3)?),
            state,
            superseded_by_id: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the faults of the log that concern the outage: those at its events, and those that break the order of
/// events.
fn faults(connection: &Connection, node: &str, statement: &OutageStatement) -> Result<Vec<LogFault>, Error> {
    let mut rows = connection.prepare_cached(
        "SELECT sequence, kind, what, noted_at FROM log_fault
         WHERE node = ?1 AND (sequence BETWEEN ?2 AND ?3 OR noted_at BETWEEN ?4 AND ?5) ORDER BY noted_at, sequence LIMIT 100",
    )?;
    // Reconciliation takes a while: a fault found within an hour of the outage's end belongs to it.
    let rows = rows.query_map(
        params![
            node,
            statement.first_sequence,
            statement.last_sequence + 1,
            statement.ended_at.unix(),
            statement.ended_at.plus(3600).unix()
        ],
        |row| {
            Ok(LogFault {
                sequence: row.get(0)?,
                kind: row.get(1)?,
                what: row.get(2)?,
                noted_at: Time::from_unix(row.get(3)?),
            })
        },
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::controlplane::store::Store;

    #[test]
    fn a_report_reads_the_events_of_its_outage_and_no_others() {
        let plan: Vec<String> = Store::in_memory()
            .unwrap()
            .read(|connection| {
                let mut rows = connection.prepare(&format!("EXPLAIN QUERY PLAN {USES}"))?;
                let row = params!["nod_a", 0, 0, 0, 0];
                Ok(rows.query_map(row, |row| row.get(3))?.collect::<Result<_, _>>()?)
            })
            .unwrap();
        for bounded in ["time>? AND time<?", "sequence>? AND sequence<?"] {
            assert!(
                plan.iter().any(|step| step.starts_with("SEARCH event") && step.contains(bounded)),
                "{plan:?}"
            );
        }
    }
}
