//! What the faces read while the sync writes: the snapshot in force, and how the node stands with its control plane.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;

use super::alarm::{AlarmKind, Alarms};
use super::decide::Now;
use super::membership::Membership;
use super::snapshot::{Local, Snapshot};
use super::store::HeadAge;
use super::sync::state::{Progress, State};
use crate::protocol::ends::End;
use crate::protocol::event::Connectivity;
use crate::protocol::time::Time;

/// The node's standing with its control plane.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// The state of sync.
    pub state: State,
    /// Since when.
    pub since: Time,
    /// Whether the control plane can be reached, as events tell it.
    pub connectivity: Connectivity,
    /// Since when.
    pub connectivity_since: Time,
    /// When its last answer arrived.
    pub last_contact: Option<Time>,
    /// When what it says was last proved and in force.
    pub last_renewal: Option<Time>,
    /// What went wrong last, in a sentence.
    pub last_error: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// When it is asked again; none while an answer is awaited.
    pub next_attempt: Option<Time>,
}

/// What the disk was read to hold, after it was last written: proved anew, byte for byte as it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Persisted {
    /// The version.
    pub version: u64,
    /// When it was read and proved.
    pub proved_at: Time,
}

/// Shared by all parts of a daemon.
pub struct Live {
    snapshot: ArcSwap<Snapshot>,
    standing: Mutex<Standing>,
    floor: AtomicI64,
    /// How often the floor was taken back, and to when. Locked while it is, so that a floor computed before that does not undo
    /// it.
    taken_back: Mutex<(u64, Time)>,
    /// How long a head has been held, as far as a clock nobody can set has counted it. It names its head, since another one
    /// may have come in force since the last count.
    counted: Mutex<Option<HeadAge>>,
    /// Held by whoever makes a new snapshot from the one in force, so that none is lost between two.
    replacing: Mutex<()>,
    online: AtomicU8,
    persisted: Mutex<Option<Persisted>>,
    /// What is known to end, besides the keyset.
    ends: Mutex<Vec<End>>,
    /// Whether the node is still one of its data plane, and the only host of its identity.
    pub membership: Membership,
    damage: Mutex<BTreeMap<&'static str, Vec<Damage>>>,
    /// What must not happen, and did.
    pub alarms: Alarms,
}

/// Damage in what this host keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// A sentence for everybody: it names no token, so whoever reads it learns nothing of who has access.
    pub public: String,
    /// A sentence for operators: what it is about, and what to do.
    pub full: String,
}

