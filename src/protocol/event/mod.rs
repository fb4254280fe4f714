//! Defines the events of the audit log: one JSON line for each decision and each act on the host, chained by hash.
//!
//! docs/audit.md describes the log, docs/protocol/log.md the format.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayString;
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::id::{DeploymentId, NodeId, SessionId, TokenId};
use super::jws::{BASE64URL, JwsError, Typ, Unverified};
use super::key::PublicKey;
use super::role::RoleRef;
use super::time::Time;

/// Reachability of the control plane, as the node judged it at the time of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connectivity {
    /// The node has started and has not reached the control plane yet.
    Connecting,
    /// The node judges the control plane reachable.
    Online,
    /// The node judges the control plane unreachable: an outage.
    Offline,
}

/// Returns the SHA-256 of an event's line in base64url (43 characters). The next event of the log carries it as `prev`.
///
/// ```
/// use halligan::protocol::event::line_hash;
///
/// assert_eq!(line_hash(""), "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
/// ```
#[must_use]
pub fn line_hash(line: &str) -> String {
    BASE64URL.encode(Sha256::digest(line))
}

/// Splits a log into lines at LF only. A CR before the LF stays part of the line, because its hash covers it.
///
/// ```
/// use halligan::protocol::event::split_lines;
///
/// assert_eq!(split_lines("a\r\nb\n").collect::<Vec<_>>(), ["a\r", "b"]);
/// ```
pub fn split_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_terminator('\n')
}

/// Identifier of an event: `evt_START-NUMBER`. It is stored inline, so that a request allocates no memory for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId(ArrayString<{ "evt_".len() + 20 + "-".len() + 20 }>);

impl EventId {
    /// Returns the identifier of event `number` of the daemon's start `boot`.
    #[must_use]
    pub fn new(boot: u64, number: u64) -> Self {
        let mut text = ArrayString::new();
        let (mut first, mut second) = (itoa::Buffer::new(), itoa::Buffer::new());
        for part in ["evt_", first.format(boot), "-", second.format(number)] {
            // The capacity holds two numbers of 64 bits, so this never fails.
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

/// Value of `prev` in the first event of a log: 32 zero bytes in base64url.
pub const GENESIS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The node decided on a request.
    Decision,
    /// An operator broke the glass of a deployment on this host.
    GlassBroken,
    /// The glass of a deployment was sealed again, by an operator or at the end of its time.
    GlassSealed,
    /// An operator revoked a token on this host.
    Revocation,
    /// An administrator accepted the clock of this host, which was behind the time floor.
    ClockAccepted,
    /// An operator accepted the loss of a database of this host.
    LossAccepted,
    /// A browser's session was ended on this host before its time, by an operator or by signing out.
    SessionEnded,
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
            Self::SessionEnded => "session-ended",
        }
    }
}

/// One event of the audit log. Members without a value are absent from the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// Number of the event in this node's log, from 1, without gaps.
    pub sequence: u64,
    /// [`line_hash`] of the event before, or [`GENESIS`].
    pub prev: String,
    /// Identifier that the answer to the caller carried.
    pub id: String,
    /// Time of the decision or act.
    pub time: Time,
    /// Node that wrote the event.
    pub node: NodeId,
    /// Kind of the event.
    pub kind: EventKind,
    /// Result of a decision: `allow` or `deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Cow<'static, str>>,
    /// Reason code of a decision, such as `token_expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// Identifier of the token. Absent unless the token's signature was valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    /// Generation of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Session of a browser by which the token was used, or that a sign-in began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Role of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleRef>,
    /// Deployment to which the request was directed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// Method of the original request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Template of the route that matched, such as `/api/v2/dags/{dag_id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Arc<str>>,
    /// Canonical path of the request, without the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Permission that the route requires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<Cow<'static, str>>,
    /// Address of the client, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// State of the deployment's glass ([`super::glass::GlassState`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glass: Option<Cow<'static, str>>,
    /// User at the other end of the admin socket, by the kernel's credentials (`SO_PEERCRED`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The operator's reason for the act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Time at which the effect of the act ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Reachability of the control plane at that time.
    pub connectivity: Connectivity,
}

/// An event without a position in a log: all members of [`Event`] except `sequence` and `prev`.
///
/// The thread that decides encodes the draft as JSON at once; the log's writer then prepends the position with [`place`].
/// The text is encoded only once, and its members are in the order of [`Event`].
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
    pub session: Option<&'a SessionId>,
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
    /// Returns a draft in which every optional member is absent.
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
            session: None,
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

    /// Appends the draft to `json`, byte for byte as serde would write the [`Event`].
    ///
    /// This runs for every decision, so the code is written by hand. Identifiers, codes and roles contain no character
    /// that JSON escapes and are copied; only text from outside is scanned.
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
        members.words(",\"session\":", self.session.map(SessionId::as_str));
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

/// Appends members to a JSON object. Each name is passed with its punctuation, such as `,"kind":`.
struct Members<'j>(&'j mut Vec<u8>);

impl Members<'_> {
    /// Appends a string that contains nothing to escape.
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

    /// Appends any string, escaped where JSON demands it.
    fn texts(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) if plain(value) => self.word(name, value),
            Some(value) => self.json(name, value),
            None => {}
        }
    }

    fn json(&mut self, name: &str, value: impl Serialize) {
        self.0.extend_from_slice(name.as_bytes());
        // Writing a number, a string or an address to memory never fails.
        let _ = serde_json::to_writer(&mut *self.0, &value);
    }
}

/// Returns true if JSON writes `text` without escapes (RFC 8259 section 7).
fn plain(text: &str) -> bool {
    let plain = |byte| byte >= b' ' && byte != b'"' && byte != b'\\';
    // The fold visits every byte: without an early exit the compiler vectorizes the loop.
    text.bytes().fold(true, |so_far, byte| so_far & plain(byte))
}

/// Appends the line of an event to `line`: the JSON of a [`Draft`] with `sequence` and `prev` prepended.
///
/// ```
/// use halligan::protocol::event::place;
///
/// let mut line = String::new();
/// place(7, "47DEQ", r#"{"kind":"decision"}"#, &mut line);
/// assert_eq!(line, r#"{"sequence":7,"prev":"47DEQ","kind":"decision"}"#);
/// ```
pub fn place(sequence: u64, prev: &str, draft: &str, line: &mut String) {
    line.push_str("{\"sequence\":");
    line.push_str(itoa::Buffer::new().format(sequence));
    line.push_str(",\"prev\":\"");
    line.push_str(prev);
    line.push_str("\",");
    line.push_str(draft.strip_prefix('{').unwrap_or(draft));
}

/// Claims of a checkpoint, which a node signs: its audit log has reached event `sequence`, whose line has the hash
/// `hash`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Node that signed the checkpoint.
    pub iss: NodeId,
    /// Time of the signature.
    pub iat: Time,
    /// Number of the checkpoint, from 1, without gaps.
    pub number: u64,
    /// Number of the last event that it covers.
    pub sequence: u64,
    /// [`line_hash`] of that event.
    pub hash: String,
    /// True if the node has deleted all events up to `sequence`. The log then begins with the event after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
}

/// The longest checkpoint, in bytes.
const MAX_CHECKPOINT: usize = 4096;

impl Checkpoint {
    /// Reads a checkpoint that `key` signed.
    pub fn verify(text: &str, key: &PublicKey) -> Result<Self, JwsError> {
        Unverified::parse(text.as_bytes(), MAX_CHECKPOINT)?.verify(Typ::AuditCheckpoint, key)?.claims()
    }
}

#[cfg(test)]
mod tests;
