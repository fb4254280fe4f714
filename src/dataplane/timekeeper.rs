//! The time floor: what is known to have passed. It only rises, outlives restarts, and is what keeps a clock that was set
//! back from reviving a token.
//!
//! The wall clock raises it, and is not believed blindly: between two looks it may have moved on by as much as the
//! monotonic clock has, give or take a tolerance. A jump either way is alarmed; one ahead raises nothing beyond what really
//! passed, since a floor in the future would deny everything until it is reached. It is a pure object: both clocks come in
//! with each call.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Clock;
use super::alarm::AlarmKind;
use super::decide::CLOCK_TOLERANCE;
use super::live::Live;
use super::replication::Replication;
use crate::protocol::time::Time;

/// How often the clocks are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How far ahead of the floor the disk's copy is written, in seconds. So no crash lets the floor fall, though it is not
/// written at every tick.
pub const AHEAD: i64 = 60;

/// A clock that did not go as time does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// By how many seconds; negative for back.
    pub seconds: i64,
}

/// What a look at the clocks says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Where the floor stands now.
    pub floor: Time,
    /// What the disk's copy must be raised to, if it must.
    pub write: Option<Time>,
    /// The wall clock has just left the time that is known to have passed. Told once, until it comes back.
    pub jump: Option<Jump>,
}

/// Keeps the floor.
#[derive(Clone, Debug)]
pub struct Timekeeper {
    floor: Time,
    /// What has really been reached: after a start it may be behind the floor, by as much as was written ahead.
    reached: Time,
    written: Time,
    /// The time as it should be, and the monotonic clock then.
    anchor: (Time, Duration),
    astray: bool,
}

impl Timekeeper {
    /// Begins with the floor that was written down, and the clocks as they are. `horizon` bounds what a first look at the
    /// wall clock can prove: after it nothing this node holds is of use, so a floor beyond it would only do harm.
    #[must_use]
    pub fn new(written: Time, wall: Time, monotonic: Duration, horizon: Option<Time>) -> Self {
        let first = horizon.map_or(wall, |horizon| wall.min(horizon));
        let reached = first.max(written.plus(-AHEAD));
        Self { floor: written.max(first), reached, written, anchor: (reached, monotonic), astray: false }
    }

    /// Looks at both clocks.
    pub fn look(&mut self, wall: Time, monotonic: Duration) -> Look {
        let (time, since) = self.anchor;
        let passed = monotonic.saturating_sub(since);
        let expected = time.plus(i64::try_from(passed.as_secs()).unwrap_or(i64::MAX));
        let off = wall.since(expected);
        let astray = off.abs() > CLOCK_TOLERANCE;
        let jump = (astray && !self.astray).then_some(Jump { seconds: off });
        self.astray = astray;
        if astray {
            // Time has passed all the same.
            self.reached = self.reached.max(expected);
        } else {
            self.reached = self.reached.max(wall);
            // Small corrections add up to the true time, and are no jump.
            self.anchor = (wall, monotonic);
        }
        self.floor = self.floor.max(self.reached);
        // Ahead of what was reached, not of the floor: else every start would drive it on, and a daemon that starts often
        // would come to deny everything.
        let write = (self.reached.plus(AHEAD / 2) > self.written).then(|| self.reached.plus(AHEAD));
        self.written = write.unwrap_or(self.written);
        Look { floor: self.floor, write, jump }
    }

    /// A head that was signed at `signed` was just proved: at least so late it is, and a wall clock that agrees is right.
    pub fn proved(&mut self, signed: Time, wall: Time, monotonic: Duration) {
        self.reached = self.reached.max(signed);
        self.floor = self.floor.max(signed);
        if wall.since(signed).abs() <= CLOCK_TOLERANCE && wall >= self.floor.plus(-CLOCK_TOLERANCE) {
            self.anchor = (wall, monotonic);
        }
    }
}

/// Looks at the clocks once a second, until the task is dropped: keeps the floor, and tells of what grows old.
pub async fn run(replication: Arc<Replication>, clock: Clock) {
    let started = Instant::now();
    let live = replication.live();
    let horizon = live.snapshot().horizon();
    let mut keeper = Timekeeper::new(live.now(Time::default()).floor, clock(), Duration::ZERO, horizon);
    let mut newest = Time::default();
    let mut told = BTreeSet::new();
    loop {
        let (wall, monotonic) = (clock(), started.elapsed());
        let signed = live.snapshot().head().map(|head| head.head().iat);
        if let Some(signed) = signed.filter(|signed| *signed > newest) {
            newest = signed;
            keeper.proved(signed, wall, monotonic);
        }
        let look = keeper.look(wall, monotonic);
        live.raise_floor(look.floor);
        if let Some(Jump { seconds }) = look.jump {
            let way = if seconds < 0 { "behind" } else { "ahead of" };
            let what =
                format!("the clock went to {wall}, {} seconds {way} the time that passed", seconds.abs());
            live.alarms.raise(AlarmKind::Clock, &what, wall);
        }
        if let Some(floor) = look.write {
            let store = Arc::clone(&replication);
            let written = tokio::task::spawn_blocking(move || store.write_floor(floor)).await;
            if let Ok(Err(error)) = written {
                tracing::error!(%error, "the time floor can't be written down");
            }
        }
        grow_old(live, wall, &mut told);
        tokio::time::sleep(TICK).await;
    }
}

