//! Tests of the facts that a snapshot reports to operators, metrics and the control plane.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::dataplane::decide::index::Delta;
use crate::dataplane::decide::staleness::AtLimit;
use crate::protocol::bundle::Change;
use crate::protocol::record::NodeRecord;

fn token() -> TokenId {
    "tok_a".parse().unwrap()
}

#[test]
fn a_node_without_a_replica_tells_of_none() {
    let absent = Snapshot::absent();
    assert!(absent.head().is_none() && absent.signed_at().is_none() && absent.horizon().is_none());
    assert_eq!((absent.token_count(), absent.deployment_count(), absent.keyset_version()), (0, 0, 0));
    assert_eq!((absent.unmapped().count(), absent.freshness(T0).len(), absent.signers().len()), (0, 0, 0));
    assert!(!absent.knows(&token()) && absent.ended(&token()).is_none() && absent.unreadable().is_none());
    assert!(!absent.denies_when_stale());
    assert_eq!(absent.signature_lookups(), [("hit", 0), ("miss", 0)]);
}

#[test]
fn a_withdrawn_replica_denies_and_leaves_what_this_host_took_away() {
    let mut world = World::new();
    world.local.revoked = [(token(), T0)].into();
    let withdrawn = world.snapshot().withdrawn();
    assert!(withdrawn.head().is_none());
    assert_eq!(withdrawn.ended(&token()), Some(T0));
    let facts = world.facts();
    let decision = decide(Some(world.token().as_bytes()), &facts, &withdrawn, world.now);
    assert_eq!(decision.reason(), Reason::ReplicaMissing);
}

#[test]
fn operators_are_told_what_the_replica_holds() {
    let mut world = World::new();
    let node = NodeRecord {
        id: "nod_a".parse().unwrap(),
        name: "a".into(),
        key: key(7).public().jwk(),
        retired_at: None,
    };
    world.records.push(Record::from_value(RecordKind::Node, "nod_a", &node));
    let snapshot = world.snapshot();
    assert_eq!((snapshot.token_count(), snapshot.deployment_count(), snapshot.keyset_version()), (1, 2, 1));
    assert!(snapshot.knows(&token()) && !snapshot.knows(&"tok_b".parse().unwrap()));
    assert!(snapshot.signers().get(&node.id).is_some());
    assert_eq!(snapshot.unmapped().count(), 0);
    assert_eq!(snapshot.unreadable(), None);
    world.records[4].body = world.records[4].body.replace("airflow-v2", "airflow-v9").into();
    world.records[2].body = "{}".into();
    let snapshot = world.snapshot();
    assert_eq!(snapshot.unmapped().map(DeploymentId::as_str).collect::<Vec<_>>(), ["dep_b"]);
    assert!(snapshot.unreadable().unwrap().contains("DAG_VIEWER@1"));
}

#[test]
fn a_token_ended_at_the_earliest_time_that_is_known() {
    let mut world = World::new();
    assert_eq!(world.snapshot().ended(&token()), None);
    world.local.revoked = [(token(), T0.plus(20))].into();
    assert_eq!(world.snapshot().ended(&token()), Some(T0.plus(20)));
    for (above, earliest) in [(10, 10), (30, 20)] {
        world.record.revoked_at = Some(T0.plus(above));
        assert_eq!(world.snapshot().ended(&token()), Some(T0.plus(earliest)));
    }
    assert_eq!(world.snapshot().ended(&"tok_b".parse().unwrap()), None);
}

#[test]
fn a_revocation_of_this_host_is_told_until_the_records_above_state_it() {
    let mut world = World::new();
    world.local.revoked = [(token(), T0), ("tok_gone".parse().unwrap(), T0)].into();
    let told = |world: &World| world.snapshot().alive_above().cloned().collect::<Vec<_>>();
    assert_eq!(told(&world), [token()]);
    // Proof that it was revoked above once does not change what the record says now.
    world.losses = vec![AccessLoss { generation: 2, revoked: true, ..AccessLoss::none(token()) }];
    assert_eq!(told(&world), [token()]);
    world.record.revoked_at = Some(T0);
    assert_eq!(told(&world), []);
}

