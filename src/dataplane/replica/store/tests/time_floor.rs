//! Unit tests of the time floor and of the age of a head, as the store keeps them.

use super::*;
use crate::dataplane::decide::{CLOCK_TOLERANCE, HeadAge};

#[test]
fn a_stored_floor_only_rises_and_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(open(directory.path()).floor().unwrap(), Time::from_unix(0));
    for (raised, floor) in [(0, 0), (-5, 0), (7, 7)] {
        open(directory.path()).raise_floor(T0.plus(raised)).unwrap();
        assert_eq!(open(directory.path()).floor().unwrap(), T0.plus(floor));
    }
}

#[test]
fn what_had_expired_by_a_floor_stays_expired_when_the_floor_is_lowered() {
    let directory = tempfile::tempdir().unwrap();
    let ending = |number, at| TokenRecord { expires_at: T0.plus(at), ..World::token_record(number) };
    // By a clock that ran 40 days ahead; the right time is one day after the start.
    let (floor, wall) = (T0.plus(40 * DAY), T0.plus(DAY));
    let tokens = [
        ending(0, 30 * DAY),
        ending(1, 40 * DAY),
        ending(2, 40 * DAY + 1),
        ending(3, DAY),
        ending(4, DAY - CLOCK_TOLERANCE),
        ending(5, DAY - CLOCK_TOLERANCE + 1),
    ];
    let mut store = filled(directory.path(), &tokens);
    let ended = store.ended_by(floor, wall).unwrap();
    assert_eq!(ended.len(), 4, "the floor may fall to a time before `wall`, within the tolerance: {ended:?}");
    let age = HeadAge { version: 1, iat: T0, held: 5, signed: T0 };
    assert_eq!(
        store.take_back_floor(&ended, wall, Some(age)).unwrap(),
        2,
        "the others are dead by the time itself"
    );
    drop(store);
    let mut store = open(directory.path());
    assert_eq!((store.floor().unwrap(), store.head_age().unwrap()), (wall, Some(age)));
    let reasons = |store: &ReplicaStore| [0, 1, 2].map(|token| reason(store, &tokens[token], wall));
    let expected = [Reason::TokenExpired, Reason::TokenExpired, Reason::Ok];
    assert_eq!(reasons(&store), expected);
    assert!(store.ended_by(floor, wall).unwrap().len() == 2, "those two are known to be dead");
    // The record that comes again does not revive them, a rotation does.
    apply_snapshot(&mut store, 2, &tokens).unwrap();
    assert_eq!(reasons(&store), expected);
    let rotated = TokenRecord { generation: 2, ..tokens[0].clone() };
    apply_snapshot(&mut store, 3, &[std::slice::from_ref(&rotated), &tokens[1..]].concat()).unwrap();
    assert_eq!(reason(&store, &rotated, wall), Reason::Ok);
    // A token whose end no build has stored is taken for one that ended.
    Connection::open(directory.path().join("replica.db"))
        .unwrap()
        .execute_batch("UPDATE ledger SET expires = NULL WHERE key LIKE '%2'")
        .unwrap();
    let ended = store.ended_by(wall, wall).unwrap();
    store.take_back_floor(&ended, wall, None).unwrap();
    assert_eq!(reasons(&store), [Reason::TokenRotated, Reason::TokenExpired, Reason::TokenExpired]);
    assert_eq!(store.head_age().unwrap(), Some(age), "it is kept");
}

#[test]
fn the_age_of_a_head_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(open(directory.path()).head_age().unwrap(), None);
    for held in [60, 30] {
        let age = HeadAge { version: 4, iat: T0, held, signed: T0.plus(-held) };
        open(directory.path()).keep_head_age(age).unwrap();
        assert_eq!(open(directory.path()).head_age().unwrap(), Some(age));
    }
}
