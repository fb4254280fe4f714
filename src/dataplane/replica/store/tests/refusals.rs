//! Unit tests of what follows from a refusal: an alarm, or that the disk is read again.

use super::*;
use crate::dataplane::node::alarm::AlarmKind;

#[test]
fn the_disk_is_read_again_after_what_damage_of_it_can_cause() {
    let history = StoreError::History { have: 1, got: 2 };
    let invariant = StoreError::Invariant { kind: RecordKind::Token, key: "tok_a".into(), what: "" };
    let database = StoreError::Database(rusqlite::Error::InvalidQuery);
    for damage in [history, invariant, database, StoreError::Digest(1), StoreError::Kind] {
        assert!(damage.may_be_of_the_disk(), "{damage}");
    }
    for other in [
        StoreError::Rollback { have: 2, got: 1 },
        StoreError::Fork(1),
        StoreError::Frozen(T0),
        StoreError::Base { have: 2, got: 1 },
        StoreError::TooMany(1),
    ] {
        assert!(!other.may_be_of_the_disk(), "{other}");
    }
}

#[test]
fn what_may_be_tampering_is_an_alarm_and_a_wrong_file_at_a_prompt_is_none() {
    let invariant = StoreError::Invariant { kind: RecordKind::Token, key: "tok_a".into(), what: "" };
    for (evidence, kind) in [
        (invariant, AlarmKind::Invariant),
        (StoreError::Fork(1), AlarmKind::Fork),
        (StoreError::KeysetFork(1), AlarmKind::Fork),
    ] {
        for origin in [Origin::Feed, Origin::Peer, Origin::File] {
            assert_eq!(evidence.alarm_by(origin), Some(kind), "{evidence}");
        }
    }
    for (refused, kind) in [
        (StoreError::Digest(1), AlarmKind::Refused),
        (StoreError::Superseded(1), AlarmKind::Refused),
        (StoreError::Rollback { have: 2, got: 1 }, AlarmKind::Rollback),
        (StoreError::History { have: 1, got: 2 }, AlarmKind::History),
        (StoreError::Frozen(T0), AlarmKind::Frozen),
        (StoreError::Replayed(T0), AlarmKind::Frozen),
        (StoreError::Future(T0), AlarmKind::Clock),
    ] {
        assert_eq!(refused.alarm_by(Origin::Feed), Some(kind), "{refused}");
        assert_eq!(refused.alarm_by(Origin::Peer), Some(kind), "{refused}");
        assert_eq!(refused.alarm_by(Origin::File), None, "{refused}");
    }
    // Two changes that crossed, and a disk that fails, are nobody's attack.
    for fault in [
        StoreError::Base { have: 2, got: 1 },
        StoreError::Write(std::io::Error::other("full")),
        StoreError::Database(rusqlite::Error::InvalidQuery),
    ] {
        assert_eq!(fault.alarm_by(Origin::Feed), None, "{fault}");
    }
}
