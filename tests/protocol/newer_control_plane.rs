//! A node and a newer control plane. The node ignores unknown members where docs/protocol.md allows it, and rejects
//! them with an alarm everywhere else. The state from before stays in force.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use crate::world::{DATA_PLANE, ISSUER, T0, World, frame};
use halligan::dataplane::decide::Reason;
use halligan::dataplane::decide::snapshot::{Snapshot, Staleness};
use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::node::state::Live;
use halligan::dataplane::replica::replication::Replication;
use halligan::dataplane::replica::store::{Origin, ReplicaStore, StoreError};
use halligan::protocol::bundle::{BundleError, Change};
use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::head::SignedHead;
use halligan::protocol::jws::{Typ, sign};
use halligan::protocol::record::{Record, RecordKind};
use halligan::protocol::time::Time;
use serde_json::{Value, json};

struct Node {
    _directory: tempfile::TempDir,
    live: Arc<Live>,
    replication: Replication,
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = World::new();
        let path = directory.path().join("replica.db");
        let store = ReplicaStore::open(&path, World::data_plane(), world.pinned()).unwrap();
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), T0));
        let replication = Replication::new(store, Arc::clone(&live), Staleness::default());
        replication.apply_bundle(&*world.bundle(1, &World::records(2), T0), Origin::Feed, T0).unwrap();
        Self { _directory: directory, live, replication }
    }

    fn take(&self, bundle: &[u8]) -> Result<(), StoreError> {
        self.replication.apply_bundle(bundle, Origin::Feed, T0.plus(1))
    }

    fn reason(&self, token: usize) -> Reason {
        crate::nodes::reason(&self.live, token)
    }

    fn last_alarm(&self) -> String {
        self.live.alarms.latest().last().map_or_else(String::new, |alarm| alarm.what.clone())
    }
}

/// Returns a record with an additional member in its body.
fn newer(record: &Record) -> Record {
    Record::new(record.kind, &*record.key, format!(r#"{{"colour":"red",{}"#, &record.body[1..]))
}

/// Returns a bundle whose lines were changed by `bend`.
fn bent(bundle: &[u8], bend: impl Fn(String) -> String) -> Vec<u8> {
    let lines = String::from_utf8(zstd::decode_all(bundle).unwrap()).unwrap();
    frame(bend(lines).as_bytes())
}

#[test]
fn a_record_with_one_member_more_grants_nothing_and_is_alarmed_by_name() {
    let world = World::new();
    for place in 0..4 {
        let node = Node::new();
        assert_eq!((node.reason(0), node.reason(1)), (Reason::Ok, Reason::Ok));
        let mut records = World::records(2);
        records[place] = newer(&records[place]);
        let kind = records[place].kind;
        let change = Change::Put(records[place].clone());
        let taken = node.take(&world.delta(1, 2, &records, vec![change], T0.plus(1)));
        if kind == RecordKind::Role {
            // Tokens contain the digest of their role, so a role with another body does not match them.
            assert!(matches!(taken, Err(StoreError::Invariant { .. })));
            assert_eq!(node.reason(0), Reason::Ok);
            continue;
        }
        taken.unwrap();
        let alarm = node.last_alarm();
        assert!(alarm.contains(&*records[place].key) && alarm.contains("colour"), "{kind}: {alarm}");
        assert!(alarm.contains("upgrade the node"), "{alarm}");
        assert_eq!(node.live.alarms.count(AlarmKind::Refused), 1, "{kind}");
        if kind == RecordKind::Token {
            let other = usize::from(place == 2);
            assert_eq!((node.reason(1 - other), node.reason(other)), (Reason::TokenUnknown, Reason::Ok));
        } else {
            assert_ne!(node.reason(0), Reason::Ok, "an unread deployment opens nothing");
        }
        // A heartbeat must not raise the alarm again. A record that the control plane puts back is in force again.
        node.take(&world.delta(2, 2, &records, vec![], T0.plus(2))).unwrap();
        assert_eq!(node.live.alarms.count(AlarmKind::Refused), 1, "{kind}");
        let records = World::records(2);
        node.take(&world.delta(2, 3, &records, vec![Change::Put(records[place].clone())], T0.plus(3)))
            .unwrap();
        assert_eq!((node.reason(0), node.reason(1)), (Reason::Ok, Reason::Ok));
    }
}

#[test]
fn what_cannot_be_read_is_told_on_when_a_head_is_renewed() {
    let world = World::new();
    let mut records = World::records(2);
    records[1] = newer(&records[1]);
    let before = world.snapshot(records.clone());
    assert!(before.unreadable().is_some());
    let renewed = |of: &[Record]| {
        let keyset = world.keyset();
        let head = SignedHead::verify(&world.head(1, of, T0.plus(1)), &keyset, &World::data_plane()).unwrap();
        before.renewed(&keyset, &head, &Staleness::default()).map(|renewed| renewed.unreadable())
    };
    assert_eq!(renewed(&records), Some(before.unreadable()));
    assert_eq!(renewed(&records[2..]), None, "the head covers others");
}

#[test]
fn a_claim_more_in_a_head_is_ignored() {
    let (node, world, records) = (Node::new(), World::new(), World::records(2));
    let head = json!({
        "iss": ISSUER, "aud": DATA_PLANE, "version": 2, "count": records.len(), "iat": T0.plus(1), "exp": T0.plus(901),
        "keyset": 1, "colour": "red", "crit": ["colour"],
        "digest": base64::Engine::encode(
            &base64::engine::general_purpose::URL_SAFE_NO_PAD,
            records.iter().collect::<ReplicaDigest>().checksum(),
        ),
    });
    let head = sign(Typ::ReplicaHead, head.to_string().as_bytes(), &world.replica);
    let bundle = bent(&world.delta(1, 2, &records, vec![], T0), |lines| {
        let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines[1]["head"] = json!(head);
        lines.iter().flat_map(|line| [line.to_string(), "\n".to_owned()]).collect()
    });
    node.take(&bundle).unwrap();
    assert_eq!(node.live.snapshot().head().unwrap().head().version, 2);
    assert_eq!(node.live.alarms.latest().len(), 0);
}

#[test]
fn kinds_and_lines_that_are_not_known_refuse_the_bundle_and_the_alarm_says_who_is_to_be_upgraded() {
    let (world, records) = (World::new(), World::records(3));
    let delta = world.delta(1, 2, &records, vec![Change::Put(records[4].clone())], T0.plus(1));
    for (from, to) in [
        (r#""kind":"token""#, r#""kind":"quota""#),
        (r#""op":"put""#, r#""op":"patch""#),
        (r#""op":"put""#, r#""colour":"red","op":"put""#),
        (r#""base":1"#, r#""base":1,"colour":"red""#),
    ] {
        let node = Node::new();
        let bundle = bent(&delta, |lines| {
            assert!(lines.contains(from), "{from} in {lines}");
            lines.replacen(from, to, 1)
        });
        let refused = node.take(&bundle).unwrap_err();
        assert!(matches!(refused, StoreError::Bundle(BundleError::Newer { .. })), "{to}: {refused}");
        assert!(node.last_alarm().contains("upgrade this node"), "{}", node.last_alarm());
        // The replica from before stays in force, and the next bundle without unknown members is applied.
        assert_eq!((node.reason(0), node.reason(1)), (Reason::Ok, Reason::Ok));
        node.take(&delta).unwrap();
        assert_eq!(node.reason(2), Reason::Ok);
    }
}
