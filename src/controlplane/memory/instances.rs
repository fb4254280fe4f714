//! Instances of nodes. Each start of a daemon puts a new identifier into its proofs, so that two hosts with one
//! identity are detected.
//!
//! A daemon that restarts gets a new instance, and its former one never calls again. If a former instance calls after
//! its successor, both are running: the state directory was copied.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::protocol::time::Time;

/// Number of former instances stored per node.
const REMEMBERED: usize = 16;
/// Minimum time between two writes of the same shared identity, in seconds.
const WRITE_INTERVAL: i64 = 10;

#[derive(Debug)]
struct Known {
    current: String,
    former: VecDeque<String>,
    written: Option<Time>,
}

/// Instances of every node since the start of the control plane.
#[derive(Debug, Default)]
pub(in crate::controlplane) struct Instances(Mutex<HashMap<String, Known>>);

impl Instances {
    /// Records a call of a node's instance. Returns true if two instances call alternately and this finding must be
    /// written.
    pub(in crate::controlplane) fn note(&self, node: &str, instance: &str, now: Time) -> bool {
        // A poisoned lock is safe to use: a panic loses at most one call.
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
