//! Log lines about faults that last. Nodes and others may call at any rate, so such a fault must not be logged at each call.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::protocol::time::Time;

/// Minimum time between two lines about one fault of one node, in seconds.
const INTERVAL: i64 = 600;

#[derive(Debug)]
struct Logged {
    at: Time,
    left_out: u64,
}

/// Times at which faults were last logged, by node and fault; those of the control plane itself are under no node. Its size is
/// limited by the number of enrolled nodes.
#[derive(Debug, Default)]
pub(in crate::controlplane) struct Complaints(Mutex<HashMap<(String, &'static str), Logged>>);

impl Complaints {
    /// Returns the number of lines that were left out since the last one, or `None` if a line about this fault of the node is
    /// not due yet.
    pub(in crate::controlplane) fn due(&self, node: &str, fault: &'static str, now: Time) -> Option<u64> {
        // A poisoned lock is safe to use: a panic loses at most one line.
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = logged.get_mut(&(node.to_owned(), fault)) else {
            logged.insert((node.to_owned(), fault), Logged { at: now, left_out: 0 });
            return Some(0);
        };
        // A clock that was set back must not silence a fault.
        if (0..INTERVAL).contains(&now.since(last.at)) {
            last.left_out += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.left_out))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::controlplane::test_world::World;
    use crate::platform::logging::captured;
    use crate::protocol::membership::NodeStatement;

    #[test]
    fn a_fault_is_logged_every_ten_minutes_with_the_number_of_lines_left_out() {
        let (complaints, start) = (Complaints::default(), Time::from_unix(1_800_000_000));
        assert_eq!(complaints.due("nod_a", "checkpoint", start), Some(0));
        for second in 1..INTERVAL {
            assert_eq!(complaints.due("nod_a", "checkpoint", start.plus(second)), None);
        }
        assert_eq!(complaints.due("nod_a", "key", start.plus(1)), Some(0), "another fault");
        assert_eq!(complaints.due("nod_b", "checkpoint", start.plus(1)), Some(0), "another node");
        assert_eq!(complaints.due("nod_a", "checkpoint", start.plus(INTERVAL)), Some(599));
        assert_eq!(complaints.due("nod_a", "checkpoint", start.plus(2 * INTERVAL)), Some(0));
        assert_eq!(complaints.due("nod_a", "checkpoint", start), Some(0), "the clock was set back");
    }

    #[test]
    fn a_node_that_repeats_itself_does_not_fill_the_log() {
        let world = World::new();
        let log = captured(|| {
            for number in 0..50 {
                world.state(&NodeStatement {
                    checkpoint: Some("garbage".into()),
                    encryption_key: Some("garbage".into()),
                    ..NodeStatement::default()
                });
                world.control.note_position("dpl_a", "nod_a", 1000 + number).unwrap();
                for instance in ["one", "two"] {
                    world.control.note_instance("nod_a", instance);
                }
                world.later(10);
            }
        });
        for (message, lines) in [
            ("checkpoint is invalid", 1),
            ("encryption key is invalid", 1),
            ("a node holds a later version", 1),
            ("two daemons call as this node", 1),
        ] {
            assert_eq!(log.matches(message).count(), lines, "{message}: {log}");
        }
    }
}
