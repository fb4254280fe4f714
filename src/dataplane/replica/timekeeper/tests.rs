#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use proptest::prelude::*;

use super::*;
use crate::dataplane::decide::Now;
use crate::dataplane::decide::staleness::{AtLimit, Staleness};
use crate::dataplane::replica::store::{Origin, ReplicaStore};
use crate::world::World;

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
    // Half of the seconds stored ahead are left: nothing to store. Later there is.
    assert_eq!(keeper.look(T.plus(30), at(30)).write, None);
    assert_eq!(keeper.look(T.plus(31), at(31)).write, Some(T.plus(31 + AHEAD)));
    // A crash at any moment, and the clock is set back: the floor is the same or later.
    let restarted = Timekeeper::new(T.plus(31 + AHEAD), T.plus(-9_000), at(0), None);
    assert_eq!(restarted.floor, T.plus(31 + AHEAD));
}

#[test]
fn a_clock_that_goes_from_one_side_to_the_other_is_told_of_anew() {
    let mut keeper = Timekeeper::new(Time::default(), T, at(0), None);
    for (second, off) in [(1, -7200), (2, 7200), (3, -7200)] {
        let moved = i64::try_from(second).unwrap() + off;
        assert_eq!(keeper.look(T.plus(moved), at(second)).jump, Some(Jump { seconds: off }));
        assert_eq!(keeper.look(T.plus(moved), at(second)).jump, None, "once");
        // On the same side it is the same jump, however far the clock goes.
        assert_eq!(keeper.look(T.plus(moved + off), at(second)).jump, None);
    }
    assert!([CLOCK_TOLERANCE, -CLOCK_TOLERANCE].into_iter().all(clocks_agree) && !clocks_agree(i64::MIN));
}

