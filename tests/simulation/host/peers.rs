//! Messages between hosts: the daemon's own dialogue and answers, without a socket between them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::peers::{Asked, Dialogue, Question};
use halligan::protocol::head::{Head, MAX_HEAD};
use halligan::protocol::jws::Unverified;
use halligan::protocol::time::Time;

use super::{Host, TELL, text};
use crate::network::Millis;
use crate::peers::{Evidence, Given, Sent};

impl Host {
    /// Begins a round with the host that is number `peer` in the story.
    pub fn begin_round(&mut self, peer: usize, now: Millis, wall: Time) -> bool {
        self.clock.store(wall.unix(), Ordering::Relaxed);
        let Some(process) = &mut self.process else { return false };
        process.look(now, wall);
        let (revocations, replication) = (&process.reconciler.revocations, &process.replication);
        let dialogue = process.dialogues.entry(peer).or_insert_with(|| {
            let (live, prover) = (Arc::clone(&process.live), Arc::clone(&process.reconciler.prover));
            Dialogue::new(Arc::clone(revocations), Arc::clone(replication), live, prover)
        });
        dialogue.begin(wall);
        // The daemon tells its control plane, too, which revocations a peer told it.
        process.tell.get_or_insert(now + TELL);
        true
    }

    /// The next question of a round; none at its end.
    pub fn next_question(&mut self, peer: usize, wall: Time) -> Result<Option<Question>, String> {
        let dialogue = self.process.as_mut().and_then(|process| process.dialogues.get_mut(&peer));
        dialogue.map_or(Ok(None), |dialogue| dialogue.next(wall).map_err(text))
    }

    /// Takes the answer of a peer.
    pub fn peer_answered(
        &mut self,
        peer: usize,
        question: &Question,
        given: &Given,
        wall: Time,
    ) -> Result<(), String> {
        let dialogue = self.process.as_mut().and_then(|process| process.dialogues.get_mut(&peer));
        let proof = given.proof.as_deref().map(str::as_bytes);
        dialogue.map_or(Ok(()), |dialogue| {
            dialogue.answered(question, given.status, proof, &given.body, wall).map_err(text)
        })
    }

    /// Answers a peer; none while it is down.
    pub fn reply(&mut self, sent: &Sent, now: Millis, wall: Time) -> Option<Given> {
        self.clock.store(wall.unix(), Ordering::Relaxed);
        let process = self.process.as_mut()?;
        process.tell.get_or_insert(now + TELL);
        let (path, query) = sent.path.split_once('?').unwrap_or((&sent.path, ""));
        let asked = Asked { method: sent.method, path, query, body: &sent.body };
        let reply = match &sent.bearer {
            None => process.face.name(),
            Some(bearer) => match process.face.admit(Some(bearer.as_bytes())) {
                Ok(peer) => process.face.answer(&peer, asked),
                Err(refused) => refused,
            },
        };
        Some(Given { status: reply.status, proof: reply.proof, body: reply.body.to_vec() })
    }

    /// Returns the heads that it keeps as evidence, as they were signed.
    pub fn kept_heads(&self) -> Vec<String> {
        let Some(process) = &self.process else { return Vec::new() };
        process.replication.forks().unwrap_or_default().into_iter().map(|kept| kept.head).collect()
    }

    /// Returns the heads that it keeps as evidence of a split view, and the number of its alarms.
    pub fn evidence(&self) -> Evidence {
        let Some(process) = &self.process else { return Default::default() };
        let kept = process.replication.forks().unwrap_or_default();
        let kept = kept.iter().filter(|kept| kept.what == "head").map(|kept| {
            let head: Head = Unverified::parse(kept.head.as_bytes(), MAX_HEAD).unwrap().claimed().unwrap();
            (head.version, head.digest)
        });
        (kept.collect(), process.live.alarms.count(AlarmKind::Fork))
    }
}
