//! What a node asks a peer, and what it makes of the answer.

use std::sync::Arc;

use thiserror::Error;

use super::authentication::{PeerRefusal, authenticate};
use super::{MAX_REVOCATIONS, Received, Revoked};
use crate::dataplane::live::Live;
use crate::dataplane::proof::Prover;
use crate::dataplane::replication::Replication;
use crate::dataplane::revocation::{LedgerError, Revocations};
use crate::dataplane::store::{Origin, StoreError};
use crate::protocol::event::Connectivity;
use crate::protocol::head::SignedHead;
use crate::protocol::id::NodeId;
use crate::protocol::time::Time;

/// Pages of revocations that are read in a round.
const MAX_PAGES: u32 = 250;
/// When what a peer could not prove is sent again, in seconds.
const PUSH_AGAIN: i64 = 60;
/// Bundles that are taken in a round: a chain of changes has an end.
const MAX_BUNDLES: u32 = 64;

/// Why a peer's answer is of no use.
#[derive(Debug, Error)]
pub enum DialogueError {
    /// Whoever answered is no node of this data plane.
    #[error(transparent)]
    Peer(#[from] PeerRefusal),
    /// It answered something else than asked for.
    #[error("it answered {0}")]
    Status(u16),
    /// Its answer is not understood.
    #[error("its answer is not understood: {0}")]
    Answer(#[from] serde_json::Error),
    /// More than it may send.
    #[error("it sent more than {MAX_REVOCATIONS} revocations at once")]
    TooMany,
    /// The local revocations.
    #[error(transparent)]
    Revocations(#[from] LedgerError),
    /// What it sent is not believed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    Pull,
    Push,
    Bundle,
}

/// A question to a peer.
#[derive(Clone, Debug)]
pub struct Question {
    /// `GET`, or `POST` when there is a body.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// Who asks.
    pub bearer: String,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the answer may be a whole replica.
    pub large: bool,
    topic: Topic,
    call: String,
    /// The last number of what is pushed.
    through: u64,
    /// As much is pushed as may be at once: there may be more.
    whole_page: bool,
}

/// Where a round stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Pull(u32),
    Push,
    Bundle(u32),
    /// News alone: after them the round is over.
    Tell,
    Done,
}

/// What this node has told and asked one peer.
pub struct Dialogue {
    revocations: Arc<Revocations>,
    replication: Arc<Replication>,
    live: Arc<Live>,
    prover: Arc<Prover>,
    stage: Stage,
    /// Who answers there, once it has proved it.
    peer: Option<NodeId>,
    /// The peer's list, and how far it was read.
    pulled: (String, u64),
    /// How far this node's own list was sent.
    pushed: u64,
    /// The chain of changes did not hold: ask for all of it.
    whole: bool,
    /// The replica with which something the peer has could not be proved.
    refused_with: Option<(u64, i64)>,
    /// When to send again what the peer could not prove.
    push_again: Option<Time>,
}

impl Dialogue {
    /// Nothing has been said yet.
    #[must_use]
    pub fn new(
        revocations: Arc<Revocations>,
        replication: Arc<Replication>,
        live: Arc<Live>,
        prover: Arc<Prover>,
    ) -> Self {
        let pulled = (String::new(), 0);
        Self {
            revocations,
            replication,
            live,
            prover,
            stage: Stage::Done,
            peer: None,
            pulled,
            pushed: 0,
            whole: false,
            refused_with: None,
            push_again: None,
        }
    }

    /// Begins a round: all there is to say and to ask.
    pub fn begin(&mut self, now: Time) {
        // What could not be proved may be by now.
        if self.refused_with.is_some_and(|version| version != self.position()) {
            (self.pulled.1, self.refused_with) = (0, None);
        }
        if self.push_again.is_some_and(|at| now >= at) {
            (self.pushed, self.push_again) = (0, None);
        }
        self.stage = Stage::Pull(0);
    }

    /// Begins a round in which only news are told. Who answers must have proved itself before: news are for nodes.
    pub fn begin_telling(&mut self) {
        self.stage = if self.peer.is_some() { Stage::Tell } else { Stage::Pull(0) };
    }

    /// The next question of the round.
    pub fn next(&mut self, now: Time) -> Result<Option<Question>, DialogueError> {
        let call = self.prover.nonces.next();
        let bearer = self.prover.jwt(self.prover.identity.data_plane_id.as_str(), &call, now);
        let ask = |topic, path: String| Question {
            method: "GET",
            path,
            bearer,
            body: Vec::new(),
            large: topic == Topic::Bundle,
            topic,
            call,
            through: 0,
            whole_page: false,
        };
        loop {
            match self.stage {
                Stage::Pull(_) => {
                    let path = format!("/v1/peer/revocations?after={}", self.pulled.1);
                    return Ok(Some(ask(Topic::Pull, path)));
                }
                Stage::Push | Stage::Tell => {
                    let held = self.revocations.after(self.pushed, MAX_REVOCATIONS)?;
                    let Some(through) = held.last().map(|last| last.number) else {
                        self.all_told();
                        continue;
                    };
                    let whole_page = held.len() == MAX_REVOCATIONS;
                    let message = Revoked {
                        list: self.revocations.id().to_owned(),
                        next: through,
                        revocations: held.into_iter().map(|held| held.text).collect(),
                    };
                    let body = serde_json::to_vec(&message)?;
                    let question = ask(Topic::Push, "/v1/peer/revocations".into());
                    return Ok(Some(Question { method: "POST", body, through, whole_page, ..question }));
                }
                // Whoever has an uplink hears it from there.
                Stage::Bundle(taken)
                    if taken < MAX_BUNDLES && self.live.connectivity() != Connectivity::Online =>
                {
                    let snapshot = self.live.snapshot();
                    let head = snapshot.head().map(SignedHead::head);
                    let (version, signed) = head.map_or((0, 0), |head| (head.version, head.iat.unix()));
                    let since = if self.whole { 0 } else { version };
                    let path = format!("/v1/peer/bundle?since={since}&signed={signed}");
                    return Ok(Some(ask(Topic::Bundle, path)));
                }
                Stage::Bundle(_) | Stage::Done => {
                    self.stage = Stage::Done;
                    return Ok(None);
                }
            }
        }
    }

    /// Takes the answer to a question. An error ends the round; the next one begins where this one came to.
    pub fn answered(
        &mut self,
        question: &Question,
        status: u16,
        proof: Option<&[u8]>,
        body: &[u8],
        now: Time,
    ) -> Result<(), DialogueError> {
        let outcome = self.take(question, status, proof, body, now);
        if outcome.is_err() {
            self.stage = Stage::Done;
        }
        outcome
    }

    fn take(
        &mut self,
        question: &Question,
        status: u16,
        proof: Option<&[u8]>,
        body: &[u8],
        now: Time,
    ) -> Result<(), DialogueError> {
        if !matches!(status, 200 | 204) {
            return Err(DialogueError::Status(status));
        }
        self.prove(question, proof, now)?;
        match question.topic {
            Topic::Pull => {
                let sent: Revoked = serde_json::from_slice(body)?;
                if sent.revocations.len() > MAX_REVOCATIONS {
                    return Err(DialogueError::TooMany);
                }
                if sent.list != self.pulled.0 && self.pulled.1 > 0 {
                    // It has lost what it had: its numbers begin anew, and it lacks what it had been told.
                    (self.pulled, self.pushed) = ((sent.list, 0), 0);
                    return Ok(());
                }
                let taken = self.revocations.take(sent.revocations.iter().map(String::as_str), now)?;
                if taken.refused > 0 {
                    self.refused_with = Some(self.position());
                }
                let whole_page = sent.revocations.len() == MAX_REVOCATIONS;
                self.pulled = (sent.list, sent.next.max(self.pulled.1));
                self.stage = match self.stage {
                    Stage::Pull(pages) if whole_page && pages < MAX_PAGES => Stage::Pull(pages + 1),
                    _ => Stage::Push,
                };
            }
            Topic::Push => {
                let received: Received = serde_json::from_slice(body)?;
                self.pushed = question.through;
                if received.taken.refused > 0 && self.push_again.is_none() {
                    self.push_again = Some(now.plus(PUSH_AGAIN));
                }
                if received.list != self.pulled.0 {
                    self.pulled = (received.list, 0);
                }
                // What has come up meanwhile is for the next round: this one has an end.
                if !question.whole_page {
                    self.all_told();
                }
            }
            Topic::Bundle if status == 204 => {
                self.stage = Stage::Done;
                self.whole = false;
            }
            Topic::Bundle => {
                let before = self.position();
                let taken = self.replication.take(body, Origin::Peer, now);
                // Changes that do not fit on what this node has are no lie: it may have missed a keyset.
                let failed = taken.is_err() && !self.whole;
                self.whole = failed;
                if let (Err(refused), false) = (taken, failed) {
                    return Err(refused.into());
                }
                let moved = self.position() > before;
                self.stage = match self.stage {
                    Stage::Bundle(taken) if moved || failed => Stage::Bundle(taken + 1),
                    _ => Stage::Done,
                };
            }
        }
        Ok(())
    }

    /// Goes on behind what there was to tell.
    fn all_told(&mut self) {
        self.stage = if self.stage == Stage::Tell { Stage::Done } else { Stage::Bundle(0) };
    }

    fn position(&self) -> (u64, i64) {
        let snapshot = self.live.snapshot();
        snapshot.head().map_or((0, 0), |head| (head.head().version, head.head().iat.unix()))
    }

    /// Who answered. A node without a replica knows no other node: it takes nothing but what the pinned roots vouch for.
    fn prove(&mut self, question: &Question, proof: Option<&[u8]>, now: Time) -> Result<(), DialogueError> {
        let signers = self.live.snapshot().signers();
        if signers.is_empty() {
            return Ok(());
        }
        let own = self.prover.identity.node_id.as_str();
        let peer = authenticate(proof.unwrap_or_default(), &signers, own, now)?;
        if peer.call != question.call {
            return Err(PeerRefusal::Again.into());
        }
        self.peer = Some(peer.node);
        Ok(())
    }
}
