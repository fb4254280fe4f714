//! Replica of the host.

use serde::{Deserialize, Serialize};

use crate::protocol::time::Time;

/// Maximum size of a bundle that is imported through the admin socket, in bytes.
pub const MAX_BUNDLE: usize = 256 << 20;

/// Facts of a verified replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedReplica {
    /// Version of the head.
    pub version: u64,
    /// Time at which the head was signed.
    pub signed_at: Time,
    /// Version of the keyset.
    pub keyset: u64,
    /// Number of records.
    pub records: u64,
    /// Digest of the records.
    pub digest: String,
}

/// Content of the replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Facts of the replica, or `None` if the host has none.
    pub head: Option<VerifiedReplica>,
    /// All records.
    pub records: Vec<Record>,
}

/// Record of the replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Kind of the record.
    pub kind: String,
    /// Key of the record among its kind.
    pub key: String,
    /// Body of the record. Its members depend on the kind; docs/protocol.md lists them.
    pub body: serde_json::Value,
}

/// Head or keyset that contradicts another one of the same version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForkedHead {
    /// Kind of the object: `head` or `keyset`.
    pub what: String,
    /// Version of the object.
    pub version: u64,
    /// Time at which the contradiction was found, by the host's clock.
    pub seen_at: Time,
    /// The JWS, byte for byte.
    pub head: String,
}

/// Answer to the removal of the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// Always true: a failure is a problem document.
    pub reset: bool,
}