#[test]
fn the_horizon_is_where_the_last_role_is_denied() {
    let mut world = World::new();
    let (day, token) = (86_400, world.token());
    let horizon = |world: &World| world.snapshot().horizon().unwrap();
    assert_eq!(horizon(&world), T0.plus(7 * day));
    world.staleness.roles.insert("DAG_VIEWER".into(), 30 * day);
    assert_eq!(horizon(&world), T0.plus(30 * day));
    // A replica that was held for longer than its head says is as old as it was held.
    world.local.accepted = Some(HeadAge { version: 1, iat: T0, held: 900, signed: T0.plus(-900) });
    assert_eq!(horizon(&world), T0.plus(30 * day - 900));
    assert_eq!(world.snapshot().signed_at(), Some(T0.plus(-900)));
    let ages = world.snapshot().freshness(T0.plus(60));
    assert!(ages.len() == 3 && ages.iter().all(|(_, freshness)| freshness.age == 960), "{ages:?}");
    world.staleness.roles.insert("DEPLOYMENT_ADMIN".into(), 959);
    let stale = world.decide_with(Some(token.as_bytes()));
    assert_eq!(stale.reason(), Reason::ReplicaStale);
    assert_eq!(
        stale.detail().unwrap(),
        "the replica was signed 960 s ago; staleness.roles.DEPLOYMENT_ADMIN allows 959 s in this host's configuration"
    );
    // Another head is as old as it says.
    world.local.accepted = Some(HeadAge { version: 2, iat: T0, held: 900, signed: T0.plus(-900) });
    assert_eq!(world.snapshot().signed_at(), Some(T0));
    let decision = world.decide_with(Some(token.as_bytes()));
    assert!(decision.allowed() && decision.detail().is_none());
}

#[test]
fn a_stale_replica_is_decided_on_where_the_host_allows_that() {
    let mut world = World::new();
    world.staleness.default = 59;
    assert!(world.snapshot().denies_when_stale());
    assert_eq!(world.reason(), Reason::ReplicaStale);
    world.staleness.at_limit = AtLimit::Allow;
    assert!(!world.snapshot().denies_when_stale());
    assert_eq!(world.reason(), Reason::Ok);
}

#[test]
fn a_signature_is_verified_once_under_each_keyset() {
    let world = World::new();
    let (token, snapshot) = (world.token(), world.snapshot());
    let decide = |snapshot: &Snapshot| {
        assert!(decide(Some(token.as_bytes()), &world.facts(), snapshot, world.now).allowed());
        snapshot.signature_lookups()
    };
    assert_eq!(decide(&snapshot), [("hit", 0), ("miss", 1)]);
    assert_eq!(decide(&snapshot), [("hit", 1), ("miss", 1)]);
    assert!(
        decide_known(Some(Credential::Token(token.as_bytes())), &world.facts(), &snapshot, world.now)
            .is_some()
    );
    assert_eq!(snapshot.signature_lookups(), [("hit", 2), ("miss", 1)]);
    // A renewed head under the same keyset keeps what was verified.
    let proved = snapshot.proved.as_ref().unwrap();
    let renewed = snapshot.renewed(&proved.keyset, &proved.head, &Staleness::default()).unwrap();
    assert_eq!(decide(&renewed), [("hit", 3), ("miss", 1)]);
    // Another keyset may no longer hold the key: the token is verified again. The counts go on.
    let other = World::keyset(&key(4));
    let next = renewed.renewed(&other, &proved.head, &Staleness::default()).unwrap();
    let refused = super::decide(Some(token.as_bytes()), &world.facts(), &next, world.now);
    assert_eq!(refused.reason(), Reason::KeyUnknown);
    assert_eq!(next.signature_lookups(), [("hit", 3), ("miss", 2)]);
}

#[test]
fn a_snapshot_is_followed_by_one_of_the_same_records_or_by_a_delta_that_begins_at_it() {
    let mut world = World::new();
    let snapshot = world.snapshot();
    let proved = snapshot.proved.as_ref().unwrap();
    let gone = Change::Remove { kind: RecordKind::Token, key: "tok_a".into() };
    let delta = Delta { changes: vec![gone], losses: vec![], retirements: vec![] };
    let after = |snapshot: &Snapshot, base: Head| {
        snapshot.after(&(base, delta.clone()), &proved.keyset, &proved.head, &Staleness::default())
    };
    let base = proved.head.head().clone();
    let reason = |snapshot: &Snapshot| {
        decide(Some(world.token().as_bytes()), &world.facts(), snapshot, world.now).reason()
    };
    assert_eq!(reason(&after(&snapshot, base.clone()).unwrap()), Reason::TokenUnknown);
    assert_eq!(reason(&snapshot), Reason::Ok, "the snapshot before does not change");
    for other in [Head { digest: [0; 32], ..base.clone() }, Head { count: 9, ..base.clone() }] {
        assert!(after(&snapshot, other).is_none());
    }
    assert!(after(&Snapshot::absent(), base).is_none());
    world.record.generation = 3;
    let other = world.snapshot();
    let renewed = snapshot.renewed(&proved.keyset, other.head().unwrap(), &Staleness::default());
    assert!(renewed.is_none(), "the head covers other records");
}
