//! Alarms: events that should never happen. `status` shows them, metrics count them, and each is logged at once. One that is
//! raised at every poll is logged once an hour.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::protocol::time::Time;

/// Kind of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmKind {
    /// A signed object is invalid, or has the wrong signer.
    Refused,
    /// A head is older than the verified one.
    Rollback,
    /// Two heads or keysets contradict each other.
    Fork,
    /// Changes do not follow the version held: the control plane has another history, as after a restore.
    History,
    /// A head has expired: the feed is frozen.
    Frozen,
    /// A signed record changes a member that must never change.
    Invariant,
    /// The clock is wrong, or an object was signed in its future.
    Clock,
    /// A database, or the file of ended sessions, could not be verified and was moved aside; or the environment or the code
    /// of a deployment could not be verified or written.
    Damaged,
    /// The replica's database no longer holds what was written to it.
    ReplicaDamaged,
    /// Events cannot be recorded, or old ones cannot be dropped.
    AuditFailing,
    /// This node was retired.
    Retired,
    /// Another host has the identity of this one.
    SharedIdentity,
}

impl AlarmKind {
    /// All kinds, in the order of the declaration.
    pub const ALL: [Self; 12] = [
        Self::Refused,
        Self::Rollback,
        Self::Fork,
        Self::History,
        Self::Frozen,
        Self::Invariant,
        Self::Clock,
        Self::Damaged,
        Self::ReplicaDamaged,
        Self::AuditFailing,
        Self::Retired,
        Self::SharedIdentity,
    ];

    /// Returns the kind's value in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Rollback => "rollback",
            Self::Fork => "fork",
            Self::History => "history",
            Self::Frozen => "frozen",
            Self::Invariant => "invariant",
            Self::Clock => "clock",
            Self::Damaged => "damaged",
            Self::ReplicaDamaged => "replica_damaged",
            Self::AuditFailing => "audit_failing",
            Self::Retired => "retired",
            Self::SharedIdentity => "shared_identity",
        }
    }
}

/// Alarm with its last occurrence.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// Time of the last occurrence.
    pub time: Time,
    /// Kind of the alarm.
    pub kind: AlarmKind,
    /// Description, as a sentence.
    pub what: String,
    /// Number of occurrences since it is kept.
    pub times: u64,
    /// Number of the last occurrence among all alarms since the start. Alarms are sorted by it, since the clock may be set back.
    pub number: u64,
}

/// Maximum number of alarms that are kept.
const REMEMBERED: usize = 32;
/// Seconds after which an alarm that is raised again and again is logged again.
const LOGGED_AGAIN: i64 = 3_600;

/// Alarm, and when it was last logged.
#[derive(Debug)]
struct Kept {
    alarm: Alarm,
    logged: Time,
}

/// Alarms since the start.
#[derive(Debug, Default)]
pub struct Alarms {
    latest: Mutex<VecDeque<Kept>>,
    counts: [AtomicU64; AlarmKind::ALL.len()],
}

impl Alarms {
    /// Raises an alarm. One that is kept already is counted, and becomes the latest.
    pub fn raise(&self, kind: AlarmKind, what: &str, now: Time) {
        self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.raised();
        let same = latest.iter().position(|kept| kept.alarm.kind == kind && kept.alarm.what == what);
        let before = same.and_then(|index| latest.remove(index));
        // A clock that was set back must not silence an alarm.
        let logged =
            before.as_ref().map(|kept| kept.logged).filter(|at| (0..LOGGED_AGAIN).contains(&now.since(*at)));
        if logged.is_none() {
            tracing::error!(alarm = kind.as_str(), "{what}");
        } else {
            tracing::debug!(alarm = kind.as_str(), "{what}");
        }
        let times = before.map_or(0, |kept| kept.alarm.times) + 1;
        let alarm = Alarm { time: now, kind, what: what.to_owned(), times, number };
        latest.push_back(Kept { alarm, logged: logged.unwrap_or(now) });
        if latest.len() > REMEMBERED {
            latest.pop_front();
        }
    }

    /// Returns the latest alarms, oldest first.
    #[must_use]
    pub fn latest(&self) -> Vec<Alarm> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.iter().map(|kept| kept.alarm.clone()).collect()
    }

    /// Returns the number of all alarms since the start.
    #[must_use]
    pub fn raised(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Returns the number of alarms of a kind.
    #[must_use]
    pub fn count(&self, kind: AlarmKind) -> u64 {
        self.counts[kind as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_counted_and_not_listed_again() {
        let alarms = Alarms::default();
        for (number, kind) in AlarmKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            alarms.raise(kind, "it happened", Time::from_unix(1));
            alarms.raise(kind, "it happened", Time::from_unix(2));
            assert_eq!(alarms.count(kind), 2);
        }
        let latest = alarms.latest();
        assert_eq!(latest.len(), AlarmKind::ALL.len());
        assert!(latest.iter().all(|alarm| alarm.times == 2 && alarm.time == Time::from_unix(2)));
    }

    #[test]
    fn alarms_that_take_turns_are_logged_once_an_hour_and_displace_no_other() {
        let alarms = Alarms::default();
        let log = crate::platform::logging::captured(|| {
            alarms.raise(AlarmKind::Fork, "two heads", Time::from_unix(0));
            for poll in 0..2 * LOGGED_AGAIN {
                for (kind, what) in [(AlarmKind::Rollback, "an older head"), (AlarmKind::Invariant, "alive")]
                {
                    alarms.raise(kind, what, Time::from_unix(poll));
                }
            }
            alarms.raise(AlarmKind::Rollback, "an older head", Time::from_unix(-1));
        });
        let logged = |what: &str| log.lines().filter(|line| line.contains(what)).count();
        assert_eq!((logged("two heads"), logged("an older head"), logged("alive")), (1, 3, 2), "{log}");
        let latest = alarms.latest();
        let kept: Vec<_> = latest.iter().map(|alarm| (alarm.kind, alarm.times)).collect();
        let polls = 2 * LOGGED_AGAIN.unsigned_abs();
        assert_eq!(
            kept,
            [(AlarmKind::Fork, 1), (AlarmKind::Invariant, polls), (AlarmKind::Rollback, polls + 1)]
        );
        assert!(latest.is_sorted_by_key(|alarm| alarm.number));
        assert_eq!(alarms.count(AlarmKind::Rollback), polls + 1);
    }
}
