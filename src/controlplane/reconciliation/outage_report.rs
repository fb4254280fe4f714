//! Report of an outage that a node reported, made from the events of its log that have arrived so far.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::recorded::{Recorded, end_of, use_of};
use crate::controlplane::error::Error;
use crate::controlplane::nodes::log_faults::words;
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
    /// Time at which the statement arrived, by the clock of the control plane.
    pub(super) reported_at: Time,
}

/// Selects the allowed events of node `?1` from time `?2` to `?3`, and those with the numbers `?4` to `?5` of its log.
/// Each half uses an index; one condition that joins both by OR would read every event of the node. Events of the log after number
/// `?5` are left out although their time may be in the range: a clock that ran ahead dates the end of an outage in the future.
const USES: &str = "SELECT time, sequence, line FROM event
        WHERE node = ?1 AND decision = 'allow' AND time BETWEEN ?2 AND ?3
            AND (sequence <= ?5 OR branch IS NOT (SELECT branch FROM node_log WHERE node_log.node = ?1))
    UNION
    SELECT time, sequence, line FROM event
        WHERE node = ?1 AND decision = 'allow' AND sequence BETWEEN ?4 AND ?5
            AND branch = (SELECT branch FROM node_log WHERE node_log.node = ?1)
    ORDER BY time, sequence";

/// Period before the arrival of a statement in which revocations and deploys count as made in its outage, in seconds. It is used
/// if the whole outage is dated in the future.
const SENT_BEFORE: i64 = 3600;

/// Returns the number of the last event of the node's log that has arrived.
pub(super) fn log_through(connection: &Connection, node: &str) -> Result<u64, Error> {
    let through =
        connection.query_row("SELECT sequence FROM node_log WHERE node = ?1", [node], |row| row.get(0));
    Ok(through.optional()?.unwrap_or(0))
}

/// Makes the report of an outage from the events that have arrived so far.
pub(super) fn report(connection: &Connection, stated: Stated) -> Result<Report, Error> {
    let Stated { node, node_name, data_plane, statement, closed, reported_at } = stated;
    let opening = Opening {
        node_id: &node,
        node_name: Some(node_name),
        data_plane_id: &data_plane,
        state: if closed { OutageState::Closed } else { OutageState::Reconciling },
        statement: &statement,
        log_through: log_through(connection, &node)?,
    };
    let mut report = Report::open(opening);
    // The node learned of no revocation after its last contact, so uses between that and the start of the outage may be
    // late as well.
    let from = statement.last_contact_at.unwrap_or(statement.began_at).min(statement.began_at);
    // A host that was killed may have lost the time of its last contact, which is not before the end of the previous outage.
    let from = from.max(end_before(connection, &node, &statement)?.unwrap_or(from));
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
    // If the host's clock was ahead, revocations and deploys are dated by this control plane's clock. By that clock the outage
    // was over when its statement arrived.
    let to = statement.ended_at.min(reported_at);
    let from = if from > to { to.plus(-SENT_BEFORE) } else { from };
    for revocation in revocations(connection, &data_plane, &node, from, to)? {
        report.add_revocation(revocation);
    }
    for deploy in host_deploys(connection, &node, from, to)? {
        report.add_deploy(deploy);
    }
    for fault in faults(connection, &node, &statement, to)? {
        report.add_fault(fault);
    }
    Ok(report.finish())
}

