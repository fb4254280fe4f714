//! Finds nodes that hold a later version than this control plane has published, which means that it was restored from a
//! backup. Such nodes reject every head it signs until `halligan-control recover` raises the version, so the first poll
//! of such a node is logged.

use rusqlite::OptionalExtension as _;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;

/// Data plane with at least one node that is ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodesAhead {
    /// Id of the data plane.
    pub data_plane: String,
    /// Number of nodes that are ahead.
    pub nodes: u64,
    /// Highest version that one of them holds.
    pub highest: u64,
    /// Version published by this control plane.
    pub version: u64,
}

impl ControlPlane {
    /// Compares the version that a node holds with the published one. Logs a node that is ahead once, and again when
    /// its version rises, at most every ten minutes.
    pub fn note_position(&self, data_plane: &str, node: &str, held: u64) -> Result<(), Error> {
        let version = self.version(data_plane)?;
        if held <= version {
            self.ahead.forget(data_plane, node);
        } else if self.ahead.remember(data_plane, node, held)
            && let Some(left_out) = self.complaints.due(node, "ahead", self.now())
        {
            tracing::error!(
                data_plane,
                node,
                held,
                version,
                left_out,
                "a node holds a later version of the replica than this control plane has published, and refuses what is \
                 published; if this database was restored from a backup, run `halligan-control recover --above {held}`"
            );
        }
        Ok(())
    }

    /// Lists the data planes that have nodes ahead at present.
    pub fn nodes_ahead(&self) -> Result<Vec<NodesAhead>, Error> {
        let ahead = self.ahead.all();
        if ahead.is_empty() {
            return Ok(Vec::new());
        }
        self.store.read(|connection| {
            let mut query = connection.prepare_cached("SELECT version FROM data_plane WHERE id = ?1")?;
            let mut planes = Vec::new();
            for (data_plane, nodes) in ahead {
                let version: Option<u64> = query.query_row([&data_plane], |row| row.get(0)).optional()?;
                let Some(version) = version else { continue };
                // A recovery or later changes may have raised the published version above the recorded one.
                let held: Vec<u64> = nodes.into_values().filter(|held| *held > version).collect();
                if let Some(&highest) = held.iter().max() {
                    planes.push(NodesAhead { data_plane, nodes: held.len() as u64, highest, version });
                }
            }
            Ok(planes)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::controlplane::test_world::World;

    #[test]
    fn a_retired_node_is_not_ahead_any_more() {
        let world = World::new();
        for node in ["nod_a", "nod_b"] {
            world.control.note_position("dpl_a", node, 9).unwrap();
        }
        let ahead = || world.control.nodes_ahead().unwrap().first().map(|plane| (plane.nodes, plane.highest));
        assert_eq!(ahead(), Some((2, 9)));
        world.control.retire_node(&world.owner, &world.owner.organization, "dpl_a", "nod_a").unwrap();
        assert_eq!(ahead(), Some((1, 9)));
        world.control.note_position("dpl_a", "nod_b", 0).unwrap();
        assert_eq!(ahead(), None);
    }

    #[test]
    fn a_database_that_cannot_be_read_is_not_ready() {
        let world = World::new();
        world.control.note_position("dpl_a", "nod_a", 9).unwrap();
        assert!(world.control.findings().iter().all(|finding| !finding.blocks));
        world.write("PRAGMA legacy_alter_table = ON; ALTER TABLE data_plane RENAME TO gone");
        let findings = world.control.findings();
        assert!(
            findings.iter().any(|finding| finding.blocks && finding.detail.contains("be read")),
            "{findings:?}"
        );
    }
}
