//! Rotation of root keys. A host starts from the roots that it pins, and a root that was succeeded proves nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use crate::world::{ISSUER, T0, World};
use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::node::inventory::Inventory;
use halligan::dataplane::node::state::Live;
use halligan::dataplane::replica::replication::Replication;
use halligan::dataplane::replica::store::{Origin, ReplicaStore, StoreError};
use halligan::protocol::bundle::{Change, write_bundle};
use halligan::protocol::head::HeadError;
use halligan::protocol::key::SigningKey;
use halligan::protocol::keyset::{
    KeyUse, KeysetBody, KeysetError, KeysetKey, RootSet, UnverifiedKeyset, sign_keyset,
};
use halligan::protocol::time::Time;

fn root(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn pins(seed: u8) -> RootSet {
    RootSet::new(vec![root(seed).public().clone()], 1).unwrap()
}

/// Returns a keyset of the world's keys that names root `next`, signed by `signers`. Two keysets of one version differ
/// in `days`.
fn keyset(version: u64, next: u8, signers: &[u8], days: i64) -> String {
    let world = World::new();
    let listed = |key_use, key: &SigningKey| KeysetKey { key_use, jwk: key.public().jwk() };
    let body = KeysetBody {
        iss: None,
        version,
        iat: T0,
        exp: T0.plus(days * 86_400),
        keys: vec![listed(KeyUse::Token, &world.token), listed(KeyUse::Replica, &world.replica)],
        roots: vec![root(next).public().jwk()],
        threshold: 1,
    };
    let signers: Vec<_> = signers.iter().map(|&seed| root(seed)).collect();
    sign_keyset(&body, &signers.iter().collect::<Vec<_>>())
}

/// Returns a chain of keysets: root 21 signs version 1, hands over to root 22 in version 2, and root 22 alone signs
/// version 3.
fn genuine() -> Vec<String> {
    vec![keyset(1, 21, &[21], 365), keyset(2, 22, &[21, 22], 365), keyset(3, 22, &[22], 365)]
}

/// Returns a keyset that root 21 alone signs long after it was succeeded.
fn retired() -> String {
    keyset(900, 21, &[21], 365)
}

fn open(path: &Path, seed: u8) -> ReplicaStore {
    ReplicaStore::open(path, World::data_plane(), pins(seed)).unwrap()
}

/// Deletes the replica, as a start does with one that cannot be proved.
fn lose(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    Inventory::beside(path).forget("replica.db").unwrap();
}

#[test]
fn a_host_that_pins_only_the_new_root_follows_the_genuine_chain() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&directory.path().join("replica.db"), 22);
    assert_eq!(store.follow(&genuine(), T0).unwrap().version(), 3);
    // The same chain again, or only its end, changes nothing.
    for start in 0..3 {
        assert_eq!(store.follow(&genuine()[start..], T0).unwrap().version(), 3);
    }
    let next = keyset(4, 22, &[22], 365);
    assert_eq!(store.follow(&[genuine(), vec![next]].concat(), T0).unwrap().version(), 4);
    assert!(matches!(store.follow(&[retired()], T0), Err(StoreError::Keyset(KeysetError::Threshold { .. }))));
}

#[test]
fn a_retired_root_leads_nowhere_on_a_host_that_has_seen_its_successor_though_its_replica_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("replica.db");
    assert_eq!(open(&path, 21).follow(&genuine(), T0).unwrap().version(), 3);
    for _ in 0..2 {
        lose(&path);
        // The host still pins only the old root.
        let mut store = open(&path, 21);
        assert_eq!(store.position().unwrap(), (0, 3), "it goes on where it had been");
        assert!(store.follow(&[retired()], T0).is_err());
        assert_eq!(store.follow(&genuine(), T0).unwrap().version(), 3);
    }
    // The same holds if the pins were replaced meanwhile.
    lose(&path);
    let mut store = open(&path, 22);
    assert_eq!(store.position().unwrap().1, 3);
    assert!(store.follow(&[retired()], T0).is_err());
}

#[test]
fn a_host_that_followed_a_retired_root_is_mended_by_new_pins() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("replica.db");
    // A host that has seen no keyset cannot know that the root was succeeded.
    let mut store = open(&path, 21);
    assert_eq!(store.follow(&[retired()], T0).unwrap().version(), 900);
    assert!(store.pin(pins(22)).is_err(), "the new root does not vouch for it");
    drop(store);
    // A start with the new pins moves the replica aside, with the file of the keysets that it has seen.
    lose(&path);
    let mut store = open(&path, 22);
    assert_eq!(store.position().unwrap(), (0, 0));
    assert!(directory.path().join("replica.keysets.unproved-0").exists());
    assert_eq!(store.follow(&genuine(), T0).unwrap().version(), 3);
}

/// Returns the content of the first `replica.keysets` file that was moved aside.
fn set_aside(directory: &Path) -> Option<Vec<u8>> {
    std::fs::read(directory.join("replica.keysets.unproved-0")).ok()
}

