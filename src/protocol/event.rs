//! Events: what the audit log keeps of each decision and of each act on the host, one JSON line each, chained by hash.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayString;
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

/// The lines of `text`, which end in LF alone: a CR before it belongs to the line, and so to its hash.
pub fn split_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_terminator('\n')
}

/// An event's identifier: `evt_`, when the daemon started, and the event's number since then. In place: every request gets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId(ArrayString<{ "evt_".len() + 20 + "-".len() + 20 }>);

impl EventId {
    /// Event `number` of the start `boot`.
    #[must_use]
    pub fn new(boot: u64, number: u64) -> Self {
        let mut text = ArrayString::new();
        let (mut first, mut second) = (itoa::Buffer::new(), itoa::Buffer::new());
        for part in ["evt_", first.format(boot), "-", second.format(number)] {
            // Two numbers of 64 bits fit.
            let _ = text.try_push_str(part);
        }
        Self(text)
    }
}

impl std::ops::Deref for EventId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
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
    /// An administrator of this host accepted its clock, which was behind the time taken for proved.
    ClockAccepted,
    /// An operator accepted that a database of this host is lost.
    LossAccepted,
}

impl Connectivity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }
}

impl EventKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::GlassBroken => "glass-broken",
            Self::GlassSealed => "glass-sealed",
            Self::Revocation => "revocation",
            Self::ClockAccepted => "clock-accepted",
            Self::LossAccepted => "loss-accepted",
        }
    }
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
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "they are those of Event")]
pub struct Draft<'a> {
    pub id: &'a str,
    pub time: Time,
    pub node: &'a NodeId,
    pub kind: EventKind,
    pub decision: Option<&'a str>,
    pub reason: Option<&'a str>,
    pub token: Option<&'a TokenId>,
    pub generation: Option<u32>,
    pub role: Option<&'a RoleRef>,
    pub deployment: Option<&'a DeploymentId>,
    pub method: Option<&'a str>,
    pub route: Option<&'a str>,
    pub path: Option<&'a str>,
    pub permission: Option<&'a str>,
    pub client: Option<IpAddr>,
    pub glass: Option<&'a str>,
    pub operator: Option<&'a str>,
    pub because: Option<&'a str>,
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

    /// Appends the draft to `json`, as serde would write it.
    ///
    /// Every decision is written, so it is done by hand: identifiers, codes and roles hold nothing that JSON would escape, and
    /// are copied as they are; only what came from outside is looked at.
    pub fn write(&self, json: &mut Vec<u8>) {
        let mut members = Members(json);
        members.word("{\"id\":", self.id);
        members.json(",\"time\":", self.time.unix());
        members.word(",\"node\":", self.node.as_str());
        members.word(",\"kind\":", self.kind.as_str());
        members.words(",\"decision\":", self.decision);
        members.words(",\"reason\":", self.reason);
        members.words(",\"token\":", self.token.map(TokenId::as_str));
        if let Some(generation) = self.generation {
            members.json(",\"generation\":", generation);
        }
        if let Some(role) = self.role {
            members.role(role);
        }
        members.words(",\"deployment\":", self.deployment.map(DeploymentId::as_str));
        members.texts(",\"method\":", self.method);
        members.texts(",\"route\":", self.route);
        members.texts(",\"path\":", self.path);
        members.words(",\"permission\":", self.permission);
        if let Some(client) = self.client {
            members.json(",\"client\":", client);
        }
        members.words(",\"glass\":", self.glass);
        members.texts(",\"operator\":", self.operator);
        members.texts(",\"because\":", self.because);
        if let Some(until) = self.until {
            members.json(",\"until\":", until.unix());
        }
        members.word(",\"connectivity\":", self.connectivity.as_str());
        members.0.push(b'}');
    }
}

/// The members of an object, each behind its name as it stands in JSON.
struct Members<'j>(&'j mut Vec<u8>);

