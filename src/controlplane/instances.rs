//! Instances of nodes: each start of a daemon names itself anew in the proofs it makes, so that two hosts that share one
//! identity are told apart.
//!
//! A daemon that restarts is followed by another instance and never heard of again. An instance that is heard after its
//! successor runs beside it: the state directory was copied.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use rusqlite::params;

use super::ControlPlane;
use crate::protocol::time::Time;

/// Former instances of a node that are remembered.
const REMEMBERED: usize = 16;
/// The longest name of an instance that is remembered, in bytes.
const MAX_NAME: usize = 64;
/// Seconds between two writes of the same finding.
const WRITE_INTERVAL: i64 = 10;
/// For how long a node counts as shared after its instances were last heard in turn, in seconds.
pub(super) const SHOWN: i64 = 3600;

#[derive(Debug)]
struct Known {
    current: String,
    former: VecDeque<String>,
    written: Option<Time>,
}

/// The instances of every node, since the start of the control plane.
#[derive(Debug, Default)]
pub(super) struct Instances(Mutex<HashMap<String, Known>>);

impl Instances {
    /// Notes a call of a node's instance. Returns whether the finding that two instances take turns is to be written.
    fn note(&self, node: &str, instance: &str, now: Time) -> bool {
        // It only remembers: after a panic it has forgotten one call.
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = nodes.get_mut(node) else {
            let known = Known { current: instance.into(), former: VecDeque::new(), written: None };
            nodes.insert(node.into(), known);
            return false;
        };
        if known.current == instance {
            return false;
        }
        let returned = known.former.iter().any(|former| former == instance);
        known.former.retain(|former| former != instance);
        known.former.push_front(std::mem::replace(&mut known.current, instance.into()));
        known.former.truncate(REMEMBERED);
        let due = returned && known.written.is_none_or(|at| now.since(at) >= WRITE_INTERVAL);
        if due {
            known.written = Some(now);
        }
        due
    }
}

impl ControlPlane {
    /// Notes which instance of a node called, and writes down that two of them take turns.
    pub(super) fn note_instance(&self, node: &str, instance: &str) {
        let now = self.now();
        if instance.len() > MAX_NAME || !self.instances.note(node, instance, now) {
            return;
        }
        tracing::error!(
            node,
            "two daemons call as this node: its state directory was copied; run `halligand new-identity` on the copy"
        );
        let written = self.store.note(|transaction| {
            let update = "UPDATE node SET shared_at = ?2 WHERE id = ?1";
            transaction.execute(update, params![node, now.unix()])?;
            Ok(true)
        });
        self.bookkeeping.settle("a shared identity", written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time::from_unix(second)
    }

    #[test]
    fn restarts_are_no_second_host_and_an_instance_that_returns_is() {
        let instances = Instances::default();
        for (second, instance) in (0..).zip(["a", "a", "b", "c", "c", "d"]) {
            assert!(!instances.note("nod_a", instance, at(second)), "{instance}");
        }
        assert!(!instances.note("nod_b", "a", at(7)), "another node");
        assert!(instances.note("nod_a", "b", at(8)), "an instance of before its successors");
        assert!(!instances.note("nod_a", "d", at(9)), "written a moment ago");
        assert!(instances.note("nod_a", "b", at(8 + WRITE_INTERVAL)));
        assert!(!instances.note("nod_a", "b", at(100)), "the copy is gone");
    }

    #[test]
    fn a_node_that_restarts_without_end_takes_no_more_room() {
        let instances = Instances::default();
        for number in 0..1000 {
            assert!(!instances.note("nod_a", &number.to_string(), at(number)));
        }
        assert_eq!(
            instances.0.lock().unwrap_or_else(PoisonError::into_inner)["nod_a"].former.len(),
            REMEMBERED
        );
    }
}
