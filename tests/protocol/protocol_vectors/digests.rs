//! digests.json: sets of records and what they sum to. roles.json: the digest of a role, and what may stand in one.

use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::permission::CATALOGUE;
use halligan::protocol::record::{Record, RecordKind};
use halligan::protocol::role::{RoleBody, RoleDigest, built_in};
use serde_json::{Value, json};

use super::{Vectors, base64};
use crate::world::World;

/// The kind, key and body of a record.
pub fn listed(record: &Record) -> Value {
    json!({ "kind": record.kind.as_str(), "key": &*record.key, "body": &*record.body })
}

#[test]
fn digests() {
    let mut vectors = Vectors::new(
        "digests.json",
        "The first eight lanes of the digest of `records`, and its checksum. `removed` are taken away again.",
    );
    let one = Record::new(RecordKind::Token, "tok_a", r#"{"a":1}"#);
    let sets: [(&str, Vec<Record>, Vec<Record>); 7] = [
        ("no record", vec![], vec![]),
        ("one record", vec![one.clone()], vec![]),
        (
            "the same, with another space in its body",
            vec![Record::new(RecordKind::Token, "tok_a", r#"{"a": 1}"#)],
            vec![],
        ),
        (
            "the same body under another kind",
            vec![Record::new(RecordKind::Role, "tok_a", r#"{"a":1}"#)],
            vec![],
        ),
        ("an empty key and an empty body", vec![Record::new(RecordKind::Token, "", "")], vec![]),
        ("a role, a deployment and two tokens", World::records(2), vec![]),
        (
            "a role, a deployment and two tokens, of which one was removed",
            World::records(2),
            vec![World::record(&World::token_record(1))],
        ),
    ];
    for (name, records, removed) in &sets {
        let mut digest: ReplicaDigest = records.iter().collect();
        for record in removed {
            digest.remove(record);
        }
        let lanes: Vec<u16> =
            digest.to_bytes().as_chunks::<2>().0.iter().map(|lane| u16::from_le_bytes(*lane)).collect();
        let case = json!({
            "records": records.iter().map(listed).collect::<Vec<_>>(),
            "removed": removed.iter().map(listed).collect::<Vec<_>>(),
            "first_lanes": lanes[..8], "checksum": base64(digest.checksum()),
        });
        vectors.ok(name, case, "ok");
    }
    vectors.hold();
}

#[test]
fn roles() {
    let mut vectors = Vectors::new(
        "roles.json",
        "The role digest of a role record's `body`, whether the record can be read or not. `catalogue`: every permission.",
    )
    .with("catalogue", json!(CATALOGUE));
    for role in built_in() {
        let body = role.to_body();
        let case = json!({
            "key": role.reference().unwrap().to_string(), "body": body, "digest": RoleDigest::of(&body).to_string(),
        });
        vectors.ok(&format!("the built-in role {}", role.name), case, "ok");
    }
    let body = r#"{"name":"X","version":2,"scope":"DEPLOYMENT","permissions":["deployment.get"]}"#;
    let spaced = body.replace(',', ", ");
    for (name, body) in [("another role", body), ("the same with white space: another digest", &spaced)] {
        assert!(RoleBody::parse(body).is_ok());
        let case = json!({ "key": "X@2", "body": body, "digest": RoleDigest::of(body).to_string() });
        vectors.ok(name, case, "ok");
    }
    vectors.hold();
}
