//! Property tests of data that must be rejected: anything with one flipped bit, and correctly signed data that breaks
//! an invariant.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use crate::world::{DEPLOYMENT, T0, World, frame};
use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::decide::{Now, Reason, RequestFacts, Target, decide};
use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::replica::store::{AppliedBundle, Origin, ReplicaStore, StoreError};
use halligan::protocol::bundle::Change;
use halligan::protocol::head::SignedHead;
use halligan::protocol::keyset::Keyset;
use halligan::protocol::record::{Record, RecordKind};
use halligan::protocol::time::Time;
use halligan::protocol::token::{DagRole, DagTarget, RoleClaim, TokenRecord, verify};
use proptest::prelude::*;

const FACTS: RequestFacts<'_> =
    RequestFacts { deployment: Target::Id(DEPLOYMENT), method: "GET", uri: "/api/v2/dags", client: None };

fn flipped(bytes: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at % bytes.len();
    bytes[at] ^= 1 << bit;
    bytes
}

fn store(directory: &Path) -> ReplicaStore {
    ReplicaStore::open(&directory.join("replica.db"), World::data_plane(), World::new().pinned()).unwrap()
}

/// Returns a store that holds version 1 with two tokens.
fn filled(directory: &Path) -> ReplicaStore {
    let mut store = store(directory);
    store.apply(&*World::new().bundle(1, &World::records(2), T0), Origin::Feed, T0).unwrap();
    store
}

fn reason(store: &ReplicaStore, token: &str) -> Reason {
    let snapshot = Snapshot::build(store.load().unwrap().unwrap(), Staleness::default(), None);
    decide(Some(token.as_bytes()), &FACTS, &snapshot, Now { wall: T0.plus(60), floor: T0 }).reason()
}

