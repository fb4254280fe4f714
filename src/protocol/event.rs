//! Events: what the audit log keeps of each decision and of each act on the host, one JSON line each, chained by hash.

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

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A request was decided about.
    Decision,
    /// An operator broke a deployment's glass.
    GlassBroken,
    /// A deployment's glass is sealed again.
    GlassSealed,
    /// An operator revoked a token on this host.
    Revocation,
}

/// One event. Members that do not apply are left out of the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// Its place in this node's log, from 1, without gaps.
    pub sequence: u64,
    /// [`line_hash`] of the event before.
    pub prev: String,
    /// The identifier the caller was given.
    pub id: String,
    /// When it was decided.
    pub time: Time,
    /// Where it happened.
    pub node: NodeId,
    /// What it tells of.
    pub kind: EventKind,
    /// What was decided, in words a program can read: `allow` or `deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Cow<'static, str>>,
    /// The reason code of a decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glass: Option<Cow<'static, str>>,
    /// Who acted: the user the kernel named at the other end of the admin socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Until when the act holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Whether the control plane could be reached.
    pub connectivity: Connectivity,
}

/// An event without a place in a log yet: all of an [`Event`] but `sequence` and `prev`.
///
/// Whoever decides or acts writes it as JSON at once; whoever keeps the log puts the place before it. So nothing is copied in
/// between, and the members of a line stand in the order of [`Event`].
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "they are those of Event")]
pub struct Draft<'a> {
    pub id: &'a str,
    pub time: Time,
    pub node: &'a NodeId,
    pub kind: EventKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a TokenId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'a RoleRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<&'a DeploymentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub glass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    pub connectivity: Connectivity,
}

impl<'a> Draft<'a> {
    /// An event of which no more is known than what it tells of, when, and where.
    #[must_use]
    pub fn new(
        kind: EventKind,
        id: &'a str,
        time: Time,
        node: &'a NodeId,
        connectivity: Connectivity,
    ) -> Self {
        Self {
            id,
            time,
            node,
            kind,
            decision: None,
            reason: None,
            token: None,
            generation: None,
            role: None,
            deployment: None,
            method: None,
            route: None,
            path: None,
            permission: None,
            client: None,
            glass: None,
            operator: None,
            because: None,
            until: None,
            connectivity,
        }
    }
}

/// Appends to `line` the line of an event: a draft's JSON with its place in the log put before it.
pub fn place(sequence: u64, prev: &str, draft: &str, line: &mut String) {
    use std::fmt::Write as _;
    // Writing to a String can't fail.
    let _ = write!(line, "{{\"sequence\":{sequence},\"prev\":\"{prev}\",");
    line.push_str(draft.strip_prefix('{').unwrap_or(draft));
}

/// A node's signed statement of where its log stands: after event `sequence`, whose line hashes to `hash`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The node.
    pub iss: NodeId,
    /// When it was signed.
    pub iat: Time,
    /// Its place among the checkpoints of the log, from 1, without gaps.
    pub number: u64,
    /// The last event it covers.
    pub sequence: u64,
    /// [`line_hash`] of that event.
    pub hash: String,
    /// Whether the node has dropped the events up to that one: the log begins after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_placed_draft_is_the_line_of_an_event() {
        let (node, token) = (NodeId::new("nod_a").unwrap(), TokenId::new("tok_a").unwrap());
        let (role, deployment) = ("DAG_VIEWER@1".parse().unwrap(), DeploymentId::new("dep_a").unwrap());
        let time = Time::from_unix(1_800_000_000);
        let bare = Draft::new(EventKind::Decision, "evt_1-1", time, &node, Connectivity::Offline);
        let draft = Draft {
            decision: Some("allow"),
            reason: Some("ok"),
            token: Some(&token),
            generation: Some(2),
            role: Some(&role),
            deployment: Some(&deployment),
            method: Some("GET"),
            route: Some("/api/v2/dags/{dag_id}"),
            path: Some("/api/v2/dags/\"odd\""),
            permission: Some("deployment.airflow.dag.get"),
            client: Some([192, 0, 2, 7].into()),
            glass: Some("always"),
            operator: Some("uid 0"),
            because: Some("drill"),
            until: Some(time),
            ..bare
        };
        let mut line = String::new();
        place(7, GENESIS, &serde_json::to_string(&draft).unwrap(), &mut line);
        let event: Event = serde_json::from_str(&line).unwrap();
        assert_eq!((event.sequence, event.prev.as_str()), (7, GENESIS));
        assert_eq!(event.path.as_deref(), Some("/api/v2/dags/\"odd\""));
        assert_eq!(serde_json::to_string(&event).unwrap(), line, "both write a line in the same way");
        line.clear();
        place(8, GENESIS, &serde_json::to_string(&bare).unwrap(), &mut line);
        let event: Event = serde_json::from_str(&line).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }
}
