//! Drafts of events: encoded by the thread that decides, and placed in the log by its writer.

use std::net::IpAddr;

use serde::Serialize;

use super::{Connectivity, EventKind};
use crate::protocol::id::{DeploymentId, NodeId, SessionId, TokenId};
use crate::protocol::role::RoleRef;
use crate::protocol::time::Time;

/// An event without a position in a log: all members of [`Event`](super::Event) except `sequence` and `prev`.
///
/// The thread that decides encodes the draft as JSON at once; the log's writer then prepends the position with [`place`].
/// The text is encoded only once, and its members are in the order of [`Event`](super::Event).
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

    /// Appends the draft to `json`, byte for byte as serde would write the [`Event`](super::Event).
    ///
    /// This runs for every decision, so the code is written by hand. Identifiers, codes and roles contain no character
    /// that JSON escapes and are copied; only text from outside is scanned.
    ///
    /// ```
    /// use halligan::protocol::event::{Connectivity, Draft, EventKind};
    /// use halligan::protocol::time::Time;
    ///
    /// let (node, time) = ("nod_a".parse().unwrap(), Time::from_unix(1_800_000_000));
    /// let draft = Draft::new(EventKind::Decision, "evt_a", time, &node, Connectivity::Online);
    /// let mut json = Vec::new();
    /// draft.write(&mut json);
    /// let event: serde_json::Value = serde_json::from_slice(&json).unwrap();
    /// assert_eq!(event["node"], "nod_a");
    /// ```
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