#[test]
fn a_jump_is_told_once_each_way_and_raises_nothing() {
    for off in [CLOCK_TOLERANCE + 10, 10 * 365 * 86_400, -CLOCK_TOLERANCE - 10, -10 * 365 * 86_400] {
        let mut keeper = Timekeeper::new(Time::default(), T, at(0), None);
        assert_eq!(keeper.look(T.plus(off), at(0)).jump, Some(Jump { seconds: off }));
        let look = keeper.look(T.plus(off + 100), at(100));
        assert_eq!((look.jump, look.floor), (None, T.plus(100)), "time passed all the same");
        // The clock agrees again, and jumps again.
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
fn a_jump_begins_beyond_the_tolerance() {
    for (off, jumps) in [(CLOCK_TOLERANCE, false), (CLOCK_TOLERANCE + 1, true)] {
        for off in [off, -off] {
            let look = Timekeeper::new(Time::default(), T, at(0), None).look(T.plus(off), at(0));
            assert_eq!(look.jump.is_some(), jumps, "{off}");
        }
    }
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
    // After a suspend: the monotonic clock stood still.
    let mut keeper = Timekeeper::new(Time::default(), T, at(0), None);
    let awake = T.plus(36_000);
    assert!(keeper.look(awake, at(1)).jump.is_some());
    keeper.proved(awake.plus(-2), awake, at(1));
    assert_eq!(
        keeper.look(awake.plus(1), at(2)),
        Look { floor: awake.plus(1), write: Some(awake.plus(1 + AHEAD)), jump: None }
    );
}

#[test]
fn a_proved_head_ends_no_jump_of_a_clock_that_contradicts_it_or_what_was_proved_before() {
    let mut keeper = Timekeeper::new(Time::default(), T, at(0), None);
    keeper.proved(T, T.plus(9_000), at(0));
    let look = keeper.look(T.plus(9_000), at(0));
    assert_eq!((look.jump, look.floor), (Some(Jump { seconds: 9_000 }), T));
    // The clock is set back to the time of a head that was held back until now.
    let mut keeper = Timekeeper::new(Time::default(), T, at(0), None);
    keeper.look(T.plus(9_000), at(9_000));
    keeper.proved(T, T, at(9_000));
    let look = keeper.look(T, at(9_000));
    assert_eq!((look.jump, look.floor), (Some(Jump { seconds: -9_000 }), T.plus(9_000)));
}

/// Events between two looks: seconds pass, the wall clock is set, a head is verified, the host restarts.
#[derive(Clone, Debug)]
enum Happens {
    Passes(u64),
    Off(i64),
    Signed(i64),
    Restart,
}

fn happens() -> impl Strategy<Value = Happens> {
    let far = 400 * 86_400_i64;
    prop_oneof![
        4 => (1_u64..5_000).prop_map(Happens::Passes),
        2 => prop_oneof![-400_i64..400, -far..far].prop_map(Happens::Off),
        2 => (-400_i64..=300).prop_map(Happens::Signed),
        1 => Just(Happens::Restart),
    ]
}

proptest! {
    /// Only a clock that was read, a verified head, and passed time raise the floor. It falls only when it is lowered
    /// on purpose; then a correct clock is trusted, permanently and across restarts.
    #[test]
    fn a_floor_is_never_ahead_of_what_was_seen_and_is_right_once_it_is_taken_back(
        story in proptest::collection::vec(happens(), 1..40),
        after in proptest::collection::vec(prop_oneof![3 => (1_u64..5_000).prop_map(Some), 1 => Just(None)], 1..20),
    ) {
        let (mut truth, mut off, mut mono, mut written) = (T, 0_i64, Duration::ZERO, Time::default());
        let mut keeper = Timekeeper::new(written, truth, mono, None);
        // Latest time that any source stated, plus the time passed since.
        let mut latest = truth;
        let mut floor = Time::default();
        for happens in story {
            match happens {
                Happens::Passes(seconds) => {
                    truth = truth.plus(seconds.cast_signed());
                    latest = latest.plus(seconds.cast_signed());
                    mono += at(seconds);
                }
                Happens::Off(seconds) => off = seconds,
                Happens::Signed(ahead) => {
                    let signed = truth.plus(off + ahead);
                    latest = latest.max(signed);
                    keeper.proved(signed, truth.plus(off), mono);
                }
                Happens::Restart => {
                    mono = Duration::ZERO;
                    keeper = Timekeeper::new(written, truth.plus(off), mono, None);
                    latest = latest.plus(AHEAD);
                }
            }
            let wall = truth.plus(off);
            latest = latest.max(wall);
            let look = keeper.look(wall, mono);
            written = look.write.unwrap_or(written);
            prop_assert!(look.floor >= floor, "it fell from {floor} to {}", look.floor);
            prop_assert!(look.floor <= latest, "{} is ahead of {latest}", look.floor);
            floor = look.floor;
        }
        keeper.take_back(truth, truth, mono);
        written = truth;
        for passes in after {
            if let Some(seconds) = passes {
                truth = truth.plus(seconds.cast_signed());
                mono += at(seconds);
            } else {
                mono = Duration::ZERO;
                keeper = Timekeeper::new(written, truth, mono, None);
            }
            let look = keeper.look(truth, mono);
            written = look.write.unwrap_or(written);
            prop_assert_eq!(look.jump, None);
            let now = Now { wall: truth, floor: look.floor };
            prop_assert!(now.trusted(), "{now:?}");
            prop_assert!(look.floor <= truth.plus(AHEAD));
        }
    }
}

#[test]
fn a_look_that_went_by_a_floor_that_was_taken_back_does_not_raise_it_again() {
    let live = Live::new(Snapshot::absent(), T.plus(1_000), T);
    let mut watch = Watch::new(&live, None, T, at(0));
    assert!(watch.look(&live, T, at(0)).doubt, "the first look in doubt is worth a request");
    assert!(!watch.look(&live, T.plus(1), at(1)).doubt, "and the next is not");
    let (times, _) = live.taken_back();
    live.take_back_floor(T.plus(1), || Ok::<_, ()>(())).unwrap();
    live.raise_floor_unless_taken_back(times, T.plus(1_002));
    assert_eq!(live.now(T).floor, T.plus(1), "the old floor is gone");
    let found = watch.look(&live, T.plus(2), at(2));
    assert_eq!(live.now(T).floor, T.plus(2));
    assert_eq!(found.write, Some(T.plus(2 + AHEAD)));
    assert!(live.now(T.plus(2)).trusted());
    // A new doubt triggers another request.
    assert!(watch.look(&live, T.plus(-2_000), at(3)).doubt);
    assert!(!watch.look(&live, T.plus(4), at(4)).doubt);
    // If the precondition fails, the floor stays.
    let failed = live.take_back_floor(T, || Err::<(), _>("the disk is full"));
    assert_eq!((failed, live.now(T).floor), (Err("the disk is full"), T.plus(4)));
}

#[test]
fn a_doubt_that_begins_again_between_two_looks_is_asked_about_at_once() {
    let live = Live::new(Snapshot::absent(), T.plus(1_000), T);
    let mut watch = Watch::new(&live, None, T, at(0));
    assert!(watch.look(&live, T, at(0)).doubt);
    live.take_back_floor(T, || Ok::<_, ()>(())).unwrap();
    live.raise_floor(T.plus(3_600));
    assert!(watch.look(&live, T.plus(1), at(1)).doubt);
}

#[test]
fn an_accepted_clock_makes_no_head_younger_than_the_time_that_passed_here() {
    let age = HeadAge { version: 1, iat: T.plus(86_400), held: 7_200, signed: T.plus(86_400) };
    assert_eq!(age.accepted(T).signed, T.plus(-7_200), "one of the future");
    let old = HeadAge { iat: T.plus(-9_000), signed: T.plus(-9_000), ..age };
    assert_eq!(old.accepted(T).signed, T.plus(-9_000), "one that is older than it was held");
    // The clock is set back repeatedly, and accepted each time.
    let mut set_back = old;
    for days in 0..10 {
        set_back = HeadAge { held: 7_200 + days * 86_400, ..set_back }.accepted(T);
    }
    assert_eq!(set_back.signed, T.plus(-7_200 - 9 * 86_400));
}

/// The world's replica with a head that was signed at `signed`.
fn renewed(signed: Time, staleness: &Staleness) -> Snapshot {
    let (world, records) = (World::new(), World::records(1));
    let keyset = world.keyset();
    let head = SignedHead::verify(&world.head(1, &records, signed), &keyset, &World::data_plane()).unwrap();
    world.snapshot(records).renewed(&keyset, &head, staleness).unwrap()
}

#[test]
fn a_head_says_what_time_it_is_only_when_it_comes() {
    let live = Live::new(renewed(T, &Staleness::default()), Time::default(), T);
    let mut watch = Watch::new(&live, None, T.plus(-2_000), at(0));
    let mut alarms = |wall: i64, second: u64| {
        watch.look(&live, T.plus(wall), at(second));
        live.alarms.count(AlarmKind::Clock)
    };
    assert_eq!(alarms(-2_000, 0), 0, "the clock is behind the head from the beginning");
    // It agrees with the head now, but the head is no longer of now.
    assert_eq!([alarms(1, 1), alarms(-1_998, 2), alarms(-5_997, 3)], [1, 1, 2]);
    let told: Vec<_> = live.alarms.latest().into_iter().map(|alarm| alarm.what).collect();
    assert!(told.iter().any(|what| what.ends_with("2000 seconds ahead of the time that passed")), "{told:?}");
    assert!(told.iter().any(|what| what.ends_with("4000 seconds behind the time that passed")), "{told:?}");
    // The host was suspended: its monotonic clock stood still, and the next head comes.
    live.replace(|_| renewed(T.plus(9_000), &Staleness::default()));
    watch.look(&live, T.plus(9_001), at(4));
    assert_eq!(live.now(T).floor, T.plus(9_001));
}

#[test]
fn the_age_of_a_head_goes_on_from_what_was_stored_until_another_head_comes() {
    let stored = HeadAge { version: 1, iat: T, held: 900, signed: T.plus(-900) };
    let live = Live::new(renewed(T, &Staleness::default()), Time::default(), T);
    live.change_local(|local| local.accepted = Some(stored));
    let mut watch = Watch::new(&live, Some(stored), T, at(0));
    let mut kept_after = |second: u64| watch.look(&live, T.plus(second.cast_signed()), at(second)).age;
    assert_eq!(kept_after(60), Some(HeadAge { held: 960, ..stored }));
    live.replace(|_| renewed(T.plus(90), &Staleness::default()));
    let newer = HeadAge { version: 1, iat: T.plus(90), held: 0, signed: T.plus(90) };
    assert_eq!([kept_after(100), kept_after(140)], [Some(newer), Some(HeadAge { held: 40, ..newer })]);
    assert_eq!(live.head_age(), Some(HeadAge { held: 40, ..newer }));
}

#[tokio::test]
async fn while_the_clocks_are_watched_the_floor_is_stored_and_a_doubt_wakes_sync() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("replica.db");
    let store = ReplicaStore::open(&path, World::data_plane(), World::new().pinned()).unwrap();
    let live = Arc::new(Live::new(renewed(T, &Staleness::default()), Time::default(), T));
    let replication = Arc::new(Replication::new(store, live, Staleness::default()));
    let (wake, readings) = (Arc::new(Notify::new()), AtomicUsize::new(0));
    // The clock is set back after the first look.
    let clock = move || if readings.fetch_add(1, Relaxed) < 2 { T } else { T.plus(-9_000) };
    tokio::select! {
        () = run(Arc::clone(&replication), Arc::new(clock), Arc::clone(&wake)) => {}
        () = wake.notified() => {}
    }
    assert_eq!(replication.store().floor().unwrap(), T.plus(AHEAD));
    let age = HeadAge { version: 1, iat: T, held: 0, signed: T };
    assert_eq!(replication.store().head_age().unwrap(), Some(age), "and the age of the head with it");
}

#[test]
fn a_doubt_is_ended_by_a_head_that_was_signed_just_now_and_agrees_with_the_clock_and_by_no_other() {
    let (world, records) = (World::new(), World::records(1));
    let floor = T.plus(9_000);
    for (signed, asked, after) in [
        (0, Some("n"), T),
        (-CLOCK_TOLERANCE, Some("n"), T.plus(-CLOCK_TOLERANCE)),
        (CLOCK_TOLERANCE, Some("n"), T),
        // The control plane's clock is another one.
        (-CLOCK_TOLERANCE - 1, Some("n"), floor),
        // The answer is not one to this node's request, so it may have been signed at any time.
        (0, None, floor),
        (0, Some("other"), floor),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("replica.db");
        let store = ReplicaStore::open(&path, World::data_plane(), world.pinned()).unwrap();
        store.raise_floor(floor).unwrap();
        let live = Arc::new(Live::new(Snapshot::absent(), floor, T));
        let replication = Replication::new(store, Arc::clone(&live), Staleness::default());
        let answer = world.answer(1, &records, T.plus(signed), "n");
        let taken = replication.apply_answer(&*answer, Origin::Feed, asked, T);
        assert_eq!(taken.is_ok(), asked != Some("other"), "{signed} {asked:?}");
        assert_eq!(
            (live.now(T).floor, replication.store().floor().unwrap()),
            (after, after),
            "{signed} {asked:?}"
        );
        assert_eq!(live.alarms.count(AlarmKind::Clock), u64::from(after < floor));
    }
}

#[test]
fn a_replica_that_is_too_old_is_alarmed_once_for_each_role_until_it_is_renewed() {
    let day = 86_400;
    let live = Live::new(renewed(T, &Staleness::default()), Time::default(), T);
    let mut watch = Watch::new(&live, None, T, at(0));
    let mut alarms = |until: i64| {
        watch.look(&live, T.plus(until), at(until.unsigned_abs()));
        live.alarms.count(AlarmKind::Frozen)
    };
    assert_eq!([0, day - 1, day].map(&mut alarms), [0, 0, 0], "a warning is no alarm");
    assert_eq!([day + 1, day + 2, 2 * day].map(&mut alarms), [1, 1, 1]);
    assert_eq!([7 * day, 7 * day + 1, 7 * day + 2].map(&mut alarms), [1, 2, 2]);
    let told: Vec<_> = live.alarms.latest().into_iter().map(|alarm| alarm.what).collect();
    let about = |role: &str, key: &str| {
        let told = told.iter().find(|what| what.contains(role)).unwrap();
        assert!(told.contains(key) && told.ends_with("requests are denied"), "{told}");
    };
    about("DEPLOYMENT_ADMIN", "staleness.roles.DEPLOYMENT_ADMIN");
    about("other roles", "staleness.default_seconds");
    // It is renewed, and grows old again.
    live.replace(|_| renewed(T.plus(8 * day), &Staleness::default()));
    assert_eq!([8 * day, 9 * day].map(&mut alarms), [2, 2]);
    assert_eq!([9 * day + 1, 9 * day + 2].map(&mut alarms), [3, 3]);
    let allows = Staleness { at_limit: AtLimit::Allow, default: 60, ..Staleness::default() };
    live.replace(|_| renewed(T.plus(10 * day), &allows));
    assert_eq!([10 * day, 10 * day + 61].map(&mut alarms), [3, 5]);
    assert!(live.alarms.latest().last().unwrap().what.ends_with("requests are decided all the same"));
}

#[test]
fn a_floor_in_the_database_is_never_ahead_of_the_floor_in_force_by_more_than_what_is_stored_ahead() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("replica.db");
    let store = ReplicaStore::open(&path, World::data_plane(), World::new().pinned()).unwrap();
    let replication =
        Replication::new(store, Arc::new(Live::new(Snapshot::absent(), T, T)), Staleness::default());
    let floor = || replication.store().floor().unwrap();
    // Computed before the floor was lowered.
    replication.write_floor(T.plus(AHEAD + 1)).unwrap();
    assert_eq!(floor(), Time::default());
    replication.write_floor(T.plus(AHEAD)).unwrap();
    assert_eq!(floor(), T.plus(AHEAD));
}
