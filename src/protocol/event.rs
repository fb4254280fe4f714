//! Events: what the audit log keeps of each decision, one JSON line each, chained by hash.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::id::{DeploymentId, NodeId, TokenId};
use super::jws::BASE64URL;
use super::role::RoleRef;
use super::time::Time;

/// Whether the node could reach its control plane when it decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connectivity {
    /// It has not tried yet.
    Connecting,
    /// It could.
    Online,
    /// It could not: an outage.
    Offline,
}

/// SHA-256 of an event's line, base64url: what the next event carries as `prev`.
#[must_use]
pub fn line_hash(line: &str) -> String {
    BASE64URL.encode(Sha256::digest(line))
}

/// What `prev` of the first event of a log is.
pub const GENESIS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// One event. Members that do not apply are left out of the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// Its place in this node's log, from 1, without gaps.
    pub sequence: u64,
    /// The identifier the caller was given.
    pub id: String,
    /// When it was decided.
    pub time: Time,
    /// Who decided.
    pub node: NodeId,
    /// What was decided, in words a program can read: `allow` or `deny`.
    pub decision: Cow<'static, str>,
    /// The reason code.
    pub reason: Cow<'static, str>,
    /// The token, once its signature held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    /// The token's generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The token's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleRef>,
    /// The deployment asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// The request's method.
    pub method: String,
    /// The template of the route it matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Arc<str>>,
    /// The canonical path, without the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The permission it needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<Cow<'static, str>>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The break-glass state of the deployment.
    pub glass: Cow<'static, str>,
    /// Whether the control plane could be reached.
    pub connectivity: Connectivity,
    /// [`line_hash`] of the event before.
    pub prev: String,
}

/// A node's signed statement of where its log stands: after event `sequence`, whose line hashes to `hash`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The node.
    pub iss: NodeId,
    /// When it was signed.
    pub iat: Time,
    /// The last event it covers.
    pub sequence: u64,
    /// [`line_hash`] of that event.
    pub hash: String,
}
