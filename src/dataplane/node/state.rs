//! State that request handlers read while sync writes it: the snapshot in force, and the state of the connection to the
//! control plane.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::alarm::{AlarmKind, Alarms};
use super::connection::{Progress, State};
use super::membership::Membership;
use crate::dataplane::decide::HeadAge;
use crate::dataplane::decide::Now;
use crate::dataplane::decide::snapshot::{Local, Snapshot};
use crate::protocol::ends::End;
use crate::protocol::event::Connectivity;
use crate::protocol::time::Time;

/// State of the connection to the control plane.
#[derive(Clone, Debug)]
pub struct Standing {
    /// State of sync, with its history.
    pub progress: Progress,
    /// Time at which the last answer was verified and put in force.
    pub last_renewal: Option<Time>,
    /// Last error, as a sentence.
    pub last_error: Option<String>,
    /// Time of the next attempt, or `None` while an answer is awaited.
    pub next_attempt: Option<Time>,
}

/// Replica on the disk. All of it was read and verified, and only verified changes were written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// Version of the replica.
    pub version: u64,
    /// Time at which all of it was last read and verified.
    pub proved_at: Time,
}

/// State that all parts of a daemon share.
pub struct Live {
    snapshot: ArcSwap<Snapshot>,
    standing: Mutex<Standing>,
    floor: AtomicI64,
    /// Number of times that the floor was lowered, and the last value. The lock is held while it is lowered, so that a
    /// floor computed before does not undo the change.
    taken_back: Mutex<(u64, Time)>,
    /// Age of a head, counted with the monotonic clock. It names its head, since a newer one may have come in force after
    /// the last count.
    counted: Mutex<Option<HeadAge>>,
    /// Held while a new snapshot is made from the one in force, so that no concurrent change is lost.
    replacing: Mutex<()>,
    online: AtomicU8,
    persisted: Mutex<Option<Persisted>>,
    /// Known expiries, except the keyset's.
    ends: Mutex<Vec<End>>,
    /// Membership of the node: retirement, and shared identity.
    pub membership: Membership,
    damage: Mutex<BTreeMap<&'static str, Vec<Damage>>>,
    /// Alarms since the start.
    pub alarms: Alarms,
}

/// Damage of this host's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Sentence for unauthenticated readers. It names no token, so that it does not show who has access.
    pub public: String,
    /// Sentence for operators: what is damaged, and what to do.
    pub full: String,
}

