//! Alarms: what must not happen, and did. Remembered for `status`, counted for metrics, told to the log at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::protocol::time::Time;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// Something signed was not what it should be, or not signed by whom it should be.
    Refused,
    /// An older head than the one proved.
    Rollback,
    /// Two heads that contradict each other.
    Fork,
    /// Changes that do not follow the version held: the control plane has another history, as after a restore.
    History,
    /// A head past its lifetime: the feed is frozen.
    Frozen,
    /// A signed change of what may never change.
    Invariant,
    /// The clock, or what was signed in its future.
    Clock,
    /// A database could not be believed and was moved aside.
    Damaged,
    /// Events can't be recorded, or not be dropped.
    AuditFailing,
    /// This node was retired.
    Retired,
    /// Another host has the identity of this one.
    SharedIdentity,
}

impl AlarmKind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Self; 11] = [
        Self::Refused,
        Self::Rollback,
        Self::Fork,
        Self::History,
        Self::Frozen,
        Self::Invariant,
        Self::Clock,
        Self::Damaged,
        Self::AuditFailing,
        Self::Retired,
        Self::SharedIdentity,
    ];

    /// The kind as it stands in metrics.
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
            Self::AuditFailing => "audit_failing",
            Self::Retired => "retired",
            Self::SharedIdentity => "shared_identity",
        }
    }
}

/// One alarm.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// When it last happened.
    pub time: Time,
    /// What kind of thing.
    pub kind: AlarmKind,
    /// What, in a sentence.
    pub what: String,
    /// How often in a row.
    pub times: u64,
    /// Its place among all alarms since the start, the last time it was raised. It tells the order though a clock was moved.
    #[serde(skip)]
    pub number: u64,
}

/// Alarms that are remembered.
const REMEMBERED: usize = 32;

/// The alarms since the start.
#[derive(Debug, Default)]
pub struct Alarms {
    latest: Mutex<VecDeque<Alarm>>,
    counts: [AtomicU64; AlarmKind::ALL.len()],
}

impl Alarms {
    /// Raises one.
    pub fn raise(&self, kind: AlarmKind, what: &str, now: Time) {
        tracing::error!(alarm = kind.as_str(), "{what}");
        self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.raised();
        match latest.back_mut().filter(|last| last.kind == kind && last.what == what) {
            Some(last) => (last.time, last.times, last.number) = (now, last.times + 1, number),
            None => latest.push_back(Alarm { time: now, kind, what: what.to_owned(), times: 1, number }),
        }
        if latest.len() > REMEMBERED {
            latest.pop_front();
        }
    }

    /// The latest ones, oldest first.
    #[must_use]
    pub fn latest(&self) -> Vec<Alarm> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How many there were in all.
    #[must_use]
    pub fn raised(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// How many of a kind there were.
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
}
