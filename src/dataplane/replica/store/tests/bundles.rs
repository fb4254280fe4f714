//! Unit tests of what proves a bundle: its head, the clock, and the records on the disk.

use super::*;

#[test]
fn a_head_may_be_ahead_of_this_clock_by_five_minutes_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let (world, all) = (World::new(), records(&[]));
    let mut store = open(directory.path());
    let ahead = T0.plus(301);
    let refused = store.apply(&*world.bundle(1, &all, ahead), Origin::Feed, T0).unwrap_err();
    assert!(matches!(refused, StoreError::Future(at) if at == ahead), "{refused}");
    store.apply(&*world.bundle(1, &all, T0.plus(300)), Origin::Feed, T0).unwrap();
}

#[test]
fn a_snapshot_of_other_records_than_its_head_was_signed_for_is_refused_and_more_of_them_are_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new();
    let stated = records(&[World::token_record(0)]);
    let with = |numbers: &[usize]| {
        let tokens: Vec<_> = numbers.iter().copied().map(World::token_record).collect();
        let changes = records(&tokens).into_iter().map(Change::Put).collect();
        world.delta(0, 1, &stated, changes, T0)
    };
    let mut store = open(directory.path());
    let mut take = |numbers: &[usize]| store.apply(&*with(numbers), Origin::Feed, T0).map(drop);
    assert!(matches!(take(&[1]), Err(StoreError::Digest(1))), "another record");
    assert!(matches!(take(&[]), Err(StoreError::Digest(1))), "one is missing");
    assert!(matches!(take(&[0, 1]), Err(StoreError::TooMany(1))), "one more");
    take(&[0]).unwrap();
}

#[test]
fn a_delta_tells_the_index_what_this_node_knows_of_its_tokens_beyond_their_records() {
    let directory = tempfile::tempdir().unwrap();
    let [first, other] = [0, 1].map(World::token_record);
    let dead = TokenRecord { generation: 2, revoked_at: Some(T0), ..first.clone() };
    let mut store = filled(directory.path(), &[dead]);
    // The control plane has forgotten it.
    let after = records(&[first.clone(), other.clone()]);
    let put = [&first, &other].map(|token| Change::Put(World::record(token)));
    let delta = World::new().delta(1, 2, &after, put.to_vec(), T0);
    let (_, delta) = store.apply(&*delta, Origin::Feed, T0).unwrap().delta.unwrap();
    let known: Vec<_> =
        delta.losses.iter().map(|known| (&known.token, known.generation, known.revoked)).collect();
    assert_eq!(known, [(&first.id, 2, true)]);
}

#[test]
fn a_delta_is_proved_by_what_is_on_the_disk_if_another_process_has_written_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path(), &[0, 1].map(World::token_record));
    let other = Connection::open(directory.path().join("replica.db")).unwrap();
    other.execute("UPDATE record SET body = '{}' WHERE kind = 'token' AND key LIKE '%1'", []).unwrap();
    let (all, added) = ([0, 1, 2].map(World::token_record), World::record(&World::token_record(2)));
    let delta = World::new().delta(1, 2, &records(&all), vec![Change::Put(added)], T0);
    let refused = store.apply(&*delta, Origin::Feed, T0).unwrap_err();
    assert!(matches!(refused, StoreError::History { .. }), "{refused}");
}

#[test]
fn a_delta_is_proved_without_the_records_that_it_leaves_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path(), &[0, 1].map(World::token_record));
    // The store's own connection writes this, so the store still takes its last proof for valid.
    store
        .connection
        .execute("UPDATE record SET body = '{}' WHERE kind = 'token' AND key LIKE '%1'", [])
        .unwrap();
    let (all, added) = ([0, 1, 2].map(World::token_record), World::record(&World::token_record(2)));
    let delta = World::new().delta(1, 2, &records(&all), vec![Change::Put(added)], T0);
    store.apply(&*delta, Origin::Feed, T0).unwrap();
    assert!(matches!(store.prove(), Err(StoreError::Digest(2))), "a scrub finds it");
}
