//! Unit tests of the store: what bundles, restarts and an operator's order to forget leave of it.

#![allow(clippy::unwrap_used)]

mod bundles;
mod nodes;
mod refusals;
mod time_floor;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::ledger::Entries;
use super::*;
use crate::dataplane::decide::snapshot::{Snapshot, Staleness};
use crate::dataplane::decide::{Now, Reason, RequestFacts, Target, decide};
use crate::protocol::bundle::{Change, write_bundle};
use crate::protocol::head::{Head, HeadError, sign_head};
use crate::protocol::key::SigningKey;
use crate::protocol::keyset::{KeyUse, KeysetBody, KeysetKey, sign_keyset};
use crate::protocol::record::RecordKind;
use crate::protocol::token::TokenRecord;
use crate::world::{DEPLOYMENT, T0, World};

const DAY: i64 = 86_400;

fn open(directory: &Path) -> ReplicaStore {
    ReplicaStore::open(&directory.join("replica.db"), World::data_plane(), World::new().pinned()).unwrap()
}

/// A store that holds version 1 of these tokens.
fn filled(directory: &Path, tokens: &[TokenRecord]) -> ReplicaStore {
    let mut store = open(directory);
    apply_snapshot(&mut store, 1, tokens).unwrap();
    store
}

fn records(tokens: &[TokenRecord]) -> Vec<Record> {
    World::records(0).into_iter().chain(tokens.iter().map(World::record)).collect()
}

/// Applies a snapshot of these tokens from the feed.
fn apply_snapshot(
    store: &mut ReplicaStore,
    version: u64,
    tokens: &[TokenRecord],
) -> Result<AppliedBundle, StoreError> {
    store.apply(&*World::new().bundle(version, &records(tokens), T0), Origin::Feed, T0)
}

/// Decides on a token at `wall`, from the records on the disk, and returns the reason.
fn reason(store: &ReplicaStore, token: &TokenRecord, wall: Time) -> Reason {
    let staleness = Staleness {
        default: i64::MAX,
        roles: [("DEPLOYMENT_ADMIN".into(), i64::MAX)].into(),
        ..Staleness::default()
    };
    let snapshot = Snapshot::from_verified(store.index().unwrap().unwrap(), staleness, None);
    let facts =
        RequestFacts { deployment: Target::Id(DEPLOYMENT), method: "GET", uri: "/api/v2/dags", client: None };
    decide(Some(World::new().value_of(token).as_bytes()), &facts, &snapshot, Now { wall, floor: wall })
        .reason()
}

/// A second keyset of the world, in which another key signs heads.
fn next_keyset() -> String {
    keyset_with(&SigningKey::from_seed(&[9; 32]), None)
}

/// A second keyset of the world, in which `other` signs heads as `iss`.
fn keyset_with(other: &SigningKey, iss: Option<&str>) -> String {
    let world = World::new();
    let listed = |key_use, key: &SigningKey| KeysetKey { key_use, jwk: key.public().jwk() };
    let body = KeysetBody {
        iss: iss.map(Into::into),
        version: 2,
        iat: T0,
        exp: T0.plus(365 * DAY),
        keys: vec![listed(KeyUse::Token, &world.token), listed(KeyUse::Replica, other)],
        roots: vec![world.root.public().jwk()],
        threshold: 1,
    };
    sign_keyset(&body, &[&world.root])
}

#[test]
fn an_exported_replica_is_the_replica_of_the_node_that_takes_it() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(open(one.path()).export().unwrap(), None);
    let token = World::token_record(0);
    let exported = filled(one.path(), std::slice::from_ref(&token)).export().unwrap().unwrap();
    let mut store = open(other.path());
    store.apply(&*exported, Origin::File, T0).unwrap();
    assert_eq!(store.position().unwrap(), (1, 1));
    assert_eq!(reason(&store, &token, T0), Reason::Ok);
}

#[test]
fn a_replica_that_is_forgotten_leaves_what_was_taken_away_and_pins_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let [revoked, rotated, other] = [0, 1, 2].map(World::token_record);
    let dead = TokenRecord { revoked_at: Some(T0), ..revoked.clone() };
    let second = TokenRecord { generation: 2, ..rotated.clone() };
    let mut store = filled(directory.path(), &[dead, second, other.clone()]);
    store.raise_floor(T0.plus(5)).unwrap();
    store.forget().unwrap();
    assert!(store.load().unwrap().is_none() && store.index().unwrap().is_none());
    assert_eq!((store.position().unwrap(), store.floor().unwrap()), ((0, 1), T0.plus(5)));
    assert!(store.standing().unwrap().is_none() && store.prove().unwrap().is_none());
    assert!(store.scrub().unwrap().is_none());
    // An older history is taken now, and another role and another end of a token with it.
    let mut changed = TokenRecord { expires_at: T0.plus(90 * DAY), ..other.clone() };
    changed.sources = vec!["10.0.0.0/8".into()];
    let taken = apply_snapshot(&mut store, 1, &[revoked.clone(), rotated.clone(), changed.clone()]).unwrap();
    assert_eq!(taken.overruled, [revoked.id.clone(), rotated.id.clone()]);
    assert_eq!(reason(&store, &revoked, T0), Reason::TokenRevoked);
    assert_eq!(reason(&store, &rotated, T0), Reason::TokenRotated);
    assert_eq!(reason(&store, &changed, T0.plus(31 * DAY)), Reason::SourceNotAllowed, "it lasts longer");
}