#[test]
fn a_file_of_the_keysets_seen_that_cannot_be_read_is_moved_aside_and_kept() {
    let genuine = format!("{}\n", genuine().join("\n")).into_bytes();
    let cut = genuine[..genuine.len() - 9].to_vec();
    for damaged in [&b"\xff\xfe"[..], &[&genuine[..], b"\xff"].concat(), b"", b"\n", b"[]\n", &cut] {
        for lost in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let (path, file) =
                (directory.path().join("replica.db"), directory.path().join("replica.keysets"));
            open(&path, 21).follow(&self::genuine(), T0).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), genuine);
            std::fs::write(&file, damaged).unwrap();
            if lost {
                lose(&path);
            }
            let mut store = open(&path, 21);
            assert_eq!(set_aside(directory.path()).as_deref(), Some(damaged));
            // A database that is present still contains the chain, so the file is written again.
            assert_eq!(store.position().unwrap().1, if lost { 0 } else { 3 });
            assert_eq!(file.exists(), !lost);
            store.follow(&self::genuine(), T0).unwrap();
            drop(store);
            assert_eq!(std::fs::read(&file).unwrap(), genuine);
            open(&path, 21);
            assert!(!directory.path().join("replica.keysets.unproved-1").exists());
        }
    }
    // A directory in place of the file is moved aside, too.
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("replica.keysets")).unwrap();
    open(&directory.path().join("replica.db"), 21).follow(&self::genuine(), T0).unwrap();
    assert!(directory.path().join("replica.keysets.unproved-0").is_dir());
    assert_eq!(std::fs::read(directory.path().join("replica.keysets")).unwrap(), genuine);
}

#[test]
fn a_file_of_the_keysets_seen_that_cannot_be_moved_aside_is_not_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("replica.keysets");
    std::fs::write(&file, "damaged").unwrap();
    for number in 0..1000 {
        std::fs::write(directory.path().join(format!("replica.keysets.unproved-{number}")), "").unwrap();
    }
    open(&directory.path().join("replica.db"), 21).follow(&genuine(), T0).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "damaged");
    std::fs::remove_file(directory.path().join("replica.keysets.unproved-7")).unwrap();
    assert_eq!(open(&directory.path().join("replica.db"), 21).position().unwrap().1, 3);
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 3);
}

#[test]
fn a_replica_put_back_from_an_older_backup_goes_on_from_the_keysets_this_host_has_seen() {
    let directory = tempfile::tempdir().unwrap();
    let (path, backup) = (directory.path().join("replica.db"), directory.path().join("backup.db"));
    open(&path, 21).follow(&genuine()[..1], T0).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    open(&path, 21).follow(&genuine(), T0).unwrap();
    lose(&path);
    std::fs::copy(&backup, &path).unwrap();
    let mut store = open(&path, 21);
    assert_eq!(store.position().unwrap().1, 3);
    // Root 21 was succeeded in version 2, so it cannot sign another version 2 alone.
    let other = keyset(2, 21, &[21], 365);
    assert!(matches!(store.follow(&[other], T0), Err(StoreError::KeysetFork(2))));
    drop(store);
    // A file that contradicts the database is evidence, and is moved aside.
    let file = directory.path().join("replica.keysets");
    let contrary = [keyset(1, 21, &[21], 365), keyset(2, 22, &[21, 22], 100)].join("\n");
    std::fs::write(&file, &contrary).unwrap();
    let store = open(&path, 21);
    assert_eq!(store.position().unwrap().1, 3);
    assert_eq!(set_aside(directory.path()).unwrap(), contrary.as_bytes());
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 3);
    assert_eq!(store.forks().unwrap().len(), 3);
}

#[test]
fn pins_are_replaced_on_a_host_that_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("replica.db");
    let mut store = open(&path, 21);
    store.follow(&genuine(), T0).unwrap();
    store.pin(pins(22)).unwrap();
    assert_eq!(store.position().unwrap().1, 3);
    assert!(store.pin(pins(23)).is_err());
    drop(store);
    assert_eq!(open(&path, 22).position().unwrap().1, 3);
}

