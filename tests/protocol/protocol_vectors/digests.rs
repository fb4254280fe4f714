//! digests.json: sets of records and their digests. roles.json: digests of roles, and permissions that a role may have.

use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::permission::CATALOGUE;
use halligan::protocol::record::{Record, RecordKind};
use halligan::protocol::role::{RoleBody, RoleDigest, built_in};
use serde_json::{Value, json};

use super::{Vectors, base64, record, records, text};
use crate::world::World;

/// Returns the kind, key and body of a record as JSON.
pub fn listed(record: &Record) -> Value {
    json!({ "kind": record.kind.as_str(), "key": &*record.key, "body": &*record.body })
}

/// Returns the first eight lanes of the digest of a case's records, and its checksum.
fn sum(case: &Value) -> (Vec<u16>, String) {
    let mut digest: ReplicaDigest = records(case, "records").iter().collect();
    for removed in case["removed"].as_array().unwrap() {
        digest.remove(&record(removed));
    }
    let lanes =
        digest.to_bytes().as_chunks::<2>().0.iter().map(|lane| u16::from_le_bytes(*lane)).take(8).collect();
    (lanes, base64(digest.checksum()))
}

fn compare_sum(_: &Value, case: &Value) -> String {
    let (lanes, checksum) = sum(case);
    let same = (json!(lanes), json!(checksum)) == (case["first_lanes"].clone(), case["checksum"].clone());
    if same { "ok".into() } else { format!("{lanes:?} {checksum}") }
}

fn compare_role(_: &Value, case: &Value) -> String {
    let digest = RoleDigest::compute(text(case, "body")).to_string();
    if digest == text(case, "digest") { "ok".into() } else { digest }
}

#[test]
fn digests() {
    let mut vectors = Vectors::new(
        "digests.json",
        "The first eight lanes of the digest of `records`, and its checksum. `removed` are taken away again.",
        compare_sum,
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
        let mut case = json!({
            "records": records.iter().map(listed).collect::<Vec<_>>(),
            "removed": removed.iter().map(listed).collect::<Vec<_>>(),
        });
        let (lanes, checksum) = sum(&case);
        (case["first_lanes"], case["checksum"]) = (json!(lanes), json!(checksum));
        vectors.case(name, case, "ok", "");
    }
    vectors.hold();
}

#[test]
fn roles() {
    let mut vectors = Vectors::new(
        "roles.json",
        "The role digest of a role record's `body`, whether the record can be read or not. `catalogue`: every permission.",
        compare_role,
    )
    .with("catalogue", json!(CATALOGUE));
    for role in built_in() {
        let body = role.to_body();
        let case = json!({
            "key": role.reference().unwrap().to_string(), "body": body, "digest": RoleDigest::compute(&body).to_string(),
        });
        vectors.case(&format!("the built-in role {}", role.name), case, "ok", "");
    }
    let body = r#"{"name":"X","version":2,"scope":"DEPLOYMENT","permissions":["deployment.get"]}"#;
    let spaced = body.replace(',', ", ");
    for (name, body) in [("another role", body), ("the same with white space: another digest", &spaced)] {
        assert!(RoleBody::parse(body).is_ok());
        let case = json!({ "key": "X@2", "body": body, "digest": RoleDigest::compute(body).to_string() });
        vectors.case(name, case, "ok", "");
    }
    vectors.hold();
}
