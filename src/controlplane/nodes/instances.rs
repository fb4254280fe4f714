//! Nodes whose identity two hosts use: finds them by their instances, and stores that for the node list.

use rusqlite::params;

use crate::controlplane::ControlPlane;

/// Time for which a node is shown as shared after a former instance last called, in seconds.
pub(in crate::controlplane) const SHOWN: i64 = 3600;

impl ControlPlane {
    /// Records the instance that a node called with. If two instances call alternately, writes that to the node's row.
    pub(in crate::controlplane) fn note_instance(&self, node: &str, instance: &str) {
        let now = self.now();
        if !self.instances.note(node, instance, now) {
            return;
        }
        if let Some(left_out) = self.complaints.due(node, "shared identity", now) {
            tracing::error!(
                node,
                left_out,
                "two daemons call as this node: its state directory was copied; run `halligand new-identity` on the copy"
            );
        }
        let written = self.store.note(|transaction| {
            let update = "UPDATE node SET shared_at = ?2 WHERE id = ?1";
            transaction.execute(update, params![node, now.unix()])?;
            Ok(true)
        });
        self.bookkeeping.settle("a shared identity", written);
    }
}