/// Tells once of each role that the replica is soon, or already, too old for.
fn grow_old(live: &Live, wall: Time, told: &mut BTreeSet<(String, bool)>) {
    let snapshot = live.snapshot();
    for (role, freshness) in snapshot.freshness(live.now(wall).effective()) {
        let over = freshness.over();
        if !freshness.near() {
            told.retain(|(other, _)| *other != role);
        } else if told.insert((role.clone(), over)) {
            if over {
                let then = if snapshot.denies_when_stale() { "denied" } else { "decided all the same" };
                let what = format!("the replica is older than {role} may rest on; requests are {then}");
                live.alarms.raise(AlarmKind::Frozen, &what, wall);
            } else {
                let left = freshness.left();
                tracing::warn!(
                    role,
                    seconds = left,
                    "the replica will soon be older than this role may rest on"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Time = Time::from_unix(1_800_000_000);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn starts_in_a_row_do_not_drive_the_floor_ahead() {
        let mut written = Time::default();
        for start in 0..100 {
            let wall = T.plus(start);
            let mut keeper = Timekeeper::new(written, wall, at(0), None);
            for second in 0..2 {
                let look = keeper.look(wall.plus(second), at(second.unsigned_abs()));
                assert_eq!(look.jump, None, "start {start}");
                assert!(look.floor <= wall.plus(second + AHEAD), "start {start}: {:?}", look.floor);
                written = look.write.unwrap_or(written);
            }
        }
    }

    #[test]
    fn the_floor_follows_a_clock_that_goes_as_time_does_and_is_written_ahead() {
        let mut keeper = Timekeeper::new(Time::default(), T, at(0), None);
        let look = keeper.look(T, at(0));
        assert_eq!(look, Look { floor: T, write: Some(T.plus(AHEAD)), jump: None });
        // Half of what was written ahead is left: nothing to write. Then there is.
        assert_eq!(keeper.look(T.plus(30), at(30)).write, None);
        assert_eq!(keeper.look(T.plus(31), at(31)).write, Some(T.plus(31 + AHEAD)));
        // A crash at any moment, and the clock is set back: the floor is where it was or later.
        let restarted = Timekeeper::new(T.plus(31 + AHEAD), T.plus(-9_000), at(0), None);
        assert_eq!(restarted.floor, T.plus(31 + AHEAD));
    }

    #[test]
    fn a_jump_is_told_once_each_way_and_raises_nothing() {
        for off in [CLOCK_TOLERANCE + 10, 10 * 365 * 86_400, -CLOCK_TOLERANCE - 10, -10 * 365 * 86_400] {
            let mut keeper = Timekeeper::new(Time::default(), T, at(0), None);
            assert_eq!(keeper.look(T.plus(off), at(0)).jump, Some(Jump { seconds: off }));
            let look = keeper.look(T.plus(off + 100), at(100));
            assert_eq!((look.jump, look.floor), (None, T.plus(100)), "time passed all the same");
            // It comes back, and goes again.
            let look = keeper.look(T.plus(200), at(200));
            assert_eq!((look.jump, look.floor), (None, T.plus(200)));
            assert_eq!(keeper.look(T.plus(200 + off), at(200)).jump, Some(Jump { seconds: off }));
        }
    }

    #[test]
    fn small_corrections_are_no_jump_and_the_floor_does_not_fall() {
        let mut keeper = Timekeeper::new(Time::default(), T, at(0), None);
        let mut wall = T;
        for step in 1..=20_u64 {
            wall = wall.plus(200);
            assert_eq!(keeper.look(wall, at(step)).jump, None, "slewed by 199 s at step {step}");
        }
        let before = keeper.floor;
        assert_eq!(keeper.look(wall.plus(-200), at(21)).floor, before);
    }

    #[test]
    fn a_first_look_proves_no_more_than_the_replica_can_use() {
        let horizon = T.plus(7 * 86_400);
        let keeper = Timekeeper::new(T, T.plus(3_650 * 86_400), at(0), Some(horizon));
        assert_eq!(keeper.floor, horizon);
        let mut keeper = Timekeeper::new(T, T.plus(3_650 * 86_400), at(0), Some(horizon));
        assert!(keeper.look(T.plus(3_650 * 86_400), at(1)).jump.is_some());
    }

    #[test]
    fn a_proved_head_ends_a_jump_that_was_the_truth() {
        // A machine that slept: the monotonic clock stood still.
        let mut keeper = Timekeeper::new(Time::default(), T, at(0), None);
        let awake = T.plus(36_000);
        assert!(keeper.look(awake, at(1)).jump.is_some());
        keeper.proved(awake.plus(-2), awake, at(1));
        assert_eq!(
            keeper.look(awake.plus(1), at(2)),
            Look { floor: awake.plus(1), write: Some(awake.plus(1 + AHEAD)), jump: None }
        );
    }
}
