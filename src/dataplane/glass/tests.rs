//! Unit tests of broken glass on the disk and in memory.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::dataplane::decide::snapshot::Snapshot;

const T0: Time = Time::from_unix(1_800_000_000);

fn at(seconds: i64) -> Now {
    Now { wall: T0.plus(seconds), floor: T0 }
}

fn live() -> Arc<Live> {
    Arc::new(Live::new(Snapshot::absent(), T0, T0))
}

fn broken(until: i64) -> Broken {
    Broken { operator: "uid 0".into(), reason: "drill".into(), broken_at: T0, until: T0.plus(until) }
}

fn id() -> DeploymentId {
    DeploymentId::new("dep_a").unwrap()
}

#[test]
fn what_is_broken_outlives_a_restart_and_ends_when_it_would_have() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("glass.db");
    Glass::open(&path, live(), 3600, at(0)).unwrap().break_glass(&id(), &broken(100)).unwrap();
    let again = live();
    let glass = Glass::open(&path, Arc::clone(&again), 3600, at(50)).unwrap();
    assert_eq!(again.snapshot().local().broken[&id()], broken(100));
    assert_eq!(glass.ended(at(99), 1).unwrap(), []);
    let ended = glass.ended(at(100), 1).unwrap();
    assert!(again.snapshot().local().broken.is_empty());
    // It is kept, across restarts too, until its end is in the log.
    drop(glass);
    let glass = Glass::open(&path, live(), 3600, at(500)).unwrap();
    assert_eq!(glass.ended(at(500), 0).unwrap(), ended);
    glass.forget(&ended[0]).unwrap();
    assert_eq!(glass.ended(at(500), 0).unwrap(), []);
}

#[test]
fn what_a_newer_build_has_written_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("glass.db");
    drop(Glass::open(&path, live(), 3600, at(0)).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    assert!(
        matches!(Glass::open(&path, live(), 3600, at(0)), Err(GlassError::Unfit(Unfit::Newer(newer))) if newer.found == 9)
    );
}

#[test]
fn a_clock_set_back_prolongs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("glass.db");
    let glass = Glass::open(&path, live(), 3600, at(0)).unwrap();
    glass.break_glass(&id(), &broken(100)).unwrap();
    // 60 seconds pass while the clock shows a time before the beginning.
    let back = |seconds: i64| Now { wall: T0.plus(seconds), floor: T0.plus(-1000) };
    assert_eq!(glass.ended(back(-200), 60).unwrap(), []);
    drop(glass);
    let again = live();
    let glass = Glass::open(&path, Arc::clone(&again), 3600, back(-200)).unwrap();
    assert_eq!(again.snapshot().local().broken[&id()].until, T0.plus(-160));
    assert_eq!(glass.ended(back(-199), 39).unwrap(), []);
    assert_eq!(glass.ended(back(-199), 1).unwrap().len(), 1);
}

#[test]
fn what_ended_by_a_time_that_was_taken_back_since_stays_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("glass.db");
    let glass = Glass::open(&path, live(), 3600, at(0)).unwrap();
    glass.break_glass(&id(), &broken(100)).unwrap();
    let ahead = Now { wall: T0, floor: T0.plus(5_000) };
    assert_eq!(glass.ended(ahead, 1).unwrap().len(), 1);
    // The end could not be recorded; then the floor is lowered and the daemon restarts.
    drop(glass);
    let again = live();
    let glass = Glass::open(&path, Arc::clone(&again), 3600, at(2)).unwrap();
    assert!(again.snapshot().local().broken.is_empty());
    assert_eq!(glass.ended(at(2), 1).unwrap().len(), 1, "its end is recorded still");
}

#[test]
fn what_is_sealed_is_shut_at_once_and_told_who_did_it() {
    let directory = tempfile::tempdir().unwrap();
    let live = live();
    let glass = Glass::open(&directory.path().join("glass.db"), Arc::clone(&live), 3600, at(0)).unwrap();
    assert!(matches!(glass.seal(&id(), "uid 7"), Err(GlassError::NotBroken(_))));
    glass.break_glass(&id(), &broken(100)).unwrap();
    glass.seal(&id(), "uid 7").unwrap();
    assert!(live.snapshot().local().broken.is_empty());
    assert_eq!(glass.ended(at(1), 0).unwrap()[0].sealed_by.as_deref(), Some("uid 7"));
    // Broken anew before the first end was recorded: it stays broken.
    let first = glass.ended(at(1), 0).unwrap().remove(0);
    glass.break_glass(&id(), &Broken { until: T0.plus(200), ..broken(0) }).unwrap();
    glass.forget(&first).unwrap();
    assert_eq!(glass.ended(at(1), 0).unwrap(), []);
    assert_eq!(live.snapshot().local().broken.len(), 1);
}

#[test]
fn what_cant_be_kept_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let glass = Glass::open(&directory.path().join("glass.db"), live(), 3600, at(0)).unwrap();
    assert!(matches!(glass.check("dep_a", "", 60, at(0)), Err(GlassError::Reason(_))));
    assert!(matches!(glass.check("dep_a", "a", 0, at(0)), Err(GlassError::Duration(3600))));
    assert!(matches!(glass.check("dep_a", "a", 3601, at(0)), Err(GlassError::Duration(3600))));
    assert!(matches!(glass.check("dep_a", "a", 60, at(-4000)), Err(GlassError::Clock)));
    assert!(matches!(glass.check("dep_a", "a", 60, at(0)), Err(GlassError::Unknown(_))));
}