#[test]
fn a_replica_whose_rows_are_gone_is_missed_and_one_that_was_forgotten_is_not() {
    let directory = tempfile::tempdir().unwrap();
    assert!(!open(directory.path()).is_emptied().unwrap(), "a first start");
    let mut store = filled(directory.path(), &[World::token_record(0)]);
    assert!(!store.is_emptied().unwrap());
    store.forget().unwrap();
    assert!(!store.is_emptied().unwrap() && !open(directory.path()).is_emptied().unwrap());
    apply_snapshot(&mut store, 1, &[World::token_record(0)]).unwrap();
    store.connection.execute_batch("DELETE FROM head; DELETE FROM record; DELETE FROM ledger").unwrap();
    drop(store);
    assert!(open(directory.path()).is_emptied().unwrap());
}

/// The replica holds the number of a token's generation, not its history. `docs/threat-model.md` says what this means.
#[test]
fn a_value_of_a_lost_history_opens_again_once_the_new_history_has_a_generation_of_its_number() {
    let directory = tempfile::tempdir().unwrap();
    let first = World::token_record(0);
    let rotated = |days| {
        let expires_at = first.expires_at.plus(days * DAY);
        TokenRecord { generation: 2, expires_at, ..first.clone() }
    };
    let (lost, new) = (rotated(1), rotated(2));
    let mut store = filled(directory.path(), std::slice::from_ref(&lost));
    assert_eq!(reason(&store, &lost, T0), Reason::Ok);
    // The control plane was restored from a backup of before the rotation, and has recovered.
    apply_snapshot(&mut store, 2, std::slice::from_ref(&first)).unwrap();
    assert_eq!(
        (reason(&store, &first, T0), reason(&store, &lost, T0)),
        (Reason::TokenRotated, Reason::TokenUnknown)
    );
    apply_snapshot(&mut store, 3, std::slice::from_ref(&new)).unwrap();
    assert_eq!((reason(&store, &new, T0), reason(&store, &lost, T0)), (Reason::Ok, Reason::Ok));
    // Neither outlives the earlier of the two ends. The second rotation ends both.
    assert_eq!(reason(&store, &new, lost.expires_at), Reason::TokenExpired);
    let next = TokenRecord { generation: 3, ..new.clone() };
    apply_snapshot(&mut store, 4, std::slice::from_ref(&next)).unwrap();
    assert_eq!((reason(&store, &next, T0), reason(&store, &lost, T0)), (Reason::Ok, Reason::TokenRotated));
}

#[test]
fn a_head_whose_key_was_removed_counts_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let token = World::token_record(0);
    let mut store = filled(directory.path(), std::slice::from_ref(&token));
    let (keyset, head) = store.standing().unwrap().unwrap();
    assert_eq!((keyset.version(), head.head().version), (1, 1));
    store.follow(&[next_keyset()], T0).unwrap();
    for store in [&store, &open(directory.path())] {
        assert_eq!(store.position().unwrap(), (0, 2), "a head of any version is news");
        assert!(matches!(store.standing(), Err(StoreError::Superseded(2))));
        assert!(matches!(store.load(), Err(StoreError::Superseded(2))));
        assert!(matches!(store.index(), Err(StoreError::Superseded(2))));
        assert!(matches!(store.prove(), Err(StoreError::Superseded(2))));
    }
}

