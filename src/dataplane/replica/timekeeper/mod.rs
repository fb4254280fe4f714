//! Time floor: a lower bound of the true time. It survives restarts, so that a clock that was set back makes no expired token valid.
//!
//! It rises with time. It falls in two cases only, because the clocks that raised it may have been wrong: a head that was
//! signed in answer to this node's own request agrees with the clock ([`Replication::apply_answer`]), or an administrator of
//! this host accepts the clock ([`Replication::accept_clock`]). Tokens that had expired by the floor stay expired.
//!
//! The wall clock raises the floor within limits: between two looks it must advance as far as the monotonic clock, within a tolerance.
//! A jump in either direction raises an alarm. A jump ahead raises the floor only by the time that passed, since a floor in the future
//! would deny every request until that time. The calculation does no I/O: each call gets both clocks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::replication::Replication;
use super::store::AHEAD;
use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::decide::{CLOCK_TOLERANCE, HeadAge, clocks_agree};
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::state::Live;
use crate::platform::clock::Clock;
use crate::platform::failing::Failing;
use crate::protocol::head::SignedHead;
use crate::protocol::time::Time;

/// Interval between two looks at the clocks.
const TICK: Duration = Duration::from_secs(1);

/// Jump of the wall clock against the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Seconds of the jump; negative if the clock went back.
    pub seconds: i64,
}

/// Result of a look at the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Time floor after the look.
    pub floor: Time,
    /// Value to store as the floor, if it must be raised.
    pub write: Option<Time>,
    /// Jump of the wall clock. It is reported once in each direction, until the clock agrees again or goes to the other side.
    pub jump: Option<Jump>,
}

/// Computes the time floor from the two clocks.
#[derive(Clone, Debug)]
pub struct Timekeeper {
    floor: Time,
    /// Time that has been reached, as far as known. After a start it may be behind the floor, because the stored floor is ahead.
    reached: Time,
    written: Time,
    /// Expected wall time, and the monotonic clock at that moment.
    anchor: (Time, Duration),
    /// Direction in which the wall clock is off by more than the tolerance: -1 behind, 1 ahead, 0 if it agrees.
    astray: i64,
}

impl Timekeeper {
    /// Begins with the stored floor and the present clocks. `horizon` limits how far the first look at the wall clock can
    /// raise the floor: after it no replica of this node is usable, so a floor beyond it would only do harm.
    #[must_use]
    pub fn new(written: Time, wall: Time, monotonic: Duration, horizon: Option<Time>) -> Self {
        let first = horizon.map_or(wall, |horizon| wall.min(horizon));
        let reached = first.max(written.plus(-AHEAD));
        Self { floor: written.max(first), reached, written, anchor: (reached, monotonic), astray: 0 }
    }

    /// Updates the floor from both clocks.
    pub fn look(&mut self, wall: Time, monotonic: Duration) -> Look {
        let (time, since) = self.anchor;
        let passed = monotonic.saturating_sub(since);
        let expected = time.plus(i64::try_from(passed.as_secs()).unwrap_or(i64::MAX));
        let off = wall.since(expected);
        let astray = if clocks_agree(off) { 0 } else { off.signum() };
        let jump = (astray != 0 && astray != self.astray).then_some(Jump { seconds: off });
        self.astray = astray;
        if astray != 0 {
            // The monotonic clock still proves that time has passed.
            self.reached = self.reached.max(expected);
        } else {
            self.reached = self.reached.max(wall);
            // The anchor follows the wall clock, so that small corrections by time synchronization do not add up to a jump.
            self.anchor = (wall, monotonic);
        }
        self.floor = self.floor.max(self.reached);
        // The stored value is ahead of the reached time, not of the floor: otherwise every start would raise the floor, and a
        // daemon that starts often would deny every request in the end.
        let write = (self.reached.plus(AHEAD / 2) > self.written).then(|| self.reached.plus(AHEAD));
        self.written = write.unwrap_or(self.written);
        Look { floor: self.floor, write, jump }
    }

    /// Lowers the floor to `to`, and trusts both clocks from this moment on.
    pub fn take_back(&mut self, to: Time, wall: Time, monotonic: Duration) {
        *self = Self { floor: to, reached: to, written: to, anchor: (wall, monotonic), astray: 0 };
    }

    /// Raises the floor to `signed`, the time of a head that was just verified. A wall clock that agrees with it is trusted.
    pub fn proved(&mut self, signed: Time, wall: Time, monotonic: Duration) {
        self.reached = self.reached.max(signed);
        self.floor = self.floor.max(signed);
        if clocks_agree(wall.since(signed)) && wall >= self.floor.plus(-CLOCK_TOLERANCE) {
            self.anchor = (wall, monotonic);
        }
    }
}

/// State of the check that runs once a second. Each look gets both clocks.
pub struct Watch {
    keeper: Timekeeper,
    /// Time from which the age of the newest head is computed.
    newest: Time,
    taken_back: u64,
    age: Option<HeadAge>,
    /// Monotonic time at which the count of the age began, and the age at that time in seconds.
    counted: (Duration, i64),
    doubt: bool,
    told: BTreeSet<(String, bool)>,
}