#[test]
fn two_rightly_signed_keysets_of_one_version_are_kept_as_evidence() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("replica.db"), 21);
    let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), T0));
    let replication = Replication::new(store, Arc::clone(&live), Staleness::default());
    replication.follow(&genuine(), T0).unwrap();
    let other = [
        (1, keyset(1, 21, &[21], 100)),
        (2, keyset(2, 21, &[21], 365)),
        (3, keyset(3, 22, &[22], 100)),
        (3, keyset(3, 23, &[22, 23], 365)),
    ];
    for (number, (version, text)) in (1_u64..).zip(other) {
        // Each keyset is offered as an imported file, and at the start of a bundle.
        assert!(
            matches!(replication.follow(std::slice::from_ref(&text), T0), Err(StoreError::KeysetFork(of)) if of == version)
        );
        let bundle = write_bundle(&[text], "a.b.c", 0, Vec::new()).unwrap();
        assert!(matches!(
            replication.apply_bundle(&*bundle, Origin::Feed, T0),
            Err(StoreError::KeysetFork(_))
        ));
        assert_eq!(live.alarms.count(AlarmKind::Fork), number);
    }
    let forks = replication.forks().unwrap();
    let kept = |version| forks.iter().filter(|fork| fork.what == "keyset" && fork.version == version).count();
    assert_eq!((kept(1), kept(2), kept(3)), (2, 2, 3), "{forks:?}");
    assert_eq!(replication.position().unwrap().1, 3, "the one held stays in force");
    // A keyset without valid signatures is no evidence.
    for wrong in [keyset(2, 22, &[22], 100), keyset(3, 22, &[21], 100), keyset(1, 21, &[9], 100)] {
        assert!(matches!(replication.follow(&[wrong], T0), Err(StoreError::Keyset(_))));
    }
    assert_eq!(replication.forks().unwrap().len(), forks.len());
}

#[test]
fn evidence_of_two_keysets_is_bounded_and_dated_by_the_clock_that_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&directory.path().join("replica.db"), 21);
    store.follow(&genuine(), T0).unwrap();
    // The same keyset with further signatures by unknown roots is the same evidence.
    for number in 0..20 {
        let mut copy = UnverifiedKeyset::parse(&keyset(3, 22, &[22], 100)).unwrap();
        copy.sign(&root(100 + number));
        let offered = store.follow(&[copy.to_line()], T0.plus(7 + i64::from(number)));
        assert!(matches!(offered, Err(StoreError::KeysetFork(3))));
    }
    let forks = store.forks().unwrap();
    assert_eq!(forks.iter().map(|fork| fork.seen_at).collect::<Vec<_>>(), [T0.plus(7); 2]);
    // The number of kept keysets is bounded.
    for days in 101..130 {
        let offered = store.follow(&[keyset(3, 22, &[22], days)], T0);
        assert!(matches!(offered, Err(StoreError::KeysetFork(3))));
    }
    assert_eq!(store.forks().unwrap().len(), 16);
}

#[test]
fn a_keyset_names_the_issuer_of_the_heads_under_it() {
    let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
    let listed = |key_use, key: &SigningKey| KeysetKey { key_use, jwk: key.public().jwk() };
    let named = |iss: Option<&str>| {
        let body = KeysetBody {
            iss: iss.map(str::to_owned),
            version: 1,
            iat: T0,
            exp: T0.plus(86_400),
            keys: vec![listed(KeyUse::Token, &world.token), listed(KeyUse::Replica, &world.replica)],
            roots: vec![world.root.public().jwk()],
            threshold: 1,
        };
        sign_keyset(&body, &[&world.root])
    };
    let records = World::records(1);
    let head = world.head(1, &records, T0);
    for (iss, taken) in
        [(None, true), (Some(ISSUER), true), (Some("https://other.example"), false), (Some(""), false)]
    {
        let path = directory.path().join(format!("{iss:?}.db").replace('/', "_"));
        let mut store = ReplicaStore::open(&path, World::data_plane(), world.pinned()).unwrap();
        let changes = records.iter().cloned().map(Change::Put);
        let bundle = write_bundle(&[named(iss)], &head, 0, changes).unwrap();
        match store.apply(&*bundle, Origin::Feed, T0) {
            Ok(_) => assert!(taken, "{iss:?}"),
            Err(error) => {
                assert!(!taken && matches!(error, StoreError::Head(HeadError::Issuer { .. })), "{error}");
            }
        }
    }
}

#[test]
fn a_head_beyond_the_last_version_is_refused_and_nothing_breaks_below_it() {
    let (directory, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store =
        ReplicaStore::open(&directory.path().join("r.db"), World::data_plane(), world.pinned()).unwrap();
    let last = (1 << 53) - 1;
    let (one, two) = (World::records(1), World::records(2));
    store.apply(&*world.bundle(last - 1, &one, T0), Origin::Feed, T0).unwrap();
    for version in [last + 1, 1 << 62, 1 << 63, u64::MAX] {
        let refused = store.apply(&*world.bundle(version, &two, T0), Origin::Feed, T0).unwrap_err();
        assert!(refused.alarm() == Some(AlarmKind::Refused), "{version}: {refused}");
    }
    store.apply(&*world.bundle(last, &one, T0.plus(1)), Origin::Feed, T0).unwrap();
    assert!(matches!(
        store.apply(&*world.bundle(last, &two, T0.plus(2)), Origin::Feed, T0),
        Err(StoreError::Fork(_))
    ));
    assert_eq!(store.forks().unwrap().len(), 2, "the fork is kept at the last version, too");
    assert!(store.load().unwrap().is_some());
}