impl Members<'_> {
    /// What JSON writes as it is.
    fn word(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    fn words(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.word(name, value);
        }
    }

    fn role(&mut self, role: &RoleRef) {
        self.0.extend_from_slice(b",\"role\":\"");
        self.0.extend_from_slice(role.name().as_bytes());
        self.json("@", role.version());
        self.0.push(b'"');
    }

    /// What may hold anything.
    fn texts(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) if plain(value) => self.word(name, value),
            Some(value) => self.json(name, value),
            None => {}
        }
    }

    fn json(&mut self, name: &str, value: impl Serialize) {
        self.0.extend_from_slice(name.as_bytes());
        // A number, a text or an address can't fail to be written to memory.
        let _ = serde_json::to_writer(&mut *self.0, &value);
    }
}

/// Whether JSON writes text as it is (RFC 8259 section 7).
fn plain(text: &str) -> bool {
    let plain = |byte| byte >= b' ' && byte != b'"' && byte != b'\\';
    // All at once, and not up to the first that is not plain: the compiler looks at many bytes together.
    text.bytes().fold(true, |so_far, byte| so_far & plain(byte))
}

/// Appends to `line` the line of an event: a draft's JSON with its place in the log put before it.
pub fn place(sequence: u64, prev: &str, draft: &str, line: &mut String) {
    line.push_str("{\"sequence\":");
    line.push_str(itoa::Buffer::new().format(sequence));
    line.push_str(",\"prev\":\"");
    line.push_str(prev);
    line.push_str("\",");
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

    use proptest::prelude::*;

    use super::*;

    fn line(sequence: u64, draft: &Draft<'_>) -> String {
        let (mut json, mut line) = (Vec::new(), String::new());
        draft.write(&mut json);
        place(sequence, GENESIS, std::str::from_utf8(&json).unwrap(), &mut line);
        line
    }

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
        let full = line(7, &draft);
        let event: Event = serde_json::from_str(&full).unwrap();
        assert_eq!((event.sequence, event.prev.as_str()), (7, GENESIS));
        assert_eq!(event.path.as_deref(), Some("/api/v2/dags/\"odd\""));
        assert_eq!(serde_json::to_string(&event).unwrap(), full, "both write a line in the same way");
        let bare = line(8, &bare);
        let event: Event = serde_json::from_str(&bare).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), bare);
    }

    #[test]
    fn every_event_id_fits() {
        assert_eq!(&*EventId::new(1_800_000_000, 7), "evt_1800000000-7");
        assert_eq!(&*EventId::new(u64::MAX, u64::MAX), format!("evt_{0}-{0}", u64::MAX));
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_its_line_is_one_event(
            [method, route, path, operator, because] in any::<[String; 5]>(),
            client in any::<Option<IpAddr>>(),
            kind in 0_usize..5,
            connectivity in 0_usize..3,
        ) {
            let kinds = [
                EventKind::Decision,
                EventKind::GlassBroken,
                EventKind::GlassSealed,
                EventKind::Revocation,
                EventKind::ClockAccepted,
            ];
            let connectivities = [Connectivity::Connecting, Connectivity::Online, Connectivity::Offline];
            let node = NodeId::new("nod_a").unwrap();
            let time = Time::from_unix(1_800_000_000);
            let draft = Draft {
                method: Some(&method),
                route: Some(&route),
                path: Some(&path),
                client,
                operator: Some(&operator),
                because: Some(&because),
                ..Draft::new(kinds[kind], "evt_1-1", time, &node, connectivities[connectivity])
            };
            let line = line(1, &draft);
            prop_assert!(!line.contains('\n'));
            let event: Event = serde_json::from_str(&line).unwrap();
            prop_assert_eq!((event.kind, event.connectivity), (draft.kind, draft.connectivity));
            let told = (event.method.as_ref(), event.path.as_ref(), event.operator.as_ref(), event.because.as_ref());
            prop_assert_eq!(told, (Some(&method), Some(&path), Some(&operator), Some(&because)));
            prop_assert_eq!((event.route.as_deref(), event.client), (Some(&*route), client));
            prop_assert_eq!(serde_json::to_string(&event).unwrap(), line);
        }
    }
}
