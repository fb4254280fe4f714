//! Records. Each line is one, `KIND KEY BODY`. Together they are a replica that a hostile control plane signs.

use std::collections::BTreeSet;
use std::fmt::Debug;

use halligan::dataplane::decide::{Now, RequestFacts, Target, decide};
use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::glass::GlassMode;
use halligan::protocol::record::{
    DagTagsRecord, DeploymentRecord, NodeRecord, Record, RecordKind, StandardTokensRecord,
};
use halligan::protocol::role::{RoleBody, RoleDigest};
use halligan::protocol::token::TokenRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::world::{DEPLOYMENT, T0, World};
use super::{WORLD, survives};

/// Checks that a body is of at most one kind and is the same after writing, that the digest is that of a set, and that
/// a token is allowed only if the records state everything that it needs.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let mut seen = BTreeSet::new();
    let records: Vec<Record> = text
        .split('\n')
        .filter_map(record)
        .filter(|record| seen.insert((record.kind, record.key.clone())))
        .take(8)
        .collect();
    for record in &records {
        of_one_kind(&record.body);
    }
    digest(&records);
    passes(&records)
}

fn record(line: &str) -> Option<Record> {
    let mut parts = line.splitn(3, ' ');
    let (kind, key, body) = (parts.next()?, parts.next()?, parts.next()?);
    let found: RecordKind = kind.parse().ok()?;
    assert_eq!(found.as_str(), kind);
    Some(Record::new(found, key, body))
}

fn of_one_kind(body: &str) {
    let kinds = [
        reads::<TokenRecord>(body),
        reads::<RoleBody>(body),
        reads::<DeploymentRecord>(body),
        reads::<DagTagsRecord>(body),
        reads::<NodeRecord>(body),
        reads::<StandardTokensRecord>(body),
    ];
    assert!(kinds.iter().filter(|&&reads| reads).count() <= 1, "a body of two kinds: {body}");
    if let Ok(token) = serde_json::from_str::<TokenRecord>(body) {
        let moved = TokenRecord { generation: 7, revoked_at: Some(T0), ..token.clone() };
        assert_eq!(moved.grant_digest(), token.grant_digest(), "a revocation changes the grant");
    }
    assert_eq!(reads::<RoleBody>(body), RoleBody::parse(body).is_ok());
}

fn reads<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &str) -> bool {
    serde_json::from_str::<T>(body).is_ok_and(|value| !survives(&value).is_empty())
}

fn digest(records: &[Record]) {
    let whole: ReplicaDigest = records.iter().collect();
    assert_eq!(records.iter().rev().collect::<ReplicaDigest>(), whole, "order matters");
    assert_eq!(ReplicaDigest::from_bytes(&whole.to_bytes()).as_ref(), Some(&whole));
    let mut left = whole;
    for record in records {
        // The same text, divided between key and body elsewhere, is another record.
        if let Some((at, first)) =
            record.body.char_indices().next().map(|(at, first)| (at + first.len_utf8(), first))
        {
            let shifted = Record::new(record.kind, format!("{}{first}", record.key), &record.body[at..]);
            assert_ne!(ReplicaDigest::from_iter([&shifted]), ReplicaDigest::from_iter([record]));
        }
        left.remove(record);
    }
    assert_eq!(left, ReplicaDigest::empty(), "what is taken away leaves something behind");
}

/// Returns true if a token of the world is allowed under these records. Checks that the records justify it.
fn passes(records: &[Record]) -> bool {
    let snapshot = WORLD.snapshot(records.to_vec());
    let facts = RequestFacts {
        deployment: Target::Id(DEPLOYMENT),
        method: "GET",
        uri: "/api/v2/dags",
        client: Some([192, 0, 2, 7].into()),
    };
    let now = T0.plus(60);
    let decision = decide(Some(WORLD.value(0).as_bytes()), &facts, &snapshot, Now { wall: now, floor: now });
    assert_eq!(decision.allowed(), decision.reason().code() == "ok");
    if decision.allowed() {
        let own = World::token_record(0);
        let body = |kind, key: &str| {
            &*records.iter().find(|record| record.kind == kind && &*record.key == key).unwrap().body
        };
        let token: TokenRecord = serde_json::from_str(body(RecordKind::Token, own.id.as_str())).unwrap();
        assert_eq!((&token.id, &token.deployment), (&own.id, &own.deployment));
        assert_eq!((token.generation, token.revoked_at), (1, None), "a dead token passes");
        assert!(token.not_before <= now && now < token.expires_at, "a token passes out of its time");
        assert_eq!(token.role, own.role, "a role has changed");
        let role = body(RecordKind::Role, &own.role.id.to_string());
        assert_eq!(RoleDigest::compute(role), own.role.digest, "a role's permissions have changed");
        let deployment: DeploymentRecord =
            serde_json::from_str(body(RecordKind::Deployment, DEPLOYMENT)).unwrap();
        assert_eq!((deployment.id.as_str(), deployment.glass), (DEPLOYMENT, GlassMode::Always));
    }
    // Records must not allow a token that the control plane did not sign.
    let facts = RequestFacts { client: None, ..facts };
    assert!(!decide(Some(b"a.b.c"), &facts, &snapshot, Now { wall: now, floor: now }).allowed());
    decision.allowed()
}