/// Actions that follow from a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Value to store as the floor.
    pub write: Option<Time>,
    /// Age of the head, to store with it.
    pub age: Option<HeadAge>,
    /// True if the clock has just come into doubt: sync should ask the control plane at once.
    pub doubt: bool,
}

impl Watch {
    /// Begins with the floor in force, the present clocks, and the stored age of the head.
    #[must_use]
    pub fn new(live: &Live, age: Option<HeadAge>, wall: Time, monotonic: Duration) -> Self {
        let horizon = live.snapshot().horizon();
        let floor = live.now(Time::default()).floor;
        let keeper = Timekeeper::new(floor, wall, monotonic, horizon);
        let (taken_back, newest) = (live.taken_back().0, Time::default());
        let counted = (monotonic, age.map_or(0, |age| age.held));
        Self { keeper, newest, taken_back, age, counted, doubt: false, told: BTreeSet::new() }
    }

    /// Looks at the clocks: updates the floor, and warns of a replica that grows too old.
    pub fn look(&mut self, live: &Live, wall: Time, monotonic: Duration) -> Found {
        let (times, to) = live.taken_back();
        if times != self.taken_back {
            (self.taken_back, self.newest) = (times, Time::default());
            self.keeper.take_back(to, wall, monotonic);
            // A doubt that ended and began again between two looks is a new one, worth a new request.
            self.doubt = false;
        }
        let snapshot = live.snapshot();
        if let Some(signed) = snapshot.signed_at().filter(|signed| *signed > self.newest) {
            self.newest = signed;
            self.keeper.proved(signed, wall, monotonic);
        }
        let look = self.keeper.look(wall, monotonic);
        live.raise_floor_unless_taken_back(self.taken_back, look.floor);
        if let Some(Jump { seconds }) = look.jump {
            let way = if seconds < 0 { "behind" } else { "ahead of" };
            let what = format!(
                "the clock went to {wall}, {} seconds {way} the time that passed",
                seconds.unsigned_abs()
            );
            live.alarms.raise(AlarmKind::Clock, &what, wall);
        }
        self.grow_older(live, &snapshot, monotonic);
        grow_old(live, wall, &mut self.told);
        let doubt = !live.now(wall).trusted();
        let before = std::mem::replace(&mut self.doubt, doubt);
        Found { write: look.write, age: look.write.and(self.age), doubt: doubt && !before }
    }

    /// Adds the passed time to the age of the head in force.
    fn grow_older(&mut self, live: &Live, snapshot: &Snapshot, monotonic: Duration) {
        let Some(head) = snapshot.head().map(SignedHead::head) else { return };
        if !self.age.is_some_and(|age| age.belongs_to(head)) {
            self.age = Some(HeadAge::just_arrived(head));
            self.counted = (monotonic, 0);
        }
        let (since, counted) = self.counted;
        let passed = i64::try_from(monotonic.saturating_sub(since).as_secs()).unwrap_or(i64::MAX);
        let seconds = counted.saturating_add(passed);
        let signed = snapshot.local().signed_at(head);
        let age = HeadAge { held: seconds, signed, ..HeadAge::just_arrived(head) };
        live.note_age(age);
        self.age = Some(age);
    }
}

/// Looks at the clocks once a second, until the task is dropped. `wake` makes sync ask the control plane at once.
pub async fn run(replication: Arc<Replication>, clock: Clock, wake: Arc<Notify>) {
    let started = Instant::now();
    // This is the stored age: it was read from the database when the replica was opened.
    let age = replication.live().snapshot().local().accepted;
    let mut watch = Watch::new(replication.live(), age, clock(), Duration::ZERO);
    let writing = Failing::default();
    loop {
        let Found { write, age, doubt } = watch.look(replication.live(), clock(), started.elapsed());
        if let Some(floor) = write {
            let store = Arc::clone(&replication);
            let written = tokio::task::spawn_blocking(move || {
                store.write_floor(floor)?;
                age.map_or(Ok(()), |age| store.write_head_age(age))
            });
            if let Ok(written) = written.await {
                writing.log(&written, "the time floor can't be stored in replica.db; make room on the disk");
            }
        }
        if doubt {
            wake.notify_one();
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Warns once for each role that the replica will soon be too old for it, and raises an alarm once it is.
fn grow_old(live: &Live, wall: Time, told: &mut BTreeSet<(String, bool)>) {
    let snapshot = live.snapshot();
    for (role, freshness) in snapshot.freshness(live.now(wall).effective()) {
        let over = freshness.over();
        if !freshness.near() {
            told.retain(|(other, _)| *other != role);
        } else if told.insert((role.clone(), over)) {
            if over {
                let then = if snapshot.denies_when_stale() { "denied" } else { "decided all the same" };
                let setting = freshness.setting.key(&role);
                let what =
                    format!("the replica is older than {setting} permits for {role}; requests are {then}");
                live.alarms.raise(AlarmKind::Frozen, &what, wall);
            } else {
                let left = freshness.left();
                tracing::warn!(
                    role,
                    seconds = left,
                    "the replica will soon be too old for this role; restore the connection to the control plane, or import a replica"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