#[test]
fn a_head_of_an_issuer_that_was_replaced_counts_no_more_and_what_was_dead_stays_dead() {
    let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
    let token = World::token_record(0);
    let dead = TokenRecord { revoked_at: Some(T0), ..token.clone() };
    let mut store = filled(directory.path(), std::slice::from_ref(&dead));
    let keyset = keyset_with(&world.replica, Some("https://new.example"));
    store.follow(std::slice::from_ref(&keyset), T0).unwrap();
    for store in [&store, &open(directory.path())] {
        assert_eq!(store.position().unwrap(), (0, 2), "a head of any version is news");
        for refused in [
            store.standing().map(drop),
            store.load().map(drop),
            store.index().map(drop),
            store.prove().map(drop),
        ] {
            assert!(matches!(refused, Err(StoreError::Superseded(2))), "{refused:?}");
        }
    }
    // A head of the old issuer is no way back, and the new issuer's is taken.
    let all = records(std::slice::from_ref(&token));
    let old = store.apply(&*world.bundle(2, &all, T0), Origin::Feed, T0);
    assert!(matches!(old, Err(StoreError::Head(HeadError::Issuer { .. }))), "{old:?}");
    let head = Head { iss: "https://new.example".into(), ..World::stated(1, &all, T0) };
    let head = sign_head(&head, &world.replica);
    let new = write_bundle(&[&keyset], &head, 0, all.into_iter().map(Change::Put)).unwrap();
    let applied = store.apply(&*new, Origin::Feed, T0).unwrap();
    assert_eq!(store.position().unwrap(), (1, 2));
    assert_eq!(applied.overruled, [token.id], "the ledger stays");
}

#[test]
fn a_record_about_another_token_than_its_key_names_pins_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let token = World::token_record(0);
    let other = TokenRecord { generation: 2, sources: vec!["10.0.0.0/8".into()], ..World::token_record(1) };
    let faulty = Record::new(RecordKind::Token, token.id.as_str(), &*World::record(&other).body);
    let mut store = open(directory.path());
    let all = [records(&[]), vec![faulty]].concat();
    store.apply(&*World::new().bundle(1, &all, T0), Origin::Feed, T0).unwrap();
    assert_eq!(reason(&store, &token, T0), Reason::TokenUnknown);
    // The control plane is mended.
    assert!(apply_snapshot(&mut store, 2, std::slice::from_ref(&token)).unwrap().overruled.is_empty());
    assert_eq!(reason(&store, &token, T0), Reason::Ok);
}

/// Returns records that a feed offers to a store with tokens 0 to 3 as they were made: one for other networks, one that was
/// rotated, one that was revoked, one as it was, and a new one that was rotated and revoked.
fn news() -> [TokenRecord; 5] {
    let mut news = [0, 1, 2, 3, 4].map(World::token_record);
    news[0].sources = vec!["10.0.0.0/8".into()];
    news[1].generation = 2;
    news[2].revoked_at = Some(T0);
    (news[4].generation, news[4].revoked_at) = (2, Some(T0));
    news
}

#[test]
fn of_a_bundle_that_breaks_an_invariant_what_it_takes_away_is_kept_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let held = [0, 1, 2, 3, 4].map(World::token_record);
    let mut store = filled(directory.path(), &held[..4]);
    let refused = apply_snapshot(&mut store, 2, &news()).unwrap_err();
    assert!(matches!(refused, StoreError::Invariant { .. }), "{refused}");
    for store in [&store, &open(directory.path())] {
        assert_eq!(store.position().unwrap().0, 1);
        assert_eq!(
            held.each_ref().map(|token| reason(store, token, T0)),
            [Reason::Ok, Reason::TokenRotated, Reason::TokenRevoked, Reason::Ok, Reason::TokenUnknown]
        );
    }
}

#[test]
fn only_what_a_bundle_takes_from_known_tokens_is_collected() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path(), &[0, 1, 2, 3].map(World::token_record));
    let transaction = store.connection.transaction().unwrap();
    let losses = || {
        let mut entries = Entries::default();
        for record in records(&news()) {
            entries.enter(&transaction, &record).unwrap();
        }
        let losses = entries.losses.into_iter().map(|loss| (loss.token, loss.generation, loss.revoked));
        losses.collect::<Vec<_>>()
    };
    let [_, rotated, revoked, ..] = news().map(|token| token.id);
    assert_eq!(losses(), [(rotated, 2, false), (revoked, 1, true)]);
    assert_eq!(losses(), [], "they are known now");
}

#[test]
fn a_head_that_is_held_already_is_no_news_and_an_earlier_one_is_if_the_held_one_is_ahead() {
    let directory = tempfile::tempdir().unwrap();
    let (world, all) = (World::new(), records(&[]));
    let mut store = open(directory.path());
    store.apply(&*world.bundle(1, &all, T0.plus(100)), Origin::Feed, T0).unwrap();
    for (signed, origin, news) in
        [(100, Origin::Feed, false), (50, Origin::Peer, false), (50, Origin::Feed, true)]
    {
        let again = world.delta(1, 1, &all, vec![], T0.plus(signed));
        assert_eq!(store.apply(&*again, origin, T0).unwrap().delta.is_some(), news, "{signed} {origin:?}");
    }
    assert_eq!(store.standing().unwrap().unwrap().1.head().iat, T0.plus(50));
    // The held one is of this very second, so it is not ahead.
    let again = world.delta(1, 1, &all, vec![], T0.plus(40));
    assert!(store.apply(&*again, Origin::Feed, T0.plus(50)).unwrap().delta.is_none());
}

