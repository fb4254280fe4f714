//! Holders of node keys, in memory. Thousands of nodes prove themselves each minute, and their keys hardly ever change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::protocol::key::{Jwk, PublicKey};
use crate::protocol::time::Time;

/// Maximum number of keys in memory. All are forgotten when there are more.
const KEPT: usize = 100_000;

/// Host that holds a node key. A host that enrolled twice is two nodes with the same key.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) key: PublicKey,
    pub(super) nodes: Vec<Known>,
}

/// Node of a holder.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) data_plane: String,
    pub(super) retired_at: Option<Time>,
}

/// Holders by the identifiers of their keys, as of one state of the table of nodes.
#[derive(Debug, Default)]
struct Kept {
    as_of: u64,
    holders: HashMap<String, Arc<Holder>>,
}

/// Holders that have called.
#[derive(Debug, Default)]
pub(in crate::controlplane) struct Holders(Mutex<Kept>);

impl Holders {
    fn get(&self, kid: &str, as_of: u64) -> Option<Arc<Holder>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.holders.get(kid).filter(|_| kept.as_of == as_of).cloned()
    }

    fn keep(&self, kid: &str, holder: &Arc<Holder>, as_of: u64) {
        // A poisoned lock is safe to use: an entry is whole or absent.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_of < as_of || kept.holders.len() >= KEPT {
            *kept = Kept { as_of, holders: HashMap::new() };
        }
        if kept.as_of == as_of {
            kept.holders.insert(kid.to_owned(), Arc::clone(holder));
        }
    }
}

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
