//! Records: what a replica is made of. A body is JSON text, made once by the control plane, and carried, stored and
//! hashed as those very bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::glass::GlassMode;
use super::id::{DeploymentId, NodeId};
use super::json::object;
use super::key::Jwk;
use super::time::Time;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// A direct-access token ([`super::token::TokenRecord`]); key: token id.
    Token,
    /// A version of a role ([`super::role::RoleBody`]); key: `NAME@VERSION`.
    Role,
    /// A deployment ([`DeploymentRecord`]); key: deployment id.
    Deployment,
    /// A deployment's Dag tags ([`DagTagsRecord`]); key: deployment id.
    DagTags,
    /// A node ([`NodeRecord`]); key: node id.
    Node,
    /// That something about standard tokens has changed ([`StandardTokensRecord`]); key: data plane id.
    StandardTokens,
}

impl RecordKind {
    /// The kind as it is written and hashed.
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

/// A kind this build does not know.
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

/// One record. A body this build can't read is kept and hashed all the same, and grants nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// What it is about.
    pub kind: RecordKind,
    /// Which one; unique among its kind.
    pub key: Arc<str>,
    /// JSON text, byte for byte as the control plane made it.
    pub body: Arc<str>,
}

impl Record {
    /// A record of these parts.
    #[must_use]
    pub fn new(kind: RecordKind, key: impl Into<Arc<str>>, body: impl Into<Arc<str>>) -> Self {
        Self { kind, key: key.into(), body: body.into() }
    }

    /// Reads the body as a JSON object; `None` for a body that this build cannot read, which grants nothing. That the body
    /// names the record's key is for the caller to compare.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        object(self.body.as_bytes()).ok()
    }

    /// A record whose body is `value` as JSON.
    #[must_use]
    #[expect(clippy::expect_used, reason = "record bodies are structs of strings, numbers and lists")]
    pub fn of<T: Serialize>(kind: RecordKind, key: impl Into<Arc<str>>, value: &T) -> Self {
        Self::new(kind, key, serde_json::to_string(value).expect("a record body serializes"))
    }
}

/// The route map a deployment has when its record names none.
pub const DEFAULT_ROUTES: &str = "airflow-v2";

/// Whether this can be the name of a route map, and so of its file on a host.
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

/// The body of a `deployment` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploymentRecord {
    /// The deployment.
    pub id: DeploymentId,
    /// The workspace it belongs to.
    pub workspace: String,
    /// Its name, for people.
    pub name: String,
    /// The host names it is reached by, in lower case.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The name of its route map.
    #[serde(default = "default_routes")]
    pub routes: String,
    /// How its glass is kept.
    #[serde(default, skip_serializing_if = "GlassMode::is_default")]
    pub glass: GlassMode,
}

/// The body of a `dag-tags` record: which tags each Dag of a deployment has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DagTagsRecord {
    /// The deployment.
    pub deployment: DeploymentId,
    /// Tags by Dag id.
    pub tags: BTreeMap<String, Vec<String>>,
}

/// The body of a `node` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeRecord {
    /// The node.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Its public key: what it signs local revocations with.
    pub key: Jwk,
    /// When it was retired; what it signs from then on is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<Time>,
}

/// The body of the one `standard-tokens` record of a data plane. Of the standard tokens themselves a data plane holds
/// nothing: it asks about each. This only moves the replica on when one of them was rotated or deleted, or may do
/// something else from now on, so that no node goes by an older answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StandardTokensRecord {
    /// How many such changes there were.
    pub changes: u64,
}