fn texts(records: &[Record]) -> Vec<(RecordKind, String, String)> {
    let mut texts: Vec<_> =
        records.iter().map(|record| (record.kind, record.key.to_string(), record.body.to_string())).collect();
    texts.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_token_with_a_bit_flipped_is_refused(at: usize, bit in 0_u8..8) {
        let world = World::new();
        let token = flipped(world.value(0).as_bytes(), at, bit);
        prop_assert!(verify(&token, &world.keyset()).is_err());
        let decision =
            decide(Some(&token), &FACTS, &world.snapshot(World::records(1)), Now { wall: T0, floor: T0 });
        prop_assert!(!decision.allowed());
    }

    #[test]
    fn a_head_with_a_bit_flipped_is_refused(at: usize, bit in 0_u8..8) {
        let world = World::new();
        let head = flipped(world.head(1, &World::records(1), T0).as_bytes(), at, bit);
        if let Ok(head) = String::from_utf8(head) {
            prop_assert!(SignedHead::verify(&head, &world.keyset(), &World::data_plane()).is_err());
        }
    }

    #[test]
    fn a_keyset_with_a_bit_flipped_is_refused(at: usize, bit in 0_u8..8) {
        let world = World::new();
        if let Ok(keyset) = String::from_utf8(flipped(world.keyset.as_bytes(), at, bit)) {
            prop_assert!(Keyset::verify_first(&keyset, &world.pinned()).is_err(), "{keyset}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_bundle_with_a_bit_flipped_in_what_it_says_is_refused_and_nothing_is_written(at: usize, bit in 0_u8..8) {
        let directory = tempfile::tempdir().unwrap();
        let world = World::new();
        let plain = zstd::decode_all(&*world.bundle(1, &World::records(2), T0)).unwrap();
        let bundle = frame(&flipped(&plain, at, bit));
        let mut store = store(directory.path());
        prop_assert!(store.apply(&*bundle, Origin::Feed, T0).is_err());
        prop_assert!(store.load().unwrap().is_none());
    }

    #[test]
    fn a_bundle_damaged_on_its_way_says_nothing_else_than_it_did(at: usize, bit in 0_u8..8, cut: usize) {
        let directory = tempfile::tempdir().unwrap();
        let world = World::new();
        let whole = world.bundle(1, &World::records(2), T0);
        let mut store = store(directory.path());
        prop_assert!(store.apply(&whole[..cut % whole.len()], Origin::Feed, T0).is_err());
        prop_assert!(store.load().unwrap().is_none());
        // Some bits of the zstd frame have no meaning, so a flipped one may be accepted. The content must be unchanged
        // then.
        if store.apply(&*flipped(&whole, at, bit), Origin::Feed, T0).is_ok() {
            prop_assert_eq!(texts(&store.load().unwrap().unwrap().records), texts(&World::records(2)));
        }
    }

    #[test]
    fn a_stored_record_with_a_bit_flipped_is_refused_at_start(column in 0_usize..2, row in 0_u8..4, at: usize, bit in 0_u8..7) {
        let directory = tempfile::tempdir().unwrap();
        drop(filled(directory.path()));
        let connection = rusqlite::Connection::open(directory.path().join("replica.db")).unwrap();
        let (kind, key, body): (String, String, String) = connection
            .query_row("SELECT kind, key, body FROM record ORDER BY key LIMIT 1 OFFSET ?1", [row], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        let name = ["key", "body"][column];
        let changed = flipped([&key, &body][column].as_bytes(), at, bit);
        let changed = String::from_utf8(changed).unwrap();
        let written = connection
            .execute(&format!("UPDATE record SET {name} = ?3 WHERE kind = ?1 AND key = ?2"), (&kind, &key, changed));
        // The database refuses a change to the key of another record.
        prop_assume!(written.is_ok());
        prop_assert!(matches!(store(directory.path()).load(), Err(StoreError::Digest(1))));
    }

    #[test]
    fn any_bit_of_the_database_flipped_is_found_or_means_nothing(at: usize, bit in 0_u8..8) {
        let directory = tempfile::tempdir().unwrap();
        drop(filled(directory.path()));
        let path = directory.path().join("replica.db");
        std::fs::write(&path, flipped(&std::fs::read(&path).unwrap(), at, bit)).unwrap();
        let opened = ReplicaStore::open(&path, World::data_plane(), World::new().pinned());
        if let Ok(Ok(Some(replica))) = opened.map(|store| store.load()) {
            prop_assert_eq!(texts(&replica.records), texts(&World::records(2)));
        }
    }

    #[test]
    fn the_way_to_a_replica_does_not_matter(steps in prop::collection::vec((0_usize..8, any::<bool>()), 1..12)) {
        let (stepwise, at_once) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let world = World::new();
        let mut records = World::records(0);
        let mut replica = store(stepwise.path());
        replica.apply(&*world.bundle(1, &records, T0), Origin::Feed, T0).unwrap();
        let mut version = 1;
        for (number, put) in steps {
            let record = World::record(&World::token_record(number));
            let (kind, key) = (record.kind, record.key.to_string());
            records.retain(|other| other.key != record.key);
            let change = if put {
                records.push(record.clone());
                Change::Put(record)
            } else {
                Change::Remove { kind, key }
            };
            version += 1;
            let delta = world.delta(version - 1, version, &records, vec![change], T0);
            replica.apply(&*delta, Origin::Feed, T0).unwrap();
        }
        let mut other = store(at_once.path());
        other.apply(&*world.bundle(version, &records, T0), Origin::Feed, T0).unwrap();
        prop_assert_eq!(
            texts(&replica.load().unwrap().unwrap().records),
            texts(&other.load().unwrap().unwrap().records)
        );
    }
}

/// Applies version 2, in which token 0 is `token`, to a store that holds version 1.
fn offered(store: &mut ReplicaStore, token: &TokenRecord) -> Result<AppliedBundle, StoreError> {
    let changed = World::record(token);
    let mut records = World::records(2);
    records.retain(|record| record.key != changed.key);
    records.push(changed.clone());
    let delta = World::new().delta(1, 2, &records, vec![Change::Put(changed)], T0.plus(10));
    store.apply(&*delta, Origin::Feed, T0.plus(10))
}

#[test]
fn a_role_change_is_refused_though_rightly_signed_and_the_token_keeps_its_role() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path());
    let mut token = World::token_record(0);
    token.role.id = "DAG_VIEWER@1".parse().unwrap();
    let refused = offered(&mut store, &token).unwrap_err();
    assert!(matches!(refused, StoreError::Invariant { kind: RecordKind::Token, .. }), "{refused}");
    assert_eq!(refused.alarm(), Some(AlarmKind::Invariant));
    assert_eq!(store.position().unwrap(), (1, 1));
    assert_eq!(reason(&store, &World::new().value(0)), Reason::Ok);
}

#[test]
fn a_new_generation_brings_a_new_end_and_changes_nothing_else_that_a_token_grants() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path());
    let (_, claim) = World::role();
    let first = World::token_record(0);
    let renewed = TokenRecord { generation: 2, expires_at: T0.plus(60 * 86_400), ..first.clone() };
    let on_dags = DagRole { role: claim, target: DagTarget::Dag("etl".into()) };
    for moved in [
        TokenRecord {
            role: RoleClaim { id: "DAG_VIEWER@1".parse().unwrap(), ..first.role.clone() },
            ..renewed.clone()
        },
        TokenRecord { deployment: "dep_other".parse().unwrap(), ..renewed.clone() },
        TokenRecord { dag_roles: vec![on_dags], ..renewed.clone() },
        TokenRecord { sources: vec!["10.0.0.0/8".into()], ..renewed.clone() },
        TokenRecord { rate_limit_per_minute: Some(1_000_000), ..renewed.clone() },
    ] {
        let refused = offered(&mut store, &moved).unwrap_err();
        assert!(
            matches!(refused, StoreError::Invariant { kind: RecordKind::Token, .. }),
            "{moved:?}: {refused}"
        );
        assert_eq!(store.position().unwrap(), (1, 1), "{moved:?}");
    }
    // The value of the first generation is rotated all the same. No value of the second generation allows more than
    // before.
    assert!(offered(&mut store, &renewed).unwrap().overruled.is_empty());
    assert_eq!(reason(&store, &World::new().value(0)), Reason::TokenRotated);
}