#[test]
fn a_record_that_stands_twice_is_refused_and_a_full_disk_is_not_taken_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let token = World::token_record(0);
    let mut store = open(directory.path());
    let refused = apply_snapshot(&mut store, 1, &[token.clone(), token.clone()]).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Twice(RecordKind::Token, key) if *key == token.id.as_str()),
        "{refused}"
    );
    let pages: i64 = store.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    store.connection.pragma_update(None, "max_page_count", pages + 8).unwrap();
    let many: Vec<_> = (0..600).map(World::token_record).collect();
    let refused = apply_snapshot(&mut store, 1, &many).unwrap_err();
    assert!(matches!(refused, StoreError::Database(_)), "{refused}");
}

#[test]
fn a_delta_may_remove_all_there_was_and_store_all_there_is_and_nothing_more() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let before = records(&[World::token_record(0)]);
    let after: Vec<_> = (1..=4).map(|number| World::record(&World::token_record(number))).collect();
    let removed =
        before.iter().map(|record| Change::Remove { kind: record.kind, key: record.key.to_string() });
    let changes: Vec<_> = removed.chain(after.iter().cloned().map(Change::Put)).collect();
    let follow = |directory: &Path, stated: &[Record], changes: &[Change]| {
        let mut store = filled(directory, &[World::token_record(0)]);
        store.apply(&*World::new().delta(1, 2, stated, changes.to_vec(), T0), Origin::Feed, T0)
    };
    let refused = follow(one.path(), &after[..3], &changes).unwrap_err();
    assert!(matches!(refused, StoreError::TooMany(2)), "{refused}");
    let (base, delta) = follow(other.path(), &after, &changes).unwrap().delta.unwrap();
    assert_eq!((base.version, delta.changes.len()), (1, changes.len()), "it is kept, for the index");
}

#[test]
fn a_file_of_the_keysets_seen_that_lacks_the_newest_gets_it_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("replica.keysets");
    let seen = || std::fs::read_to_string(&file).unwrap();
    drop(filled(directory.path(), &[]));
    let first = seen();
    open(directory.path()).follow(&[next_keyset()], T0).unwrap();
    let both = seen();
    assert_eq!((first.lines().count(), both.lines().count()), (1, 2));
    // The newest one could not be written.
    std::fs::write(&file, first).unwrap();
    drop(open(directory.path()));
    assert_eq!(seen(), both);
    // One that lacks nothing is not written again.
    let before = std::fs::metadata(&file).unwrap().ino();
    drop(open(directory.path()));
    assert_eq!(std::fs::metadata(&file).unwrap().ino(), before);
}

#[test]
fn a_host_that_has_seen_no_keyset_writes_no_file_of_them() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        drop(open(directory.path()));
        assert!(!directory.path().join("replica.keysets").exists());
    }
}

#[test]
fn a_scrub_reads_every_record_once_and_holds_for_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let tokens: Vec<_> = (0..600).map(World::token_record).collect();
    let store = filled(directory.path(), &tokens);
    let scrub = || {
        let mut scrub = store.scrub().unwrap().unwrap();
        let mut steps = 0;
        while scrub.step().unwrap() {
            assert!(!scrub.holds() || steps > 1, "not before it has read everything");
            steps += 1;
        }
        (steps, scrub.holds())
    };
    assert_eq!(scrub(), (3, true), "in shares, so that it holds up nothing");
    let connection = Connection::open(directory.path().join("replica.db")).unwrap();
    connection.execute("DELETE FROM record WHERE key = ?1", [tokens[599].id.as_str()]).unwrap();
    assert_eq!(scrub(), (3, false));
}

#[test]
fn each_history_that_a_control_plane_signed_is_evidence_once() {
    let directory = tempfile::tempdir().unwrap();
    let (world, store) = (World::new(), open(directory.path()));
    let signed = |number, at| {
        let head = world.head(1, &records(&[World::token_record(number)]), at);
        SignedHead::verify(&head, &world.keyset(), &World::data_plane()).unwrap()
    };
    let rows = [(1, T0, true), (1, T0, false), (1, T0.plus(5), false), (2, T0, true)];
    for (number, at, new) in rows {
        assert_eq!(
            store.keep_fork(&signed(0, T0), &signed(number, at), T0.plus(9)).unwrap(),
            new,
            "{number} {at}"
        );
    }
    let told: Vec<_> =
        store.forks().unwrap().into_iter().map(|fork| (fork.version, fork.seen_at, fork.head)).collect();
    assert_eq!(told, [0, 1, 2].map(|number| (1, T0.plus(9), signed(number, T0).as_str().to_owned())));
}
