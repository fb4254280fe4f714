//! Names of nodes. A host states its name in every statement, and a new name changes the replica, which every host of the data
//! plane fetches. So renamings are limited: hosts that share an identity, or a host whose name keeps changing, must not cause
//! changes without end.

use rusqlite::Connection;

use super::enrolment::Caller;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::audit_log;
use crate::controlplane::error::Error;
use crate::controlplane::replica::publish;
use crate::protocol::record::{NodeRecord, Record, RecordKind};
use crate::protocol::time::Time;

impl ControlPlane {
    /// Sets the node's name to the one in its host's configuration, unless it was renamed too often.
    pub(super) fn rename_node(&self, caller: &Caller, name: &str, now: Time) -> Result<(), Error> {
        let row = |connection: &Connection| {
            connection.query_row("SELECT name, key FROM node WHERE id = ?1", [&caller.node], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
        };
        if self.store.read(|connection| Ok(row(connection)?.0 == name))?
            || !self.renamings.begin(&caller.node, now)
        {
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
            let record = Record::from_value(RecordKind::Node, caller.node.as_str(), &node);
            publish::put(transaction, &caller.data_plane, &[record])?;
            let query = "SELECT organization FROM data_plane WHERE id = ?1";
            let organization: String =
                transaction.query_row(query, [&caller.data_plane], |row| row.get(0))?;
            let (who, call) =
                ((caller.node.as_str(), before.as_str()), "POST /v1/data-planes/{id}/statement");
            audit_log::record_done(transaction, &organization, who, call, &caller.node, now)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::controlplane::memory::renamings::{BURST, INTERVAL};
    use crate::controlplane::nodes::instances::SHOWN;
    use crate::controlplane::test_world::World;
    use crate::protocol::membership::NodeStatement;

    impl World {
        /// States a name, and returns the replica's version and the node's name after it.
        fn call_itself(&self, name: &str) -> (i64, String) {
            self.state(&NodeStatement { name: Some(name.into()), ..NodeStatement::default() });
            let query = "SELECT version, (SELECT name FROM node WHERE id = 'nod_a') FROM data_plane WHERE id = 'dpl_a'";
            let row = |connection: &Connection| {
                Ok(connection.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
            };
            self.control.store.read(row).unwrap()
        }
    }

    #[test]
    fn hosts_that_share_an_identity_do_not_rename_each_other() {
        let world = World::new();
        let (version, _) = world.call_itself("a");
        for instance in ["one", "two", "one"] {
            world.control.note_instance("nod_a", instance);
        }
        for _ in 0..100 {
            world.later(INTERVAL);
            for (instance, name) in [("one", "a"), ("two", "b")] {
                world.control.note_instance("nod_a", instance);
                assert_eq!(world.call_itself(name), (version, "a".into()));
            }
        }
        // The copy has an identity of its own from now on.
        world.later(SHOWN + 1);
        assert_eq!(world.call_itself("c"), (version + 1, "c".into()));
    }

    #[test]
    fn a_node_is_renamed_ten_times_at_once_and_then_once_a_minute_to_the_name_it_stated_last() {
        let world = World::new();
        let (mut version, _) = world.call_itself("a");
        for number in 0..BURST {
            version += 1;
            assert_eq!(world.call_itself(&number.to_string()), (version, number.to_string()));
        }
        for name in ["b", "c", "b", "d"] {
            assert_eq!(world.call_itself(name), (version, "9".into()));
        }
        world.later(INTERVAL - 1);
        assert_eq!(world.call_itself("d"), (version, "9".into()));
        world.later(1);
        assert_eq!(world.call_itself("d"), (version + 1, "d".into()));
        assert_eq!(world.call_itself("e"), (version + 1, "d".into()));
        // The clock is set back by a year.
        world.later(-365 * 86_400);
        assert_eq!(world.call_itself("e"), (version + 2, "e".into()));
    }
}