#[test]
fn a_role_of_another_content_under_the_same_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path());
    let (role, _) = World::role();
    let wider =
        Record::new(role.kind, role.key.to_string(), role.body.replace("\"version\"", " \"version\""));
    let mut records = World::records(2);
    records[0] = wider.clone();
    let delta = World::new().delta(1, 2, &records, vec![Change::Put(wider)], T0);
    let refused = store.apply(&*delta, Origin::Feed, T0).unwrap_err();
    assert!(matches!(refused, StoreError::Invariant { kind: RecordKind::Role, .. }), "{refused}");
}

#[test]
fn what_a_refused_feed_takes_away_is_gone_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path());
    let mut token = World::token_record(0);
    token.role.id = "DAG_VIEWER@1".parse().unwrap();
    token.revoked_at = Some(T0.plus(5));
    offered(&mut store, &token).unwrap_err();
    assert_eq!(reason(&store, &World::new().value(0)), Reason::TokenRevoked);
    // A later feed must not restore the token.
    assert_eq!(offered(&mut store, &World::token_record(0)).unwrap().overruled, [World::token_record(0).id]);
    assert_eq!(reason(&store, &World::new().value(0)), Reason::TokenRevoked);
    drop(store);
    assert_eq!(reason(&self::store(directory.path()), &World::new().value(0)), Reason::TokenRevoked);
}

#[test]
fn the_end_of_a_token_moves_with_its_generation_only_and_its_start_never() {
    let world = World::new();
    let later = |store: &mut ReplicaStore, token: &TokenRecord| {
        let mut records = World::records(2);
        records.retain(|record| *record.key != *token.id.as_str());
        records.push(World::record(token));
        let version = store.position().unwrap().0 + 1;
        store
            .apply(&*world.bundle(version, &records, T0.plus(20)), Origin::Feed, T0.plus(20))
            .unwrap()
            .overruled
    };
    let window = |store: &ReplicaStore| {
        let value = world.value_of(&TokenRecord {
            generation: 2,
            not_before: T0.plus(-86_400),
            expires_at: T0.plus(400 * 86_400),
            ..World::token_record(0)
        });
        let roles = [("DEPLOYMENT_ADMIN".to_owned(), i64::MAX)].into();
        let staleness = Staleness { default: i64::MAX, roles, ..Staleness::default() };
        let snapshot = Snapshot::build(store.load().unwrap().unwrap(), staleness, None);
        let at = |wall| {
            decide(Some(value.as_bytes()), &FACTS, &snapshot, Now { wall, floor: T0.plus(-86_400) }).reason()
        };
        [at(T0.plus(-60)), at(T0.plus(60)), at(T0.plus(31 * 86_400)), at(T0.plus(61 * 86_400))]
    };
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path());
    let first = World::token_record(0);
    // A rotation may set another end, which then holds for the second generation.
    let second = TokenRecord { generation: 2, expires_at: T0.plus(60 * 86_400), ..first.clone() };
    assert!(later(&mut store, &second).is_empty());
    let known = [Reason::TokenNotYetValid, Reason::Ok, Reason::Ok, Reason::TokenExpired];
    assert_eq!(window(&store), known);
    for longer in [
        TokenRecord { expires_at: T0.plus(300 * 86_400), ..second.clone() },
        TokenRecord { not_before: T0.plus(-86_400), ..second.clone() },
    ] {
        assert_eq!(later(&mut store, &longer), std::slice::from_ref(&first.id));
        assert_eq!(window(&store), known, "the record says more than was proved");
        drop(store);
        store = self::store(directory.path());
        assert_eq!(window(&store), known, "nor after another start");
    }
    // An earlier end counts, and cannot be moved back.
    assert!(
        later(&mut store, &TokenRecord { expires_at: T0.plus(30 * 86_400), ..second.clone() }).is_empty()
    );
    assert_eq!(later(&mut store, &second), std::slice::from_ref(&first.id));
    assert_eq!(
        window(&store),
        [Reason::TokenNotYetValid, Reason::Ok, Reason::TokenExpired, Reason::TokenExpired]
    );
    // The third generation has its own end, and ends the second.
    let third = TokenRecord { generation: 3, expires_at: T0.plus(500 * 86_400), ..first.clone() };
    assert!(later(&mut store, &third).is_empty());
    assert_eq!(window(&store), [Reason::TokenRotated; 4]);
}

