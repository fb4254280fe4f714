//! Nodes that hold a later version than this control plane has published: it was restored from a backup. Nodes refuse what it
//! publishes until `halligan-control recover` lets it go on above them, so its operators are told at the first poll.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::ControlPlane;
use super::error::Error;

/// A data plane some of whose nodes are ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodesAhead {
    /// The data plane.
    pub data_plane: String,
    /// How many nodes are ahead.
    pub nodes: u64,
    /// The highest version one of them holds.
    pub highest: u64,
    /// The version published here.
    pub version: u64,
}

impl std::fmt::Display for NodesAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { data_plane, nodes, highest, version } = self;
        write!(
            f,
            "{nodes} node(s) of data plane {data_plane} hold versions up to {highest}, above version {version} published here, and \
             refuse what is published: if this database was restored from a backup, run `halligan-control recover --above \
             {highest}`"
        )
    }
}

/// The version that each node which is ahead held when it last asked, by data plane and node.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<BTreeMap<(String, String), u64>>);

impl ControlPlane {
    /// Compares the version that a node says it holds with the one published, and logs a node that is ahead: once, and again
    /// when it has a higher version.
    pub fn note_position(&self, data_plane: &str, node: &str, held: u64) -> Result<(), Error> {
        let version = self.version(data_plane)?;
        let mut ahead = self.ahead.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (data_plane.to_owned(), node.to_owned());
        if held <= version {
            ahead.remove(&place);
            return Ok(());
        }
        if ahead.insert(place, held).is_none_or(|before| before < held) {
            tracing::error!(
                data_plane,
                node,
                held,
                version,
                "a node holds a later version of the replica than this control plane has published, and refuses what is \
                 published; if this database was restored from a backup, run `halligan-control recover --above {held}`"
            );
        }
        Ok(())
    }

    /// The data planes with nodes that are ahead now.
    pub fn nodes_ahead(&self) -> Result<Vec<NodesAhead>, Error> {
        let mut ahead = self.ahead.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut planes: BTreeMap<String, NodesAhead> = BTreeMap::new();
        while let Some(((data_plane, _), held)) = ahead.pop_first() {
            let version = match self.version(&data_plane) {
                Ok(version) => version,
                Err(Error::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            // A recovery or later changes have passed what the node held.
            if held > version {
                let none = NodesAhead { data_plane: data_plane.clone(), nodes: 0, highest: 0, version };
                let plane = planes.entry(data_plane).or_insert(none);
                (plane.nodes, plane.highest) = (plane.nodes + 1, plane.highest.max(held));
            }
        }
        Ok(planes.into_values().collect())
    }
}
