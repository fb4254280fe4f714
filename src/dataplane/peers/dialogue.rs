//! The questions of a node to a peer, and its reactions to the answers.

use std::sync::Arc;

use super::answer::verify_answer;
use super::authentication::PeerRefusal;
use super::error::DialogueError;
use super::question::{Question, Topic};
use super::{Deployed, Heads, MAX_DEPLOYS, MAX_REVOCATIONS, NAME_PATH, Name, Received, Revoked};
use crate::dataplane::code::{Code, Wanted};
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::state::Live;
use crate::dataplane::replica::replication::Replication;
use crate::dataplane::replica::store::Origin;
use crate::dataplane::revocations::Revocations;
use crate::protocol::event::Connectivity;
use crate::protocol::head::SignedHead;
use crate::protocol::id::NodeId;
use crate::protocol::json::object;
use crate::protocol::node_proof::Instance;
use crate::protocol::time::Time;

/// Maximum number of pages of revocations that are read in a round.
const MAX_PAGES: u32 = 250;
/// Seconds after which revocations that a peer could not prove are sent again.
const PUSH_AGAIN: i64 = 60;
/// Maximum number of bundles that are applied in a round, so that a chain of changes has an end.
const MAX_BUNDLES: u32 = 64;

/// Stage of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Name,
    Heads,
    Pull(u32),
    Push,
    Deploys,
    Bundle(u32),
    /// News only: the round is over after them.
    Tell,
    Done,
}

/// State of the exchange with one peer.
pub struct Dialogue {
    revocations: Arc<Revocations>,
    replication: Arc<Replication>,
    live: Arc<Live>,
    prover: Arc<Prover>,
    /// Code of the deployments, or `None` if this host has none.
    code: Option<Arc<Code>>,
    /// True if the peer told its host deploys in this round, and so may have archives.
    tells_deploys: bool,
    stage: Stage,
    /// True in a round that only pushes news, which does not wait for the rest.
    telling: bool,
    /// Node at the peer's address, by its own statement. Each of its answers proves it.
    peer: Option<NodeId>,
    /// Identifier of the peer's list, and the number up to which it was read.
    pulled: (String, u64),
    /// Number up to which this node's own list was pushed.
    pushed: u64,
    /// True if a chain of changes did not apply: the next request is for a complete replica.
    whole: bool,
    /// Position of the replica with which a revocation of the peer could not be verified.
    refused_with: Option<(u64, i64)>,
    /// Time at which revocations that the peer could not verify are sent again.
    push_again: Option<Time>,
}

impl Dialogue {
    /// Returns a dialogue that has exchanged nothing yet.
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
            code: None,
            tells_deploys: false,
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

    /// Adds the code of deployments to the subjects.
    #[must_use]
    pub fn with_code(mut self, code: Option<Arc<Code>>) -> Self {
        self.code = code;
        self
    }

    /// Returns the archives that this node lacks, and the peer that may have them, after a round. While the control plane
    /// answers, it sends the archives of its own deploys.
    pub(super) fn lacks(&self, now: Time) -> Option<(Vec<Wanted>, NodeId)> {
        let (code, peer) = (self.code.as_ref()?, self.peer.clone()?);
        let online = self.live.connectivity() == Connectivity::Online;
        let mut wanted = code.wanted(now);
        wanted.retain(|wanted| self.tells_deploys && !(wanted.signed && online));
        (!wanted.is_empty()).then_some((wanted, peer))
    }

    /// Begins a full round.
    pub fn begin(&mut self, now: Time) {
        // A newer replica may hold the keys that the rejected revocations need.
        if self.refused_with.is_some_and(|version| version != self.position()) {
            (self.pulled.1, self.refused_with) = (0, None);
        }
        if self.push_again.is_some_and(|at| now >= at) {
            (self.pushed, self.push_again) = (0, None);
        }
        (self.telling, self.tells_deploys) = (false, false);
        self.stage = if self.peer.is_some() { Stage::Heads } else { Stage::Name };
    }

    /// Begins a round that only pushes news. The node at the address must be known, since a call has one node as its audience.
    pub fn begin_telling(&mut self) {
        self.telling = true;
        self.stage = if self.peer.is_some() { Stage::Tell } else { Stage::Name };
    }

    /// Returns the next request of the round, or `None` at its end.
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
                // A node without a replica knows no other node, and can verify only bundles.
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
                Stage::Deploys => {
                    let Some(code) = &self.code else {
                        self.stage = Stage::Bundle(0);
                        continue;
                    };
                    let body = serde_json::to_vec(&Deployed { deploys: code.host_deploys(MAX_DEPLOYS) })?;
                    let question = ask(Topic::Deploys, "/v2/peer/deploys".into());
                    return Ok(Some(Question { method: "POST", body, ..question }));
                }
                // A node with an uplink gets bundles from its control plane.
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

