//! Answers the calls of peers. Every caller but one that asks for the node's name is authenticated, and its calls are limited.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::StatusCode;
use serde::Serialize;

use super::answer::prove_answer;
use super::authentication::{Peer, PeerRefusal, authenticate};
use super::question::PeerRequest;
use super::{Deployed, Heads, MAX_DEPLOYS, MAX_REVOCATIONS, Name, Received, Revoked};
use crate::api::problem::{self, Problem};
use crate::dataplane::code::Code;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::state::Live;
use crate::dataplane::replica::replication::Replication;
use crate::dataplane::revocations::Revocations;
use crate::platform::clock::Clock;
use crate::protocol::bundle::MEDIA_TYPE;
use crate::protocol::id::NodeId;
use crate::protocol::json::object;
use crate::protocol::node_proof::Seen;
use crate::protocol::time::Time;

/// Maximum number of calls of one peer in a second.
const MAX_CALLS: u32 = 50;
/// Minimum number of seconds between two complete replicas for one peer.
const REPLICA_INTERVAL: i64 = 10;

/// Answer to a peer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status of the answer.
    pub status: u16,
    /// Media type of the body.
    pub kind: &'static str,
    /// Body of the answer.
    pub body: Arc<[u8]>,
    /// Signature of this node over question and answer, for the calling peer.
    pub proof: Option<String>,
}

impl Reply {
    fn json(value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self { status: 200, kind: "application/json", body: body.into(), proof: None }
    }

    /// Returns the answer to a call whose message is not understood.
    fn not_understood(error: &dyn std::fmt::Display) -> Self {
        Self::problem(StatusCode::BAD_REQUEST, &format!("the message is not understood: {error}"))
    }

    /// Returns the answer to a call that fails on this node.
    pub(super) fn failed(error: &dyn std::fmt::Display) -> Self {
        Self::problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
    }

    pub(super) fn problem(status: StatusCode, detail: &str) -> Self {
        let problem = Problem { detail: Some(detail.to_owned()), ..Problem::new(status) };
        Self {
            status: problem.status,
            kind: problem::MEDIA_TYPE,
            body: problem.to_json().into(),
            proof: None,
        }
    }
}

/// Recent calls of a peer, for its limits.
#[derive(Debug, Default)]
struct Use {
    second: Time,
    calls: u32,
    replica: Option<Time>,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Memory {
    uses: HashMap<NodeId, Use>,
    /// Complete replica as a bundle, and the head that it belongs to.
    replica: Option<(String, Arc<[u8]>)>,
}

/// Server side of the peer protocol.
pub struct PeerFace {
    revocations: Arc<Revocations>,
    replication: Arc<Replication>,
    live: Arc<Live>,
    prover: Arc<Prover>,
    clock: Clock,
    memory: Mutex<Memory>,
    code: Option<Arc<Code>>,
}

impl PeerFace {
    /// Returns a server that answers from this node's state.
    #[must_use]
    pub fn new(
        revocations: Arc<Revocations>,
        replication: Arc<Replication>,
        live: Arc<Live>,
        prover: Arc<Prover>,
        clock: Clock,
    ) -> Self {
        Self { revocations, replication, live, prover, clock, memory: Mutex::default(), code: None }
    }

    /// Adds the code of deployments to the subjects.
    #[must_use]
    pub fn with_code(mut self, code: Option<Arc<Code>>) -> Self {
        self.code = code;
        self
    }

