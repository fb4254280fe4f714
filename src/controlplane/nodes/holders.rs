//! Finds the holder of a node key: in memory, or else in the database.

use std::sync::Arc;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::memory::holders::{Holder, Known};
use crate::protocol::key::{Jwk, PublicKey};
use crate::protocol::time::Time;

impl ControlPlane {
    /// Returns the holder of a key, if that takes no database.
    pub(super) fn known_holder(&self, kid: &str) -> Option<Arc<Holder>> {
        self.holders.get(kid, self.store.nodes_changed())
    }

    /// Returns the holder of a key, or none if no node has this key.
    pub(super) fn holder(&self, kid: &str) -> Result<Option<Arc<Holder>>, Error> {
        // Read before the rows are: what is read later may only be newer.
        let as_of = self.store.nodes_changed();
        if let Some(holder) = self.holders.get(kid, as_of) {
            return Ok(Some(holder));
        }
        let found: Vec<(Known, String)> = self.store.read(|connection| {
            let query = "SELECT id, data_plane, retired_at, key FROM node WHERE kid = ?1";
            let mut rows = connection.prepare_cached(query)?;
            let rows = rows.query_map([kid], |row| {
                let retired_at = row.get::<_, Option<i64>>(2)?.map(Time::from_unix);
                Ok((Known { id: row.get(0)?, data_plane: row.get(1)?, retired_at }, row.get(3)?))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        let key = found.first().and_then(|(_, key)| serde_json::from_str::<Jwk>(key).ok());
        let Some(key) = key.and_then(|jwk| PublicKey::from_jwk(&jwk).ok()) else { return Ok(None) };
        let holder = Arc::new(Holder { key, nodes: found.into_iter().map(|(known, _)| known).collect() });
        self.holders.keep(kid, &holder, as_of);
        Ok(Some(holder))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::controlplane::error::Error;
    use crate::controlplane::test_world::World;

    #[test]
    fn a_known_node_is_proved_without_the_database_until_its_row_changes() {
        let world = World::new();
        let call = |id: &str| world.control.known_node_in(world.proof(id).as_bytes(), "dpl_a");
        assert!(call("1").is_none(), "it has not called yet");
        world.control.node_in(world.proof("2").as_bytes(), "dpl_a").unwrap();
        assert_eq!(call("3").unwrap().unwrap().node, "nod_a");
        assert!(call("3").unwrap().is_err(), "a proof counts once");
        let other = world.control.known_node_in(world.proof("4").as_bytes(), "dpl_b");
        assert!(other.unwrap().is_err(), "another data plane");

        world.control.retire_node(&world.owner, &world.owner.organization, "dpl_a", "nod_a").unwrap();
        assert!(call("5").is_none());
        for id in ["6", "7"] {
            let refused = world.control.node_in(world.proof(id).as_bytes(), "dpl_a");
            assert!(matches!(refused, Err(Error::Forbidden { code: "node_retired", .. })), "{refused:?}");
        }
        assert!(call("8").unwrap().is_err(), "a retired node stays known as one");
    }
}
