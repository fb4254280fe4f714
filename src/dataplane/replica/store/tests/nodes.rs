//! Unit tests of what the store keeps of nodes.

use super::*;
use crate::protocol::id::NodeId;
use crate::protocol::record::NodeRecord;
use crate::protocol::signer::Signers;

/// Applies version `version` of a replica in which the node was retired at these times, as a snapshot or as a delta to the
/// version before, and returns the nodes that it readmits.
fn apply_node(store: &mut ReplicaStore, version: u64, base: u64, retired_at: Option<Time>) -> Vec<NodeId> {
    let world = World::new();
    let node = NodeRecord {
        id: "nod_a".parse().unwrap(),
        name: "a".into(),
        key: SigningKey::from_seed(&[8; 32]).public().jwk(),
        retired_at,
    };
    let record = Record::new(RecordKind::Node, "nod_a", serde_json::to_string(&node).unwrap());
    let mut all = World::records(0);
    all.push(record.clone());
    let bundle = match base {
        0 => world.bundle(version, &all, T0),
        _ => world.delta(base, version, &all, vec![Change::Put(record)], T0),
    };
    store.apply(&*bundle, Origin::Feed, T0).unwrap().readmitted
}

#[test]
fn a_node_that_was_retired_stays_retired_when_its_record_calls_it_a_member_again() {
    let directory = tempfile::tempdir().unwrap();
    let node: NodeId = "nod_a".parse().unwrap();
    let mut store = open(directory.path());
    let indexed = |store: &ReplicaStore| {
        let retired = |signers: &Signers| signers.get(&"nod_a".parse().unwrap()).unwrap().retired_at;
        let read = Snapshot::from_verified(store.index().unwrap().unwrap(), Staleness::default(), None);
        let loaded = Snapshot::build(store.load().unwrap().unwrap(), Staleness::default(), None);
        let found = retired(&read.signers());
        assert_eq!(retired(&loaded.signers()), found);
        found
    };
    assert_eq!((apply_node(&mut store, 1, 0, None), indexed(&store)), (vec![], None));
    assert_eq!((apply_node(&mut store, 2, 1, Some(T0)), indexed(&store)), (vec![], Some(T0)));
    // A control plane that was restored from a backup sends a snapshot first, and changes then.
    for (version, base) in [(3, 0), (4, 3)] {
        assert_eq!(apply_node(&mut store, version, base, None), std::slice::from_ref(&node), "base {base}");
        assert_eq!(indexed(&store), Some(T0));
        assert_eq!(indexed(&open(directory.path())), Some(T0), "after a restart");
    }
    // It is retired again: the first time counts.
    assert_eq!((apply_node(&mut store, 5, 4, Some(T0.plus(9))), indexed(&store)), (vec![], Some(T0)));
    store.forget().unwrap();
    assert_eq!((apply_node(&mut store, 6, 0, None), indexed(&store)), (vec![node], Some(T0)));
}

#[test]
fn a_retirement_that_an_earlier_build_stored_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    apply_node(&mut store, 1, 0, Some(T0));
    store.connection.execute_batch("DELETE FROM ledger; PRAGMA user_version = 5").unwrap();
    drop(store);
    let mut store = open(directory.path());
    assert_eq!(apply_node(&mut store, 2, 0, None).len(), 1);
}