impl Live {
    /// Begins with what was loaded from disk.
    #[must_use]
    pub fn new(snapshot: Snapshot, floor: Time, now: Time) -> Self {
        let standing = Standing {
            state: State::Connecting,
            since: now,
            connectivity: Connectivity::Connecting,
            connectivity_since: now,
            last_contact: None,
            last_renewal: None,
            last_error: None,
            failures: 0,
            next_attempt: None,
        };
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            standing: Mutex::new(standing),
            floor: AtomicI64::new(floor.unix()),
            taken_back: Mutex::default(),
            counted: Mutex::default(),
            replacing: Mutex::default(),
            online: AtomicU8::new(Connectivity::Connecting as u8),
            persisted: Mutex::default(),
            ends: Mutex::default(),
            membership: Membership::default(),
            damage: Mutex::default(),
            alarms: Alarms::default(),
        }
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Puts another replica in force, and moves the time floor up to its head. What is this node's own stays.
    pub fn replace(&self, make: impl FnOnce(&Snapshot) -> Snapshot) {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot.load();
        let snapshot = make(&before);
        // Only a head that is new here says anything about the time: the floor may have been taken back behind this one.
        if let Some(signed) = snapshot.signed_at()
            && snapshot.head() != before.head()
        {
            self.floor.fetch_max(signed.unix(), Ordering::Relaxed);
        }
        drop(before);
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Changes what is this node's own.
    pub fn change_local(&self, change: impl FnOnce(&mut Local)) {
        self.replace(|snapshot| {
            let mut local = snapshot.local().clone();
            change(&mut local);
            snapshot.with_local(local)
        });
    }

    /// The time by `wall`, and what is known to have passed.
    #[must_use]
    pub fn now(&self, wall: Time) -> Now {
        Now { wall, floor: Time::from_unix(self.floor.load(Ordering::Relaxed)) }
    }

    /// The node's standing.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came of an attempt to reach the control plane: where sync stands now, what went wrong, and how long it rests.
    pub fn stand(&self, progress: Progress, error: Option<String>, now: Time, pause: Duration) {
        let Progress { state, since, connectivity, connectivity_since, failures, answered } = progress;
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if state != standing.state {
            match (&error, state) {
                (None, _) => tracing::info!("the control plane answers; the replica is live"),
                (Some(error), State::Offline) => {
                    tracing::warn!(%error, "the control plane can't be reached; deciding alone");
                }
                (Some(error), _) => {
                    tracing::warn!(state = state.as_str(), %error, "the replica is not renewed");
                }
            }
        }
        self.online.store(connectivity as u8, Ordering::Relaxed);
        let pause = i64::try_from(pause.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        *standing = Standing {
            state,
            since,
            connectivity,
            connectivity_since,
            last_contact: answered,
            last_renewal: if error.is_none() { Some(now) } else { standing.last_renewal },
            next_attempt: error.is_some().then(|| now.plus(pause)),
            last_error: error,
            failures,
        };
    }

    /// When the head in force is past its lifetime.
    #[must_use]
    pub fn expires(&self) -> Option<Time> {
        self.snapshot.load().head().map(|head| head.head().exp)
    }

    /// Whether the replica is older than any role may rest on, and denied for it.
    #[must_use]
    pub fn useless(&self, wall: Time) -> bool {
        let snapshot = self.snapshot.load();
        let freshness = snapshot.freshness(self.now(wall).effective());
        snapshot.denies_when_stale() && freshness.iter().all(|(_, freshness)| freshness.over())
    }

    /// Raises an alarm for records that can't be read, unless they were the same `before`.
    pub fn alarm_unreadable(&self, before: Option<&str>, now: Time) {
        if let Some(what) = self.snapshot.load().unreadable().filter(|what| before != Some(what.as_str())) {
            self.alarms.raise(AlarmKind::Refused, &what, now);
        }
    }

    /// The disk was read anew, and what it holds was proved.
    pub fn persisted(&self, version: u64, now: Time) {
        *self.persisted.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Persisted { version, proved_at: now });
    }

    /// The disk holds nothing that could be proved.
    pub fn not_persisted(&self) {
        *self.persisted.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the disk holds for sure.
    #[must_use]
    pub fn on_disk(&self) -> Option<Persisted> {
        *self.persisted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is damaged now in what `holder` keeps.
    pub fn note_damage(&self, holder: &'static str, damage: Vec<Damage>) {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).insert(holder, damage);
    }

    /// What is damaged in what this host keeps, though it decides by it as far as it can be read.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        let damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        damage.values().flatten().cloned().collect()
    }

    /// Whether the control plane can be reached, without waiting for whoever finds out.
    #[must_use]
    pub fn connectivity(&self) -> Connectivity {
        let known = [Connectivity::Connecting, Connectivity::Online, Connectivity::Offline];
        let now = self.online.load(Ordering::Relaxed);
        known.into_iter().find(|state| *state as u8 == now).unwrap_or(Connectivity::Connecting)
    }

    /// Moves the time floor up; returns where it stands.
    pub fn raise_floor(&self, time: Time) -> Time {
        Time::from_unix(self.floor.fetch_max(time.unix(), Ordering::Relaxed).max(time.unix()))
    }

    /// Moves the time floor up, unless it was taken back more than `times` times: a floor computed before that would undo it.
    pub fn raise_floor_unless_taken_back(&self, times: u64, time: Time) {
        let taken_back = self.taken_back.lock().unwrap_or_else(PoisonError::into_inner);
        if taken_back.0 == times {
            self.raise_floor(time);
        }
    }

    /// How often the time floor was taken back, and to when the last time.
    #[must_use]
    pub fn taken_back(&self) -> (u64, Time) {
        *self.taken_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the time floor back to `to` once `first` has made sure that nothing revives by that.
    pub(super) fn take_back_floor<T, E>(
        &self,
        to: Time,
        first: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut taken_back = self.taken_back.lock().unwrap_or_else(PoisonError::into_inner);
        let done = first()?;
        *taken_back = (taken_back.0 + 1, to);
        self.floor.store(to.unix(), Ordering::Relaxed);
        Ok(done)
    }

    /// Keeps what is known to end, besides the keyset.
    pub fn set_ends(&self, ends: Vec<End>) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }

    /// What is known to end: the keyset and certificates whenever that is, tokens within the notice.
    #[must_use]
    pub fn ends(&self) -> Vec<End> {
        let others = self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.snapshot.load().keyset_end().into_iter().chain(others).collect()
    }

    /// Notes for how long a head has been held.
    pub(super) fn note_age(&self, age: HeadAge) {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some(age);
    }

    /// Returns the age of the head in force. One that has come since the last count is new; before the first count, the age
    /// that was read from the disk is the last one.
    pub(super) fn head_age(&self) -> Option<HeadAge> {
        let snapshot = self.snapshot.load();
        let head = snapshot.head()?.head();
        let counted = *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let known = [counted, snapshot.local().accepted].into_iter().flatten().find(|age| age.is_of(head));
        let signed = snapshot.local().signed_at(head);
        Some(HeadAge { signed, ..known.unwrap_or_else(|| HeadAge::of(head)) })
    }
}
