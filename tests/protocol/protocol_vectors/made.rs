//! Bundles for the cases, made part by part.

use halligan::protocol::digest::ReplicaDigest;
use halligan::protocol::head::{Head, sign_head};
use halligan::protocol::key::SigningKey;
use halligan::protocol::keyset::{KeyUse, KeysetBody, KeysetKey, sign_keyset};
use halligan::protocol::record::Record;
use halligan::protocol::time::Time;
use serde_json::{Value, json};

use super::digests::listed;
use super::frame::{Shape, frame};
use crate::world::{DATA_PLANE, ISSUER, T0, World};

/// A bundle whose parts can be changed one by one.
#[derive(Clone)]
pub struct Made {
    pub keysets: Vec<String>,
    pub head: Head,
    pub key: SigningKey,
    pub base: u64,
    pub changes: Vec<Value>,
}

/// Returns the line that stores a record.
pub fn put(record: &Record) -> Value {
    let mut line = listed(record);
    line["op"] = json!("put");
    line
}

/// Returns the line that removes a record.
pub fn remove(record: &Record) -> Value {
    json!({ "op": "remove", "kind": record.kind.as_str(), "key": &*record.key })
}

impl Made {
    /// Returns the snapshot of `records` at a version.
    pub fn snapshot(version: u64, records: &[Record], at: Time) -> Self {
        let world = World::new();
        let head = Head {
            iss: ISSUER.into(),
            aud: DATA_PLANE.parse().unwrap(),
            version,
            digest: records.iter().collect::<ReplicaDigest>().checksum(),
            count: records.len() as u64,
            iat: at,
            exp: at.plus(900),
            keyset: 1,
        };
        let changes = records.iter().map(put).collect();
        Self { keysets: vec![world.keyset], head, key: world.replica, base: 0, changes }
    }

    /// Returns the changes from version 7 to `records`.
    pub fn delta(version: u64, records: &[Record], changes: Vec<Value>) -> Self {
        Self { base: 7, changes, keysets: vec![], ..Self::snapshot(version, records, T0.plus(10)) }
    }

    /// Returns the lines of the bundle.
    pub fn lines(&self) -> String {
        let keysets = self.keysets.iter().map(|keyset| format!(r#"{{"keyset":{keyset}}}"#));
        let head = json!({ "head": sign_head(&self.head, &self.key), "base": self.base }).to_string();
        let changes = self.changes.iter().map(Value::to_string);
        keysets.chain([head]).chain(changes).flat_map(|line| [line, "\n".into()]).collect()
    }

    /// Returns the bundle as a zstd frame.
    pub fn bytes(&self) -> Vec<u8> {
        frame(self.lines().as_bytes(), Shape::default())
    }
}

/// Returns the keyset that follows the one of the world.
pub fn next_keyset(world: &World, version: u64, exp: Time) -> String {
    let listed = |key_use, key: &SigningKey| KeysetKey { key_use, jwk: key.public().jwk() };
    let body = KeysetBody {
        iss: None,
        version,
        iat: T0,
        exp,
        keys: vec![listed(KeyUse::Token, &world.token), listed(KeyUse::Replica, &world.replica)],
        roots: vec![world.root.public().jwk()],
        threshold: 1,
    };
    sign_keyset(&body, &[&world.root])
}
