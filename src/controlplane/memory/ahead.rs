//! Nodes that hold a later version than this control plane has published, as of their last poll.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Versions held by the nodes that are ahead, as of their last poll; by data plane, then by node.
#[derive(Debug, Default)]
pub(in crate::controlplane) struct Ahead(Mutex<BTreeMap<String, BTreeMap<String, u64>>>);

impl Ahead {
    /// Records that a node is ahead. Returns true if no version as high was recorded for it.
    pub(in crate::controlplane) fn remember(&self, data_plane: &str, node: &str, held: u64) -> bool {
        let mut planes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let nodes = planes.entry(data_plane.to_owned()).or_default();
        nodes.insert(node.to_owned(), held).is_none_or(|before| before < held)
    }

    /// Removes a node that is no longer ahead, or that is retired and no longer polls.
    pub(in crate::controlplane) fn forget(&self, data_plane: &str, node: &str) {
        let mut planes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nodes) = planes.get_mut(data_plane) {
            nodes.remove(node);
            if nodes.is_empty() {
                planes.remove(data_plane);
            }
        }
    }

    /// Returns the versions of all nodes that are ahead; by data plane, then by node.
    pub(in crate::controlplane) fn all(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
