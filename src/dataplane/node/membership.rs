//! Membership of the node in its data plane: its retirement, and other hosts with its identity.
//!
//! No decision about a request depends on it. A retired node continues with its verified replica, like a node in an outage,
//! until the staleness policy denies its requests. Otherwise one unsigned answer could stop a host.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::alarm::{AlarmKind, Alarms};
use crate::protocol::time::Time;

/// Seconds for which another host under this identity counts as present.
const SEEN: i64 = 3600;

/// Facts about the node's membership: retired or not, and the only host of its identity or not.
#[derive(Debug, Default)]
pub struct Membership(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Answer of the control plane to a retired node.
    reported_retired: Option<String>,
    /// Time at which the node was retired, by its own record in the replica.
    recorded_retired: Option<Time>,
    /// True if the control plane receives calls of two daemons under this identity.
    reported_shared: bool,
    /// Time at which another host last answered or called under this identity.
    seen_shared: Option<Time>,
}

impl Known {
    fn retired(&self) -> Option<String> {
        self.reported_retired.clone().or_else(|| self.recorded_retired.map(recorded))
    }

    fn shared(&self, now: Time) -> bool {
        self.reported_shared || self.seen_shared.is_some_and(|at| now.since(at) < SEEN)
    }
}

impl Membership {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // A poisoned lock is safe to use: every change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the control plane accepts this node.
    pub fn accepted(&self) {
        self.lock().reported_retired = None;
    }

    /// Records that the control plane states this node's retirement.
    pub fn refused(&self, detail: &str, alarms: &Alarms, now: Time) {
        self.change_retired(alarms, now, |known| known.reported_retired = Some(detail.to_owned()));
    }

    /// Records the retirement time in the replica's record of this node.
    pub fn record_says(&self, retired_at: Option<Time>, alarms: &Alarms, now: Time) {
        self.change_retired(alarms, now, |known| known.recorded_retired = retired_at);
    }

    fn change_retired(&self, alarms: &Alarms, now: Time, change: impl FnOnce(&mut Known)) {
        let (before, after) = {
            let mut known = self.lock();
            let before = known.retired();
            change(&mut known);
            (before, known.retired())
        };
        if let (None, Some(why)) = (before, after) {
            raise_retired(alarms, &why, now);
        }
    }

    /// Returns the reason why the node counts as retired, or `None` if it does not.
    #[must_use]
    pub fn retired(&self) -> Option<String> {
        self.lock().retired()
    }

    /// Records whether the control plane receives calls of two daemons under this identity.
    pub fn record_shared(&self, shared: bool, alarms: &Alarms, now: Time) {
        let who = "the control plane receives calls of two daemons under this node's identity";
        self.change_shared(who, alarms, now, |known| known.reported_shared = shared);
    }

    /// Records that another daemon proved to hold this node's key. `who` describes it in the alarm.
    pub fn met_itself(&self, who: &str, alarms: &Alarms, now: Time) {
        let what = format!("{who} has this node's key, and is another daemon");
        self.change_shared(&what, alarms, now, |known| known.seen_shared = Some(now));
    }

    fn change_shared(&self, who: &str, alarms: &Alarms, now: Time, change: impl FnOnce(&mut Known)) {
        let (before, after) = {
            let mut known = self.lock();
            let before = known.shared(now);
            change(&mut known);
            (before, known.shared(now))
        };
        if after && !before {
            let what = format!(
                "{who}: another host has the identity of this one, since its state directory was copied; run \
                 `halligand new-identity` on the copy"
            );
            alarms.raise(AlarmKind::SharedIdentity, &what, now);
        }
    }

    /// Returns true if another host has this identity.
    #[must_use]
    pub fn shared(&self, now: Time) -> bool {
        self.lock().shared(now)
    }
}

fn recorded(at: Time) -> String {
    format!("its record in the replica says that it was retired at {at}")
}

fn raise_retired(alarms: &Alarms, why: &str, now: Time) {
    let what = format!(
        "this node was retired ({why}): it receives no more changes from its control plane, and denies every request once its \
         replica is older than the staleness policy allows; run `halligand new-identity` to enrol it again, or remove the daemon"
    );
    alarms.raise(AlarmKind::Retired, &what, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_unix(1_800_000_000);

    #[test]
    fn one_retirement_is_one_alarm_whoever_tells_of_it_and_ends_when_the_node_is_taken_again() {
        let (membership, alarms) = (Membership::default(), Alarms::default());
        let count = || alarms.count(AlarmKind::Retired);
        membership.record_says(None, &alarms, NOW);
        assert_eq!((membership.retired(), count()), (None, 0));
        for _ in 0..3 {
            membership.refused("node nod_a was retired", &alarms, NOW);
            membership.record_says(Some(NOW), &alarms, NOW);
        }
        assert_eq!(count(), 1);
        membership.accepted();
        assert!(membership.retired().is_some(), "its record says so still");
        membership.record_says(None, &alarms, NOW);
        assert_eq!(membership.retired(), None);
        membership.refused("node nod_a was retired", &alarms, NOW);
        assert_eq!(count(), 2);
    }

    #[test]
    fn one_copy_is_one_alarm_while_it_is_heard_of() {
        let (membership, alarms) = (Membership::default(), Alarms::default());
        for second in 0..3 {
            membership.record_shared(true, &alarms, NOW);
            membership.met_itself("http://10.0.0.7:8182", &alarms, NOW.plus(second));
        }
        membership.record_shared(false, &alarms, NOW.plus(3));
        assert!(membership.shared(NOW.plus(4)), "a peer still is this node");
        assert_eq!(alarms.count(AlarmKind::SharedIdentity), 1);
        assert!(!membership.shared(NOW.plus(SEEN + 3)));
    }
}