    /// Returns the code of deployments.
    pub(super) fn code(&self) -> Option<&Arc<Code>> {
        self.code.as_ref()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // The memory only counts calls: after a panic some may be missing.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name of this node, without authentication.
    #[must_use]
    pub fn name(&self) -> Reply {
        let node = self.prover.identity.node_id.clone();
        Reply::json(&Name { node, instance: self.prover.nonces.start().clone() })
    }

    /// Authenticates the caller before any of its request's body is read.
    pub fn admit(&self, bearer: Option<&[u8]>) -> Result<Peer, Reply> {
        let (now, snapshot) = ((self.clock)(), self.live.snapshot());
        let audience = self.prover.identity.node_id.as_str();
        let refused = |refusal: &PeerRefusal| Reply::problem(StatusCode::UNAUTHORIZED, &refusal.to_string());
        let proof = bearer.unwrap_or_default();
        let peer =
            authenticate(proof, &snapshot.signers(), audience, now).map_err(|refusal| refused(&refusal))?;
        let mut memory = self.memory();
        let used = memory.uses.entry(peer.node.clone()).or_default();
        if used.second != now {
            (used.second, used.calls) = (now, 0);
        }
        used.calls += 1;
        if used.calls > MAX_CALLS {
            return Err(Reply::problem(StatusCode::TOO_MANY_REQUESTS, "this node asks too often"));
        }
        if !used.seen.note(&peer.call, peer.until, now) {
            return Err(refused(&PeerRefusal::Again));
        }
        drop(memory);
        let another = peer.instance.as_ref().is_some_and(|instance| instance != self.prover.nonces.start());
        if peer.node.as_str() == audience && another {
            self.live.membership.met_itself("a peer that asks", &self.live.alarms, now);
        }
        Ok(peer)
    }

    /// Answers a peer, and signs the answer. The call reads databases, so it must not run on a reactor thread.
    pub fn answer(&self, peer: &Peer, asked: PeerRequest<'_>) -> Reply {
        let reply = match (asked.method, asked.path) {
            ("GET", "/v2/peer/revocations") => self.revoked(asked.query),
            ("POST", "/v2/peer/revocations") => self.received(asked.body),
            ("POST", "/v2/peer/heads") => self.heads(asked.body),
            ("POST", "/v2/peer/deploys") => self.deploys(asked.body),
            ("GET", "/v2/peer/bundle") => self.bundle(peer, asked.query),
            _ => Reply::problem(StatusCode::NOT_FOUND, "there is no such call"),
        };
        let proof = prove_answer(&self.prover, peer, asked, (reply.status, &reply.body), (self.clock)());
        Reply { proof: Some(proof), ..reply }
    }

    /// Compares the heads that a peer received with those of this node, and returns this node's heads.
    fn heads(&self, body: &[u8]) -> Reply {
        let sent: Heads = match object(body) {
            Ok(sent) => sent,
            Err(error) => return Reply::not_understood(&error),
        };
        match self.replication.compare_heads(&sent.heads, (self.clock)()) {
            Ok(own) => Reply::json(&Heads { heads: own }),
            Err(error) => Reply::failed(&error),
        }
    }

    /// Takes the host deploys that a peer knows, and returns those of this node.
    fn deploys(&self, body: &[u8]) -> Reply {
        let Some(code) = &self.code else {
            return Reply::problem(StatusCode::NOT_FOUND, "there is no such call");
        };
        let told: Deployed = match object(body) {
            Ok(told) => told,
            Err(error) => return Reply::not_understood(&error),
        };
        if told.deploys.len() > MAX_DEPLOYS {
            return Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, "send fewer host deploys at once");
        }
        match code.take_hosts(told.deploys.iter().map(String::as_str)) {
            Ok(_) => Reply::json(&Deployed { deploys: code.host_deploys(MAX_DEPLOYS) }),
            Err(error) => Reply::failed(&error),
        }
    }

    fn revoked(&self, query: &str) -> Reply {
        let after = parameter(query, "after");
        match self.revocations.after(after, MAX_REVOCATIONS) {
            Ok(held) => Reply::json(&Revoked {
                list: self.revocations.id().to_owned(),
                next: held.last().map_or(after, |last| last.number),
                revocations: held.into_iter().map(|held| held.text).collect(),
            }),
            Err(error) => Reply::failed(&error),
        }
    }

    fn received(&self, body: &[u8]) -> Reply {
        let sent: Revoked = match object(body) {
            Ok(sent) => sent,
            Err(error) => return Reply::not_understood(&error),
        };
        if sent.revocations.len() > MAX_REVOCATIONS {
            return Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, "send fewer revocations at once");
        }
        match self.revocations.receive(sent.revocations.iter().map(String::as_str), (self.clock)()) {
            Ok(taken) => Reply::json(&Received { list: self.revocations.id().to_owned(), taken }),
            Err(error) => Reply::failed(&error),
        }
    }

    /// Returns the bundle that a peer lacks: nothing, a newer head over the same records, the changes, or a complete replica.
    fn bundle(&self, peer: &Peer, query: &str) -> Reply {
        let (since, signed) = (parameter(query, "since"), parameter(query, "signed"));
        let snapshot = self.live.snapshot();
        let Some(head) = snapshot.head() else {
            return Reply::problem(StatusCode::NOT_FOUND, "this node has no replica");
        };
        let (version, at) = (head.head().version, u64::try_from(head.head().iat.unix()).unwrap_or(0));
        if (version, at) <= (since, signed) {
            return Reply { status: 204, kind: MEDIA_TYPE, body: Arc::default(), proof: None };
        }
        let bundle = |body| Reply { status: 200, kind: MEDIA_TYPE, body, proof: None };
        if let Some(changes) = self.replication.changes_since(since) {
            return bundle(changes);
        }
        let now = (self.clock)();
        let mut memory = self.memory();
        let used = memory.uses.entry(peer.node.clone()).or_default();
        if used.replica.is_some_and(|before| now.since(before) < REPLICA_INTERVAL) {
            return Reply::problem(
                StatusCode::TOO_MANY_REQUESTS,
                "this node asks for whole replicas too often",
            );
        }
        used.replica = Some(now);
        if let Some((of, whole)) = &memory.replica
            && of == head.as_str()
        {
            return bundle(Arc::clone(whole));
        }
        drop(memory);
        match self.replication.export() {
            Ok(Some(whole)) => {
                let whole: Arc<[u8]> = whole.into();
                self.memory().replica = Some((head.as_str().to_owned(), Arc::clone(&whole)));
                bundle(whole)
            }
            Ok(None) => Reply::problem(StatusCode::NOT_FOUND, "this node has no replica"),
            Err(error) => Reply::failed(&error),
        }
    }
}

/// Returns a number from a query, or 0 if it is missing.
fn parameter(query: &str, name: &str) -> u64 {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}