impl Live {
    /// Returns the state at the start, with the snapshot loaded from the disk.
    #[must_use]
    pub fn new(snapshot: Snapshot, floor: Time, now: Time) -> Self {
        let progress = Progress::new(now);
        let online = AtomicU8::new(progress.connectivity as u8);
        let standing = Standing { progress, last_renewal: None, last_error: None, next_attempt: None };
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            standing: Mutex::new(standing),
            floor: AtomicI64::new(floor.unix()),
            taken_back: Mutex::default(),
            counted: Mutex::default(),
            replacing: Mutex::default(),
            online,
            persisted: Mutex::default(),
            ends: Mutex::default(),
            membership: Membership::default(),
            damage: Mutex::default(),
            alarms: Alarms::default(),
        }
    }

    /// Returns the snapshot in force.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Replaces the replica and raises the time floor to its head. The local state stays.
    pub fn replace(&self, make: impl FnOnce(&Snapshot) -> Snapshot) {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot.load();
        let snapshot = make(&before);
        // Only a head that is new here raises the floor: the floor may have been lowered since this one came.
        if let Some(signed) = snapshot.signed_at()
            && snapshot.head() != before.head()
        {
            self.floor.fetch_max(signed.unix(), Ordering::Relaxed);
        }
        drop(before);
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Changes the local state.
    pub fn change_local(&self, change: impl FnOnce(&mut Local)) {
        self.replace(|snapshot| {
            let mut local = snapshot.local().clone();
            change(&mut local);
            snapshot.with_local(local)
        });
    }

    /// Returns `wall` together with the time floor.
    #[must_use]
    pub fn now(&self, wall: Time) -> Now {
        Now { wall, floor: Time::from_unix(self.floor.load(Ordering::Relaxed)) }
    }

    /// Returns the state of the connection to the control plane.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records the result of an attempt to reach the control plane: the state of sync, the error, and the pause before the
    /// next attempt.
    pub fn record_attempt(&self, progress: Progress, error: Option<String>, now: Time, pause: Duration) {
        let state = progress.state;
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if state != standing.progress.state {
            match (&error, state) {
                (None, _) => tracing::info!("the control plane answers; the replica is up to date"),
                (Some(error), State::Offline) => {
                    tracing::warn!(%error, "the control plane can't be reached; deciding with the last verified replica");
                }
                (Some(error), _) => {
                    tracing::warn!(state = state.as_str(), %error, "the replica can't be renewed; deciding with the last verified one");
                }
            }
        }
        self.online.store(progress.connectivity as u8, Ordering::Relaxed);
        let pause = i64::try_from(pause.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        *standing = Standing {
            progress,
            last_renewal: if error.is_none() { Some(now) } else { standing.last_renewal },
            next_attempt: error.is_some().then(|| now.plus(pause)),
            last_error: error,
        };
    }

    /// Returns the time at which the head in force expires.
    #[must_use]
    pub fn expires(&self) -> Option<Time> {
        self.snapshot.load().head().map(|head| head.head().exp)
    }

    /// Returns true if every request is denied because the replica is too old for every role.
    #[must_use]
    pub fn useless(&self, wall: Time) -> bool {
        let snapshot = self.snapshot.load();
        let freshness = snapshot.freshness(self.now(wall).effective());
        snapshot.denies_when_stale() && freshness.iter().all(|(_, freshness)| freshness.over())
    }

    /// Raises an alarm for unreadable records, unless the sentence is the same as `before`.
    pub fn alarm_unreadable(&self, before: Option<&str>, now: Time) {
        if let Some(what) = self.snapshot.load().unreadable().filter(|what| before != Some(what.as_str())) {
            self.alarms.raise(AlarmKind::Refused, &what, now);
        }
    }

    /// Records that the disk was read again and its content verified.
    pub fn persisted(&self, version: u64, now: Time) {
        *self.persisted.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Persisted { version, proved_at: now });
    }

    /// Records that a verified change to this version was written to a disk that was verified before.
    pub(in crate::dataplane) fn written(&self, version: u64) {
        if let Some(persisted) = self.persisted.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            persisted.version = version;
        }
    }

    /// Records that the disk was read again as a whole, and that it holds what was written to it.
    pub(in crate::dataplane) fn proved_again(&self, now: Time) {
        if let Some(persisted) = self.persisted.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            persisted.proved_at = now;
        }
    }

    /// Records that the disk holds nothing that can be verified.
    pub fn not_persisted(&self) {
        *self.persisted.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the verified content of the disk.
    #[must_use]
    pub fn on_disk(&self) -> Option<Persisted> {
        *self.persisted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the list of damages that `holder` reports.
    pub fn note_damage(&self, holder: &'static str, damage: Vec<Damage>) {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).insert(holder, damage);
    }

    /// Returns the damages of this host's files. The node decides from the readable rest.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        let damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        damage.values().flatten().cloned().collect()
    }

    /// Returns the connectivity without a lock that sync could hold.
    #[must_use]
    pub fn connectivity(&self) -> Connectivity {
        let known = [Connectivity::Connecting, Connectivity::Online, Connectivity::Offline];
        let now = self.online.load(Ordering::Relaxed);
        known.into_iter().find(|state| *state as u8 == now).unwrap_or(Connectivity::Connecting)
    }

    /// Raises the time floor. Returns its value.
    pub fn raise_floor(&self, time: Time) -> Time {
        Time::from_unix(self.floor.fetch_max(time.unix(), Ordering::Relaxed).max(time.unix()))
    }

    /// Raises the time floor, unless it was lowered more than `times` times: a floor that was computed before would undo that.
    pub fn raise_floor_unless_taken_back(&self, times: u64, time: Time) {
        let taken_back = self.taken_back.lock().unwrap_or_else(PoisonError::into_inner);
        if taken_back.0 == times {
            self.raise_floor(time);
        }
    }

    /// Returns the number of times that the floor was lowered, and the last value.
    #[must_use]
    pub fn taken_back(&self) -> (u64, Time) {
        *self.taken_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lowers the time floor to `to`, after `first` has made sure that no expired token becomes valid again.
    pub(in crate::dataplane) fn take_back_floor<T, E>(
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

    /// Replaces the known expiries, except the keyset's.
    pub fn set_ends(&self, ends: Vec<End>) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }

    /// Returns the known expiries: the keyset's and certificates' always, tokens' within the notice.
    #[must_use]
    pub fn ends(&self) -> Vec<End> {
        let others = self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.snapshot.load().keyset_end().into_iter().chain(others).collect()
    }

    /// Records the age of a head.
    pub(in crate::dataplane) fn note_age(&self, age: HeadAge) {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some(age);
    }

    /// Returns the age of the head in force. A head that came since the last count is new. Before the first count it is the
    /// age read from the disk.
    pub(in crate::dataplane) fn head_age(&self) -> Option<HeadAge> {
        let snapshot = self.snapshot.load();
        let head = snapshot.head()?.head();
        let counted = *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            [counted, snapshot.local().accepted].into_iter().flatten().find(|age| age.belongs_to(head));
        let signed = snapshot.local().signed_at(head);
        Some(HeadAge { signed, ..known.unwrap_or_else(|| HeadAge::just_arrived(head)) })
    }
}
