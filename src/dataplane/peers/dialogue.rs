//! What a node asks a peer, and what it makes of the answer.

use std::sync::Arc;

use thiserror::Error;

use super::answer::verify_answer;
use super::authentication::PeerRefusal;
use super::{Heads, MAX_REVOCATIONS, NAME_PATH, Name, Received, Revoked};
use crate::dataplane::alarm::AlarmKind;
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
    Name,
    Heads,
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
    /// Who asks; none where nothing is proved yet.
    pub bearer: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the answer may be a whole replica.
    pub large: bool,
    /// Who is asked: nobody else may answer.
    pub(super) asked: Option<NodeId>,
    pub(super) call: String,
    topic: Topic,
    /// The last number of what is pushed.
    through: u64,
    /// As much is pushed as may be at once: there may be more.
    whole_page: bool,
}

/// Where a round stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Name,
    Heads,
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
    /// This round is about news alone: they don't wait for the rest.
    telling: bool,
    /// Who answers there, by its own word; each of its answers proves it.
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
            telling: false,
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
        self.telling = false;
        self.stage = if self.peer.is_some() { Stage::Heads } else { Stage::Name };
    }

    /// Begins a round in which only news are told. Whoever answers there must be known: a call is for one node.
    pub fn begin_telling(&mut self) {
        self.telling = true;
        self.stage = if self.peer.is_some() { Stage::Tell } else { Stage::Name };
    }

    /// The next question of the round.
    pub fn next(&mut self, now: Time) -> Result<Option<Question>, DialogueError> {
        let call = self.prover.nonces.next();
        let asked = self.peer.clone();
        let bearer = asked.as_ref().map(|peer| self.prover.jwt(peer.as_str(), &call, now));
        let ask = |topic, path: String| Question {
            method: "GET",
            path,
            bearer,
            body: Vec::new(),
            large: topic == Topic::Bundle,
            asked,
            call,
            topic,
            through: 0,
            whole_page: false,
        };
        loop {
            match self.stage {
                Stage::Name => {
                    let question = ask(Topic::Name, NAME_PATH.into());
                    return Ok(Some(Question { bearer: None, asked: None, ..question }));
                }
                // A node without a replica knows no other node, and can prove nothing but a bundle.
                Stage::Tell if self.live.snapshot().signers().is_empty() => self.stage = Stage::Done,
                Stage::Heads | Stage::Pull(_) if self.live.snapshot().signers().is_empty() => {
                    self.stage = Stage::Bundle(0);
                }
                Stage::Heads => {
                    let held = self.live.snapshot().head().map(|head| head.as_str().to_owned());
                    let body = serde_json::to_vec(&Heads { heads: held.into_iter().collect() })?;
                    let question = ask(Topic::Heads, "/v2/peer/heads".into());
                    return Ok(Some(Question { method: "POST", body, ..question }));
                }
                Stage::Pull(_) => {
                    let path = format!("/v2/peer/revocations?after={}", self.pulled.1);
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
                    let question = ask(Topic::Push, "/v2/peer/revocations".into());
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
                    let path = format!("/v2/peer/bundle?since={since}&signed={signed}");
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
        if let Err(error) = &outcome {
            // Whoever answers there next may be another.
            (self.stage, self.peer) = (Stage::Done, None);
            if let DialogueError::Peer(PeerRefusal::Altered(_)) = error {
                self.live.alarms.raise(AlarmKind::Refused, &format!("a peer's answer: {error}"), now);
            }
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
        self.prove(question, proof, (status, body), now)?;
        match question.topic {
            Topic::Name => {
                let Name { node, instance } = serde_json::from_slice(body)?;
                self.stage = self.meet(node, &instance)?;
            }
            Topic::Heads => {
                let shown: Heads = serde_json::from_slice(body)?;
                self.replication.compare_heads(&shown.heads, now)?;
                self.stage = Stage::Pull(0);
            }
            Topic::Pull => {
                let sent: Revoked = serde_json::from_slice(body)?;
                if sent.revocations.len() > MAX_REVOCATIONS {
                    return Err(DialogueError::TooMany);
                }
                let next_page = match self.stage {
                    Stage::Pull(pages) if pages < MAX_PAGES => Stage::Pull(pages + 1),
                    _ => Stage::Push,
                };
                if sent.list != self.pulled.0 && !self.pulled.0.is_empty() {
                    // It has lost what it had: its numbers begin anew, and it lacks what it had been told.
                    self.pushed = 0;
                    if std::mem::take(&mut self.pulled.1) > 0 {
                        (self.pulled.0, self.stage) = (sent.list, next_page);
                        return Ok(());
                    }
                }
                let taken = self.revocations.take(sent.revocations.iter().map(String::as_str), now)?;
                if taken.refused > 0 {
                    self.refused_with = Some(self.position());
                }
                let whole_page = sent.revocations.len() == MAX_REVOCATIONS;
                // Numbers rise by at least one: it can't be further on than by what came. Whatever a peer says it has
                // skipped is asked for; where its numbers have gaps, a little is read twice.
                let came = u64::try_from(sent.revocations.len()).unwrap_or(0);
                let reached = sent.next.min(self.pulled.1.saturating_add(came));
                self.pulled = (sent.list, reached.max(self.pulled.1));
                self.stage = if whole_page { next_page } else { Stage::Push };
            }
            Topic::Push => {
                let received: Received = serde_json::from_slice(body)?;
                self.pushed = question.through;
                if received.taken.refused > 0 && self.push_again.is_none() {
                    self.push_again = Some(now.plus(PUSH_AGAIN));
                }
                if received.list != self.pulled.0 {
                    // What it was told before this message is lost with its list; in the next round it is told again.
                    if !self.pulled.0.is_empty() {
                        self.push_again = Some(now);
                    }
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

    /// Considers who says to answer there, and what to ask of it.
    fn meet(&mut self, node: NodeId, instance: &str) -> Result<Stage, DialogueError> {
        if node == self.prover.identity.node_id && instance == self.prover.nonces.start() {
            // This very daemon: the list of peers may be the same on every host.
            return Ok(Stage::Done);
        }
        let signers = self.live.snapshot().signers();
        if !signers.is_empty() {
            match signers.get(&node) {
                None => return Err(PeerRefusal::Unknown(node).into()),
                Some(signer) if signer.retired_at.is_some() => return Err(PeerRefusal::Retired(node).into()),
                Some(_) => {}
            }
        }
        self.peer = Some(node);
        Ok(if self.telling { Stage::Tell } else { Stage::Heads })
    }

    /// Proves who answered, and that this is the answer to the question. A node without a replica knows no other node: it
    /// asks for nothing but what the pinned roots vouch for.
    fn prove(
        &self,
        question: &Question,
        proof: Option<&[u8]>,
        answer: (u16, &[u8]),
        now: Time,
    ) -> Result<(), DialogueError> {
        let signers = self.live.snapshot().signers();
        if question.topic == Topic::Name || signers.is_empty() {
            return Ok(());
        }
        let own = &self.prover.identity.node_id;
        let instance = verify_answer(proof.unwrap_or_default(), &signers, own, question, answer, now)?;
        if question.asked.as_ref() == Some(own) && instance != self.prover.nonces.start() {
            self.live.membership.met_itself("a peer that was asked", &self.live.alarms, now);
        }
        Ok(())
    }
}