    /// Processes the answer to a request. An error ends the round; the next one continues at the same place.
    pub fn answered(
        &mut self,
        question: &Question,
        status: u16,
        proof: Option<&[u8]>,
        body: &[u8],
        now: Time,
    ) -> Result<(), DialogueError> {
        let outcome = self.apply_answer(question, status, proof, body, now);
        if let Err(error) = &outcome {
            // Another node may answer at this address next time.
            (self.stage, self.peer) = (Stage::Done, None);
            if let DialogueError::Peer(PeerRefusal::Altered(_)) = error {
                self.live.alarms.raise(AlarmKind::Refused, &format!("a peer's answer: {error}"), now);
            }
        }
        outcome
    }

    fn apply_answer(
        &mut self,
        question: &Question,
        status: u16,
        proof: Option<&[u8]>,
        body: &[u8],
        now: Time,
    ) -> Result<(), DialogueError> {
        // A daemon of an older version does not know the call.
        if question.topic == Topic::Deploys && status == 404 {
            self.stage = Stage::Bundle(0);
            return Ok(());
        }
        if !matches!(status, 200 | 204) {
            return Err(DialogueError::Status(status));
        }
        self.prove(question, proof, (status, body), now)?;
        match question.topic {
            Topic::Name => {
                let Name { node, instance } = object(body)?;
                self.stage = self.meet(node, &instance)?;
            }
            Topic::Heads => {
                let shown: Heads = object(body)?;
                self.replication.compare_heads(&shown.heads, now)?;
                self.stage = Stage::Pull(0);
            }
            Topic::Pull => {
                let sent: Revoked = object(body)?;
                if sent.revocations.len() > MAX_REVOCATIONS {
                    return Err(DialogueError::TooMany);
                }
                let next_page = match self.stage {
                    Stage::Pull(pages) if pages < MAX_PAGES => Stage::Pull(pages + 1),
                    _ => Stage::Push,
                };
                if sent.list != self.pulled.0 && !self.pulled.0.is_empty() {
                    // The peer has lost its list: its numbers begin anew, and it lacks what this node pushed before.
                    self.pushed = 0;
                    if std::mem::take(&mut self.pulled.1) > 0 {
                        (self.pulled.0, self.stage) = (sent.list, next_page);
                        return Ok(());
                    }
                }
                let taken = self.revocations.receive(sent.revocations.iter().map(String::as_str), now)?;
                if taken.refused > 0 {
                    self.refused_with = Some(self.position());
                }
                let whole_page = sent.revocations.len() == MAX_REVOCATIONS;
                // Each number is higher than the one before, so the position can grow at most by the number of received
                // revocations. Numbers that a peer claims to have skipped are requested; where its numbers have gaps, a few
                // revocations are read twice.
                let came = u64::try_from(sent.revocations.len()).unwrap_or(0);
                let reached = sent.next.min(self.pulled.1.saturating_add(came));
                self.pulled = (sent.list, reached.max(self.pulled.1));
                self.stage = if whole_page { next_page } else { Stage::Push };
            }
            Topic::Push => {
                let received: Received = object(body)?;
                self.pushed = question.through;
                if received.taken.refused > 0 && self.push_again.is_none() {
                    self.push_again = Some(now.plus(PUSH_AGAIN));
                }
                if received.list != self.pulled.0 {
                    // The peer lost its list and what was pushed before this message. The next round pushes it again.
                    if !self.pulled.0.is_empty() {
                        self.push_again = Some(now);
                    }
                    self.pulled = (received.list, 0);
                }
                // News that arrived meanwhile wait for the next round, so that this one ends.
                if !question.whole_page {
                    self.all_told();
                }
            }
            Topic::Deploys => {
                let told: Deployed = object(body)?;
                if let Some(code) = &self.code {
                    code.take_hosts(told.deploys.iter().take(MAX_DEPLOYS).map(String::as_str))?;
                }
                (self.stage, self.tells_deploys) = (Stage::Bundle(0), true);
            }
            Topic::Bundle if status == 204 => {
                self.stage = Stage::Done;
                self.whole = false;
            }
            Topic::Bundle => {
                let before = self.position();
                let taken = self.replication.apply_bundle(body, Origin::Peer, now);
                // Changes that do not apply to this node's replica are no attack: the node may have missed a keyset.
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

    /// Moves to the stage after the push.
    fn all_told(&mut self) {
        self.stage = if self.stage == Stage::Tell { Stage::Done } else { Stage::Deploys };
    }

    fn position(&self) -> (u64, i64) {
        let snapshot = self.live.snapshot();
        snapshot.head().map_or((0, 0), |head| (head.head().version, head.head().iat.unix()))
    }

    /// Checks the node that names itself at the address, and returns the next stage of the round.
    fn meet(&mut self, node: NodeId, instance: &Instance) -> Result<Stage, DialogueError> {
        if node == self.prover.identity.node_id && instance == self.prover.nonces.start() {
            // The address is this daemon's own: the list of peers may be the same on every host.
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

    /// Verifies which node answered, and that the answer belongs to the question. A node without a replica knows no other
    /// node: it requests only bundles, which the pinned roots prove.
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
        if question.asked.as_ref() == Some(own) && instance != *self.prover.nonces.start() {
            self.live.membership.met_itself("a peer that was asked", &self.live.alarms, now);
        }
        Ok(())
    }
}