/// Returns the end of the node's last outage before this one.
fn end_before(
    connection: &Connection,
    node: &str,
    statement: &OutageStatement,
) -> Result<Option<Time>, Error> {
    let query = "SELECT max(ended_at) FROM outage WHERE node = ?1 AND id <> ?2 AND ended_at <= ?3";
    let row = params![node, statement.id, statement.began_at.unix()];
    let end: Option<i64> = connection.prepare_cached(query)?.query_row(row, |row| row.get(0))?;
    Ok(end.map(Time::from_unix))
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

/// Returns the faults of the log that concern the outage, which ended at `end`: those at its events, and those that break the
/// order of events.
fn faults(
    connection: &Connection,
    node: &str,
    statement: &OutageStatement,
    end: Time,
) -> Result<Vec<LogFault>, Error> {
    let mut rows = connection.prepare_cached(
        "SELECT sequence, kind, what, noted_at, repeated FROM log_fault
         WHERE node = ?1 AND (sequence BETWEEN ?2 AND ?3 OR noted_at BETWEEN ?4 AND ?5) ORDER BY noted_at, sequence LIMIT 100",
    )?;
    // Events arrive some time after the outage: a fault found within an hour of the outage's end belongs to it.
    let rows = rows.query_map(
        params![
            node,
            statement.first_sequence,
            statement.last_sequence + 1,
            end.unix(),
            end.plus(3600).unix()
        ],
        |row| {
            Ok(LogFault {
                sequence: row.get(0)?,
                kind: row.get(1)?,
                what: words(row.get(2)?, row.get(4)?),
                noted_at: Time::from_unix(row.get(3)?),
            })
        },
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::api::outage_report::OutageReport;
    use crate::controlplane::store::Store;
    use crate::controlplane::test_world::World;
    use crate::protocol::event::{GENESIS, line_hash};

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

    const YEARS: i64 = 4 * 365 * 86_400;

    impl World {
        /// Sends the next events of the node's log, each a use at a time from now.
        fn send_uses(&self, times: &[i64]) {
            let (mut sequence, mut prev): (u64, String) = self
                .control
                .store
                .read(|connection| {
                    let query = "SELECT sequence, hash FROM node_log WHERE node = 'nod_a'";
                    Ok(connection.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
                })
                .unwrap()
                .unwrap_or((0, GENESIS.to_owned()));
            let mut lines = Vec::new();
            for after in times {
                sequence += 1;
                let line = json!({ "sequence": sequence, "prev": prev, "id": format!("evt_{sequence}"), "node": "nod_a",
                    "time": self.control.now().plus(*after), "kind": "decision", "decision": "allow", "reason": "ok",
                    "token": "tok_a", "generation": 1, "connectivity": "offline" });
                lines.push(line.to_string());
                prev = line_hash(&lines[lines.len() - 1]);
            }
            self.control.take_events("dpl_a", "nod_a", 1, lines.iter().map(String::as_str)).unwrap();
        }

        /// Tells of the next revocation of the node, made and received now.
        fn revoke_on_node(&self, token: &str) {
            let now = self.control.now().unix();
            self.write(&format!(
                "INSERT INTO local_revocation (node, token, data_plane, revoked_at, operator, reason, text, outcome, received_from,
                     received_at) VALUES ('nod_a', '{token}', 'dpl_a', {now}, 'o', 'r', '', 'revoked', 'nod_a', {now})"
            ));
        }

        fn state_outage(&self, id: &str, (from, to): (i64, i64), (first, last): (u64, u64)) {
            let now = self.control.now();
            let statement = json!({ "id": id, "beganAt": now.plus(from), "endedAt": now.plus(to), "firstSequence": first,
                "lastSequence": last });
            self.control.take_outage("dpl_a", "nod_a", serde_json::from_value(statement).unwrap()).unwrap();
        }

        fn outage_report(&self, id: &str) -> OutageReport {
            self.control.show_outage(&self.owner, &self.owner.organization, id).unwrap()
        }
    }

    #[test]
    fn an_outage_whose_end_is_in_the_future_holds_nothing_that_came_after_it() {
        for (name, from) in [("while it lasted", -600), ("from its beginning", YEARS)] {
            let world = World::new();
            world.send_uses(&[-2000]);
            world.later(1000);
            world.revoke_on_node("tok_a");
            // The host's clock was four years ahead.
            world.state_outage("out_a", (from, YEARS + 600), (2, 4));
            world.send_uses(&[from + 1, YEARS, YEARS + 100]);
            let first = world.outage_report("out_a");
            assert_eq!((first.uses, first.revocations.len()), (3, 1), "{name}");

            // Its clock is right again, and there is another outage.
            world.later(86_400);
            world.revoke_on_node("tok_b");
            world.state_outage("out_b", (-600, -10), (5, 6));
            world.send_uses(&[-500, -400, -5]);
            let (first, second) = (world.outage_report("out_a"), world.outage_report("out_b"));
            assert_eq!((first.uses, first.revocations.len()), (3, 1), "{name}");
            assert_eq!(second.uses, 2, "{name}");
        }
    }

    #[test]
    fn what_came_in_an_outage_is_not_told_again_by_the_next() {
        let world = World::new();
        world.state_outage("out_a", (-60, -10), (1, 2));
        world.send_uses(&[-50, -40, -7]);
        world.revoke_on_node("tok_a");
        world.write("UPDATE local_revocation SET revoked_at = revoked_at - 30");
        // The host was killed before it stored that it had an answer.
        let statement = json!({ "id": "out_b", "beganAt": world.control.now().plus(-5), "endedAt": world.control.now(),
            "lastContactAt": world.control.now().plus(-60), "firstSequence": 4, "lastSequence": 4 });
        world.control.take_outage("dpl_a", "nod_a", serde_json::from_value(statement).unwrap()).unwrap();
        world.send_uses(&[-3]);
        let told = |id| {
            let report = world.outage_report(id);
            (report.uses, report.revocations.len())
        };
        // Between the two the host had no answer, as far as it says.
        assert_eq!((told("out_a"), told("out_b")), ((2, 1), (2, 0)));
    }

    #[test]
    fn a_use_belongs_to_the_outage_that_began_last() {
        let world = World::new();
        world.state_outage("out_a", (-600, YEARS), (1, 1));
        world.later(86_400);
        world.state_outage("out_b", (-60, 0), (2, 2));
        let at = |after: i64| {
            let time = world.control.now().plus(after);
            let found = world
                .control
                .store
                .read(|connection| super::super::outages::id_at(connection, "nod_a", time));
            found.unwrap().unwrap()
        };
        assert_eq!([at(-70), at(-60), at(0), at(1)], ["out_a", "out_b", "out_b", "out_a"]);
    }

    #[test]
    fn an_outage_that_is_stated_again_with_a_later_end_holds_what_came_until_then() {
        let world = World::new();
        world.state_outage("out_a", (-600, 0), (1, 1));
        world.later(100);
        world.revoke_on_node("tok_a");
        assert_eq!(world.outage_report("out_a").revocations.len(), 0);
        world.state_outage("out_a", (-700, 0), (1, 1));
        assert_eq!(world.outage_report("out_a").revocations.len(), 1);
        // Told twice, it ended no later.
        world.later(100);
        world.revoke_on_node("tok_b");
        world.state_outage("out_a", (-800, -100), (1, 1));
        assert_eq!(world.outage_report("out_a").revocations.len(), 1);
    }
}