#[test]
fn neither_version_nor_generation_nor_a_revocation_goes_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path());
    let world = World::new();
    let dead = TokenRecord { generation: 3, revoked_at: Some(T0), ..World::token_record(0) };
    offered(&mut store, &dead).unwrap();
    let again = |token: &TokenRecord, store: &mut ReplicaStore| {
        let mut records = World::records(2);
        records.retain(|record| *record.key != *token.id.as_str());
        records.push(World::record(token));
        let version = store.position().unwrap().0 + 1;
        store.apply(&*world.bundle(version, &records, T0.plus(20)), Origin::Feed, T0.plus(20))
    };
    // A control plane that takes back a revocation or a rotation has lost its history. The rest of its bundle is
    // applied, but this node does not forget.
    for forgetful in [TokenRecord { revoked_at: None, ..dead.clone() }, TokenRecord { generation: 2, ..dead }]
    {
        assert_eq!(again(&forgetful, &mut store).unwrap().overruled, [forgetful.id]);
        assert_eq!(reason(&store, &world.value(0)), Reason::TokenRevoked);
    }
    let old = world.bundle(1, &World::records(2), T0.plus(30));
    let refused = store.apply(&*old, Origin::Feed, T0.plus(30)).unwrap_err();
    assert!(matches!(refused, StoreError::Rollback { have: 4, got: 1 }), "{refused}");
}

#[test]
fn a_forked_head_is_refused_and_kept_as_evidence() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path());
    let fork = World::new().bundle(1, &World::records(3), T0.plus(10));
    assert!(matches!(store.apply(&*fork, Origin::Feed, T0.plus(10)), Err(StoreError::Fork(1))));
    drop(store);
    let forks = self::store(directory.path()).forks().unwrap();
    assert_eq!(
        forks.iter().map(|fork| (fork.version, fork.seen_at)).collect::<Vec<_>>(),
        [(1, T0.plus(10)); 2]
    );
    assert_ne!(forks[0].head, forks[1].head);
}

#[test]
fn a_frozen_feed_is_refused_and_an_old_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let (bundle, later) = (World::new().bundle(1, &World::records(1), T0), T0.plus(3600));
    assert!(matches!(store.apply(&*bundle, Origin::Feed, later), Err(StoreError::Frozen(_))));
    store.apply(&*bundle, Origin::File, later).unwrap();
    let early = Time::from_unix(0);
    assert!(matches!(store.apply(&*bundle, Origin::File, early), Err(StoreError::Future(_))));
}

#[test]
fn of_a_bundle_of_the_version_held_only_what_is_stored_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, world, records) = (filled(directory.path()), World::new(), World::records(2));
    let gone = |number: usize| Change::Remove { kind: RecordKind::Token, key: format!("tok_gone_{number}") };
    let puts = || records.iter().cloned().map(Change::Put);
    let mut take =
        |base, changes| store.apply(&*world.delta(base, 1, &records, changes, T0), Origin::Peer, T0);
    // A removal of a record that is not stored has no effect, and is not kept in memory. So it may occur twice.
    for base in [0, 1] {
        let removals = (0..1000).chain(0..1000).map(gone);
        take(base, puts().chain(removals).collect()).unwrap();
    }
    // A stored record is kept in memory, and a removal of it contradicts the head.
    let first = records[0].clone();
    let twice = puts().chain([Change::Put(first.clone())]).collect();
    assert!(matches!(take(0, twice), Err(StoreError::Twice(..))));
    let removed = puts().chain([Change::Remove { kind: first.kind, key: first.key.to_string() }]).collect();
    assert!(matches!(take(0, removed), Err(StoreError::Digest(1))));
    assert!(
        matches!(take(0, (0..1000).map(gone).collect()), Err(StoreError::Digest(1))),
        "removals are no records"
    );
}
