//! Proofs that nodes have used recently: a proof is valid for one call.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::protocol::node_proof::Seen;
use crate::protocol::time::Time;

/// Identifiers (`jti`, RFC 7519 section 4.1.7) of recent proofs, by node.
#[derive(Debug, Default)]
pub(in crate::controlplane) struct UsedProofs(Mutex<HashMap<String, Seen>>);

impl UsedProofs {
    /// Records a node's proof, which expires at `exp`. Returns false if it was used before.
    pub(in crate::controlplane) fn note(&self, node: &str, id: &str, exp: Time, now: Time) -> bool {
        // A poisoned lock is safe to use: a panic loses at most a recent entry.
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.entry(node.to_owned()).or_default().note(id, exp, now)
    }
}
