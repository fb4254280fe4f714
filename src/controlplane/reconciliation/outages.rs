//! Outages as nodes reported them after their end, and the report of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};

use super::recorded::{Recorded, end_of, use_of};
use crate::api::outage::OutagePage;
use crate::api::outage_report::OutageReport;
use crate::api::page::Page;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::page::check;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::deploy::exchange::{HostDeployState, OutageDeploy};
use crate::protocol::id::TokenId;
use crate::protocol::outage::{
    End, LogFault, MAX_NAMED, MergedRevocation, Opening, OutageState, Report, Use,
};
use crate::protocol::reconciliation::{MAX_ALARMS, OutageStatement, Outcome, StatementFault};
use crate::protocol::time::Time;

/// Maximum length of a node's free text that is stored, in characters.
const MAX_WORDS: usize = 500;

struct Stated {
    node: String,
    node_name: String,
    data_plane: String,
    statement: OutageStatement,
    closed: bool,
}

const STATED: &str =
    "SELECT outage.node, node.name, outage.data_plane, outage.statement, outage.closed_at IS NOT NULL
    FROM outage JOIN node ON node.id = outage.node JOIN data_plane ON data_plane.id = outage.data_plane
    WHERE data_plane.organization = :organization";

/// Selects the allowed events of node `?1` from time `?2` to `?3`, and those with the numbers `?4` to `?5` of its log.
/// Each half has an index; one condition that joins both by OR would read every event of the node.
const USES: &str = "SELECT time, sequence, line FROM event
        WHERE node = ?1 AND decision = 'allow' AND time BETWEEN ?2 AND ?3
    UNION
    SELECT time, sequence, line FROM event
        WHERE node = ?1 AND decision = 'allow' AND sequence BETWEEN ?4 AND ?5
            AND branch = (SELECT branch FROM node_log WHERE node_log.node = ?1)
    ORDER BY time, sequence";

fn read_row(row: &Row<'_>) -> rusqlite::Result<Stated> {
    let statement: String = row.get(3)?;
    let statement = serde_json::from_str(&statement).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(Stated {
        node: row.get(0)?,
        node_name: row.get(1)?,
        data_plane: row.get(2)?,
        statement,
        closed: row.get(4)?,
    })
}

/// Returns the id of the node's outage that contains `time`.
pub(in crate::controlplane) fn id_at(
    connection: &Connection,
    node: &str,
    time: Time,
) -> Result<Option<String>, Error> {
    Ok(connection
        .prepare_cached("SELECT id FROM outage WHERE node = ?1 AND began_at <= ?2 AND ended_at >= ?2")?
        .query_row(params![node, time.unix()], |row| row.get(0))
        .optional()?)
}

/// Closes the outages of a node whose last event has arrived, given that events up to `through` have.
pub(in crate::controlplane) fn close(
    transaction: &Transaction<'_>,
    node: &str,
    through: u64,
    now: Time,
) -> Result<(), Error> {
    let closed = transaction
        .prepare_cached(
            "UPDATE outage SET closed_at = ?3 WHERE node = ?1 AND closed_at IS NULL AND last_sequence <= ?2",
        )?
        .execute(params![node, through, now.unix()])?;
    if closed > 0 {
        tracing::info!(node, "an outage is reconciled");
    }
    Ok(())
}

fn cut(words: &mut String) {
    if let Some((end, _)) = words.char_indices().nth(MAX_WORDS) {
        words.truncate(end);
    }
}

