//! Defines the events of the audit log: one JSON line for each decision and each act on the host, chained by hash.
//!
//! docs/audit.md describes the log, docs/protocol/log.md the format.

mod draft;

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

pub use draft::{Draft, place};

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
    ///
    /// ```
    /// use halligan::protocol::event::EventId;
    ///
    /// assert_eq!(&*EventId::new(1_800_000_000, 42), "evt_1800000000-42");
    /// ```
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
///
/// ```
/// use halligan::protocol::event::{Connectivity, Draft, Event, EventKind, GENESIS, line_hash, place};
/// use halligan::protocol::time::Time;
///
/// let (node, time) = ("nod_eu1".parse()?, Time::from_unix(1_800_000_000));
/// let draft = Draft::new(EventKind::Decision, "evt_1-1", time, &node, Connectivity::Offline);
/// let (mut json, mut line) = (Vec::new(), String::new());
/// Draft { reason: Some("token_expired"), ..draft }.write(&mut json);
/// place(1, GENESIS, std::str::from_utf8(&json)?, &mut line);
///
/// let event: Event = serde_json::from_str(&line)?;
/// assert_eq!((event.reason.as_deref(), event.token), (Some("token_expired"), None));
/// // The next event carries the hash of this line. A changed line has another hash.
/// assert_ne!(line_hash(&line), line_hash(&line.replace("expired", "revoked")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    ///
    /// ```
    /// use halligan::protocol::event::{Checkpoint, GENESIS};
    /// use halligan::protocol::jws::{JwsError, Typ, sign};
    /// use halligan::protocol::key::SigningKey;
    /// use halligan::protocol::time::Time;
    ///
    /// let key = SigningKey::from_seed(&[1; 32]);
    /// let (iss, iat) = ("nod_eu1".parse()?, Time::from_unix(1_800_000_000));
    /// let (number, sequence, hash, dropped) = (1, 0, GENESIS.into(), false);
    /// let checkpoint = Checkpoint { iss, iat, number, sequence, hash, dropped };
    /// let text = sign(Typ::AuditCheckpoint, &serde_json::to_vec(&checkpoint)?, &key);
    /// assert_eq!(Checkpoint::verify(&text, key.public())?, checkpoint);
    ///
    /// let other = SigningKey::from_seed(&[2; 32]);
    /// assert_eq!(Checkpoint::verify(&text, other.public()), Err(JwsError::KeyUnknown));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(text: &str, key: &PublicKey) -> Result<Self, JwsError> {
        Unverified::parse(text.as_bytes(), MAX_CHECKPOINT)?.verify(Typ::AuditCheckpoint, key)?.claims()
    }
}

#[cfg(test)]
mod tests;
