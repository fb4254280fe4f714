//! Defines the records of a replica. The control plane writes the body of a record once, as JSON text; everyone else
//! carries, stores and hashes these bytes unchanged.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::glass::GlassMode;
use super::id::{DeploymentId, NodeId};
use super::json::object;
use super::key::Jwk;
use super::time::Time;

/// Kind of a record. It determines the type of the body and the meaning of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// A direct-access token ([`super::token::TokenRecord`]). The key is the token's id.
    Token,
    /// One version of a role ([`super::role::RoleBody`]). The key is `NAME@VERSION`.
    Role,
    /// A deployment ([`DeploymentRecord`]). The key is its id.
    Deployment,
    /// The Dag tags of a deployment ([`DagTagsRecord`]). The key is the deployment's id.
    DagTags,
    /// A node ([`NodeRecord`]). The key is its id.
    Node,
    /// The counter of changes to standard tokens ([`StandardTokensRecord`]). The key is the data plane's id.
    StandardTokens,
}

impl RecordKind {
    /// Returns the kind as bundles write it and digests hash it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Role => "role",
            Self::Deployment => "deployment",
            Self::DagTags => "dag-tags",
            Self::Node => "node",
            Self::StandardTokens => "standard-tokens",
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error for a kind that this build does not know.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no kind of record")]
pub struct UnknownKind(pub String);

impl FromStr for RecordKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        [Self::Token, Self::Role, Self::Deployment, Self::DagTags, Self::Node, Self::StandardTokens]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownKind(text.into()))
    }
}

/// One record. A body that this build can't parse is stored and hashed like any other, and grants nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Kind of the record.
    pub kind: RecordKind,
    /// Key of the record, unique among its kind.
    pub key: Arc<str>,
    /// JSON text, byte for byte as the control plane wrote it.
    pub body: Arc<str>,
}

impl Record {
    /// Returns a record with these parts.
    #[must_use]
    pub fn new(kind: RecordKind, key: impl Into<Arc<str>>, body: impl Into<Arc<str>>) -> Self {
        Self { kind, key: key.into(), body: body.into() }
    }

    /// Parses the body as a JSON object. Returns `None` for a body that this build can't parse, which grants nothing. The
    /// caller must compare the id in the body with the record's key.
    ///
    /// ```
    /// use halligan::protocol::record::{DeploymentRecord, Record, RecordKind};
    ///
    /// let body = r#"{"id":"dep_sales","workspace":"wsp_a","name":"Sales"}"#;
    /// let record = Record::new(RecordKind::Deployment, "dep_sales", body);
    /// let deployment: DeploymentRecord = record.read().unwrap();
    /// assert_eq!(deployment.routes, "airflow-v2");
    ///
    /// // An unknown member could restrict access, so a build that does not know it can't read the record.
    /// let newer = Record::new(RecordKind::Deployment, "dep_sales", body.replace("\"name\"", "\"frozen\""));
    /// assert!(newer.read::<DeploymentRecord>().is_none());
    /// ```
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        object(self.body.as_bytes()).ok()
    }

    /// Serializes `value` as the body of a new record.
    ///
    /// ```
    /// use halligan::protocol::record::{Record, RecordKind, StandardTokensRecord};
    ///
    /// let counter = StandardTokensRecord { changes: 4 };
    /// let record = Record::from_value(RecordKind::StandardTokens, "dpl_eu", &counter);
    /// assert_eq!(&*record.body, r#"{"changes":4}"#);
    /// ```
    #[must_use]
    #[expect(clippy::expect_used, reason = "record bodies are structs of strings, numbers and lists")]
    pub fn from_value<T: Serialize>(kind: RecordKind, key: impl Into<Arc<str>>, value: &T) -> Self {
        Self::new(kind, key, serde_json::to_string(value).expect("a record body serializes"))
    }
}

/// Route map of deployments whose record names none.
pub const DEFAULT_ROUTES: &str = "airflow-v2";

/// Returns true if `name` is a valid name of a route map: 1 to 64 lower-case letters, digits, `-` and `_`. The map's file
/// on a host has this name.
///
/// ```
/// use halligan::protocol::record::is_routes_name;
///
/// assert!(is_routes_name("airflow-v2"));
/// assert!(!is_routes_name("../airflow") && !is_routes_name("Airflow"));
/// ```
#[must_use]
pub fn is_routes_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

fn default_routes() -> String {
    DEFAULT_ROUTES.into()
}

fn routes_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if is_routes_name(&name) { Ok(name) } else { Err(D::Error::custom("not the name of a route map")) }
}

/// Body of a `deployment` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploymentRecord {
    /// Identifier of the deployment.
    pub id: DeploymentId,
    /// Workspace to which the deployment belongs.
    pub workspace: String,
    /// Name for people; nothing is decided by it.
    pub name: String,
    /// Host names of the deployment, as [`super::host::host_name`] returns them.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Name of the deployment's route map.
    #[serde(default = "default_routes", deserialize_with = "routes_name")]
    pub routes: String,
    /// Mode of the deployment's glass.
    #[serde(default, skip_serializing_if = "GlassMode::is_default")]
    pub glass: GlassMode,
}

/// Body of a `dag-tags` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DagTagsRecord {
    /// Identifier of the deployment.
    pub deployment: DeploymentId,
    /// Tags of each Dag, by the Dag's id.
    pub tags: BTreeMap<String, Vec<String>>,
}

/// Body of a `node` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeRecord {
    /// Identifier of the node.
    pub id: NodeId,
    /// Name for people; nothing is decided by it.
    pub name: String,
    /// Public key of the node. It verifies the node's revocations, checkpoints and proofs.
    pub key: Jwk,
    /// Time at which the node was retired. Its signatures from then on are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<Time>,
}

/// Body of the `standard-tokens` record, of which a data plane has one.
///
/// A data plane holds no standard tokens: it asks the control plane about each. A change of this counter moves the
/// replica to a new version, so that nodes discard their cached answers when a standard token is rotated, deleted or
/// changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StandardTokensRecord {
    /// Number of changes so far.
    pub changes: u64,
}
