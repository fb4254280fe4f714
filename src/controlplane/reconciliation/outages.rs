//! Outages as nodes reported them after their end.

use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};

use super::outage_report::{Stated, log_through, report};
use crate::api::outage::OutagePage;
use crate::api::outage_report::OutageReport;
use crate::api::page::Page;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::page::check;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::reconciliation::{MAX_ALARMS, OutageStatement, StatementFault};
use crate::protocol::time::Time;

/// Maximum length of a node's free text that is stored, in characters.
const MAX_WORDS: usize = 500;

const STATED: &str =
    "SELECT outage.node, node.name, outage.data_plane, outage.statement, outage.closed_at IS NOT NULL, outage.reported_at
    FROM outage JOIN node ON node.id = outage.node JOIN data_plane ON data_plane.id = outage.data_plane
    WHERE data_plane.organization = :organization";

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
        reported_at: Time::from_unix(row.get(5)?),
    })
}

/// Returns the id of the node's outage that contains `time`. If several contain it, because a wrong clock dated the end of one, it
/// is the outage that began last.
pub(in crate::controlplane) fn id_at(
    connection: &Connection,
    node: &str,
    time: Time,
) -> Result<Option<String>, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT id FROM outage WHERE node = ?1 AND began_at <= ?2 AND ended_at >= ?2
             ORDER BY began_at DESC, id LIMIT 1",
        )?
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
            StatementFault::Id => Error::invalid("id", "is not an identifier of an outage (out_…)"),
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
                     reported_at = iif(excluded.ended_at > ended_at, excluded.reported_at, reported_at),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;
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
}