impl ControlPlane {
    /// Stores a node's statement of an outage that is over. If it is sent again, the later end counts.
    pub fn take_outage(
        &self,
        data_plane: &str,
        node: &str,
        mut statement: OutageStatement,
    ) -> Result<(), Error> {
        statement.check().map_err(|fault| match fault {
            StatementFault::Id => Error::invalid("id", "is no identifier of an outage (out_…)"),
            StatementFault::Ends => Error::invalid("endedAt", "is before beganAt"),
        })?;
        cut(&mut statement.cause);
        statement.alarms.truncate(MAX_ALARMS);
        for alarm in &mut statement.alarms {
            cut(&mut alarm.kind);
            cut(&mut alarm.what);
        }
        let now = self.now();
        let text = serde_json::to_string(&statement).map_err(std::io::Error::from)?;
        self.store.write(|transaction| {
            let row = params![
                node,
                statement.id,
                data_plane,
                statement.began_at.unix(),
                statement.ended_at.unix(),
                text,
                statement.last_sequence,
                now.unix()
            ];
            transaction.execute(
                "INSERT INTO outage
                     (node, id, data_plane, began_at, ended_at, statement, last_sequence, reported_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (node, id) DO UPDATE SET
                     ended_at = excluded.ended_at, statement = excluded.statement, last_sequence = excluded.last_sequence
                 WHERE excluded.ended_at >= ended_at",
                row,
            )?;
            let through = log_through(transaction, node)?;
            close(transaction, node, through, now)
        })
    }

    /// Lists the outages of the organization's nodes, newest first.
    pub fn list_outages(&self, actor: &Actor, organization: &str, page: Page) -> Result<OutagePage, Error> {
        actor.may(Operation::Administer, organization)?;
        let range = check(page, "outages")?;
        self.store.read(|connection| {
            let sorted = range.sorted("outage.began_at", "outage.id", true);
            let query = format!("{STATED} {sorted} LIMIT :rows OFFSET :offset");
            let (after, rows, offset) = (range.after(), range.rows(), range.offset);
            let mut stated: Vec<Stated> = connection
                .prepare_cached(&query)?
                .query_map(
                    named_params! {
                        ":organization": organization, ":after": after, ":rows": rows, ":offset": offset,
                    },
                    read_row,
                )?
                .collect::<Result<_, _>>()?;
            let count = "SELECT count(*) FROM outage JOIN data_plane ON data_plane.id = outage.data_plane WHERE organization = ?1";
            let total = connection.prepare_cached(count)?.query_row([organization], |row| row.get(0))?;
            let extent = range.extent(total, &mut stated, |Stated { statement, .. }| {
                (statement.began_at.unix().into(), statement.id.clone())
            });
            let outages = stated.into_iter().map(|stated| Ok(report(connection, stated)?.into()));
            Ok(OutagePage { outages: outages.collect::<Result<_, Error>>()?, extent })
        })
    }

    /// Returns the report of an outage, from the events that have arrived so far.
    pub fn show_outage(&self, actor: &Actor, organization: &str, id: &str) -> Result<OutageReport, Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.read(|connection| {
            let query = format!("{STATED} AND outage.id = :id");
            let stated = connection
                .query_row(&query, named_params! { ":organization": organization, ":id": id }, read_row)
                .optional()?
                .ok_or(Error::NotFound("outage"))?;
            Ok(report(connection, stated)?.into())
        })
    }
}

fn log_through(connection: &Connection, node: &str) -> Result<u64, Error> {
    let through =
        connection.query_row("SELECT sequence FROM node_log WHERE node = ?1", [node], |row| row.get(0));
    Ok(through.optional()?.unwrap_or(0))
}

fn report(connection: &Connection, stated: Stated) -> Result<Report, Error> {
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

    use serde_json::{Value, json};

    use super::*;
    use crate::controlplane::store::Store;
    use crate::controlplane::test_world::World;

    #[test]
    fn a_list_of_outages_is_read_in_pages_the_newest_first() {
        let world = World::new();
        let now = world.control.now();
        for (id, ago) in [("out_b", 300), ("out_c", 100), ("out_a", 300)] {
            let statement = json!({ "id": id, "beganAt": now.plus(-ago), "endedAt": now.plus(-ago + 10), "cause": "",
                "firstSequence": 1, "lastSequence": 0, "alarms": [] });
            world.control.take_outage("dpl_a", "nod_a", serde_json::from_value(statement).unwrap()).unwrap();
        }
        let owner = &world.owner;
        let list = |page: &Value| {
            let page = serde_json::from_value(page.clone()).unwrap();
            world.control.list_outages(owner, &owner.organization, page)
        };
        let ids = |page: &OutagePage| -> Vec<String> {
            page.outages.iter().map(|outage| outage.id.clone()).collect()
        };
        let all = list(&json!({})).unwrap();
        assert_eq!(
            (ids(&all), all.extent.total_count),
            (["out_c", "out_b", "out_a"].map(String::from).to_vec(), 3)
        );
        let shown = serde_json::to_value(&all).unwrap();
        assert_eq!(shown["outages"][0]["beganAt"], now.plus(-100).rfc3339());
        let first = list(&json!({ "limit": 2 })).unwrap();
        let cursor = first.extent.next_cursor.clone().unwrap();
        let second = list(&json!({ "limit": 2, "cursor": cursor })).unwrap();
        assert_eq!((ids(&first), ids(&second)), (ids(&all)[..2].to_vec(), ids(&all)[2..].to_vec()));
        assert_eq!(ids(&list(&json!({ "offset": 1, "limit": 1 })).unwrap()), ["out_b"]);
        assert!(list(&json!({ "limit": 0 })).unwrap().outages.is_empty());
        assert_eq!(list(&json!({ "cursor": "x" })).unwrap_err().status(), 422);
    }

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
