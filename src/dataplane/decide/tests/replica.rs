//! Verified replica for tests of objects that a host receives beside it: deployments, and nodes whose keys count.

#![allow(clippy::unwrap_used)]

use crate::dataplane::decide::snapshot::{Replica, Snapshot, Staleness};
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::glass::GlassMode;
use crate::protocol::head::{Head, SignedHead, sign_head};
use crate::protocol::key::SigningKey;
use crate::protocol::keyset::{KeyUse, Keyset, KeysetBody, KeysetKey, RootSet, sign_keyset};
use crate::protocol::record::{DeploymentRecord, NodeRecord, Record, RecordKind};
use crate::protocol::time::Time;

pub(in crate::dataplane) const NOW: Time = Time::from_unix(1_800_000_000);
pub(in crate::dataplane) const ISSUER: &str = "https://control.example";

/// Returns the key of a public seed.
pub(in crate::dataplane) fn seed(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// Returns a verified replica of the data plane `dpl_a` with these deployments, and with these nodes: each its id, the seed of its
/// key, and when it was retired. Its keyset names the replica key of the seed `replica`.
pub(in crate::dataplane) fn snapshot(
    deployments: &[&str],
    nodes: &[(&str, u8, Option<i64>)],
    replica: u8,
) -> Snapshot {
    let root = seed(1);
    let body = KeysetBody {
        iss: Some(ISSUER.into()),
        version: 1,
        iat: NOW,
        exp: NOW.plus(1000),
        keys: vec![KeysetKey { key_use: KeyUse::Replica, jwk: seed(replica).public().jwk() }],
        roots: vec![root.public().jwk()],
        threshold: 1,
    };
    let pinned = RootSet::new(vec![root.public().clone()], 1).unwrap();
    let keyset = Keyset::verify_first(&sign_keyset(&body, &[&root]), &pinned).unwrap();
    let deployment = |id: &&str| {
        let body = DeploymentRecord {
            id: id.parse().unwrap(),
            workspace: "wsp_a".into(),
            name: (*id).into(),
            hosts: Vec::new(),
            routes: "airflow-v2".into(),
            glass: GlassMode::Always,
        };
        Record::from_value(RecordKind::Deployment, *id, &body)
    };
    let node = |&(id, key, retired): &(&str, u8, Option<i64>)| {
        let body = NodeRecord {
            id: id.parse().unwrap(),
            name: id.into(),
            key: seed(key).public().jwk(),
            retired_at: retired.map(Time::from_unix),
        };
        Record::from_value(RecordKind::Node, id, &body)
    };
    let records: Vec<Record> = deployments.iter().map(deployment).chain(nodes.iter().map(node)).collect();
    let head = Head {
        iss: ISSUER.into(),
        aud: "dpl_a".parse().unwrap(),
        version: 1,
        digest: records.iter().collect::<ReplicaDigest>().checksum(),
        count: records.len() as u64,
        iat: NOW,
        exp: NOW.plus(1000),
        keyset: 1,
    };
    let head = SignedHead::verify(&sign_head(&head, &seed(replica)), &keyset, &head.aud).unwrap();
    Snapshot::build(
        Replica { keyset, head, records, losses: Vec::new(), retirements: Vec::new() },
        Staleness::default(),
        None,
    )
}
