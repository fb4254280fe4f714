//! Messages between hosts: the daemon's own dialogue and answers, without a socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use halligan::dataplane::node::alarm::AlarmKind;
use halligan::dataplane::peers::{Dialogue, PeerRequest, Question};
use halligan::protocol::head::{Head, MAX_HEAD};
use halligan::protocol::jws::Unverified;
use halligan::protocol::time::Time;
use tokio::sync::watch;

use super::{Host, PATIENCE, Process, SLOW, TELL, text};
use crate::network::Millis;
use crate::peers::{Evidence, Given, Sent};

/// Interval of the rounds with each other host. It is longer than the daemon's default, because rounds take long to
/// play.
pub const INTERVAL: Millis = 90_000;
/// Delay before a revocation is pushed, in which others may join it.
const GATHER: Millis = 30;

/// Link to another host: a round at each interval, and pushed revocations at once, as in `dataplane/peers/link.rs`.
pub struct Link {
    dialogue: Dialogue,
    changes: watch::Receiver<()>,
    /// Time at which the next round begins, and time from which revocations may be pushed.
    due: Millis,
    gathered: Millis,
    /// Number of the question that is under way, the question, and the time until which the host waits for the answer.
    asked: Option<(u64, Question, Millis)>,
    /// True in a round that only pushes revocations.
    telling: bool,
}

/// Question of a host to another host.
pub struct Asking {
    pub peer: usize,
    pub call: u64,
    pub sent: Sent,
    /// True for the first question of a full round, false for that of a push, or `None` within either.
    pub begins: Option<bool>,
}

/// State of a round after an answer of a peer.
pub enum Next {
    Ask(Asking),
    /// The round is complete.
    Done,
    Failed,
}

impl Process {
    /// Schedules an upload after new revocations, as the daemon's reconciler does.
    fn tells_news(&mut self, now: Millis) {
        if self.changes.has_changed().unwrap_or(false) {
            self.changes.mark_unchanged();
            self.tell.get_or_insert(now + TELL);
        }
    }

    fn link(&mut self, peer: usize, now: Millis) -> &mut Link {
        let (revocations, replication) = (&self.reconciler.revocations, &self.replication);
        let (live, prover) = (&self.live, &self.reconciler.prover);
        self.links.entry(peer).or_insert_with(|| Link {
            dialogue: Dialogue::new(
                Arc::clone(revocations),
                Arc::clone(replication),
                Arc::clone(live),
                Arc::clone(prover),
            ),
            changes: revocations.changes(),
            due: now + 100 * u64::try_from(peer).unwrap(),
            gathered: now,
            asked: None,
            telling: false,
        })
    }
}

impl Link {
    fn wakes(&self) -> Millis {
        match &self.asked {
            Some((_, _, patience)) => *patience,
            None if self.has_news() => self.due.min(self.gathered),
            None => self.due,
        }
    }

    fn has_news(&self) -> bool {
        self.changes.has_changed().unwrap_or(false)
    }

    /// Returns the number and the message of the next question in the round, or `None` at its end.
    fn go_on(&mut self, calls: &mut u64, now: Millis, wall: Time) -> Result<Option<(u64, Sent)>, ()> {
        match self.dialogue.next(wall) {
            Ok(Some(question)) => {
                *calls += 1;
                let sent = Sent::of(&question);
                self.asked = Some((*calls, question, now + PATIENCE.0));
                Ok(Some((*calls, sent)))
            }
            Ok(None) => Ok(None),
            Err(_) => Err(()),
        }
    }

    /// Ends a round, whether it succeeded or not.
    fn rests(&mut self, now: Millis, slow: bool) {
        self.asked = None;
        if !self.telling {
            self.due = now + if slow { 4 * SLOW } else { INTERVAL };
        }
    }
}

impl Host {
    /// Returns the time at which the host next asks another host.
    pub(super) fn asks_a_peer(process: &Process) -> Option<Millis> {
        process.links.values().map(Link::wakes).min()
    }

    /// Brings the next rounds forward after a time in which the host polled seldom.
    pub(super) fn hurry_peers(process: &mut Process, now: Millis) {
        process.links.values_mut().for_each(|link| link.due = link.due.min(now + INTERVAL));
    }

    /// Begins the rounds that are due with the hosts `peers`. Returns their first questions.
    pub fn ask_peers(&mut self, peers: impl Iterator<Item = usize>, now: Millis, wall: Time) -> Vec<Asking> {
        self.clock.store(wall.unix(), Ordering::Relaxed);
        let (slow, Some(process)) = (self.slow, &mut self.process) else { return Vec::new() };
        let mut asked = Vec::new();
        for peer in peers {
            let link = process.link(peer, now);
            if link.wakes() > now {
                continue;
            }
            if link.asked.is_some() {
                link.rests(now, slow);
            }
            let full = now >= link.due;
            if !full && (!link.has_news() || now < link.gathered) {
                continue;
            }
            link.changes.mark_unchanged();
            link.gathered = now + GATHER;
            link.telling = !full;
            if full {
                link.dialogue.begin(wall);
            } else {
                link.dialogue.begin_telling();
            }
            match link.go_on(&mut self.calls, now, wall) {
                Ok(Some((call, sent))) => asked.push(Asking { peer, call, sent, begins: Some(full) }),
                _ => link.rests(now, slow),
            }
        }
        asked
    }

    /// Handles the answer to a question that is under way. Returns `None` for any other answer.
    pub fn peer_told(
        &mut self,
        peer: usize,
        call: u64,
        given: &Given,
        now: Millis,
        wall: Time,
    ) -> Option<Next> {
        self.clock.store(wall.unix(), Ordering::Relaxed);
        let slow = self.slow;
        let process = self.process.as_mut()?;
        process.look(now, wall);
        let link = process.links.get_mut(&peer)?;
        let (_, question, _) = link.asked.take_if(|(own, ..)| *own == call)?;
        let proof = given.proof.as_deref().map(str::as_bytes);
        let taken = link.dialogue.answered(&question, given.status, proof, &given.body, wall);
        process.tells_news(now);
        let link = process.links.get_mut(&peer)?;
        let next = taken.map_err(drop).and_then(|()| link.go_on(&mut self.calls, now, wall));
        Some(match next {
            Ok(Some((call, sent))) => Next::Ask(Asking { peer, call, sent, begins: None }),
            Ok(None) => {
                link.rests(now, slow);
                Next::Done
            }
            Err(()) => {
                link.rests(now, slow);
                Next::Failed
            }
        })
    }

    /// Begins a round with the host that has the number `peer` in the story, and drops one that is under way.
    pub fn begin_round(&mut self, peer: usize, now: Millis, wall: Time) -> bool {
        self.clock.store(wall.unix(), Ordering::Relaxed);
        let Some(process) = &mut self.process else { return false };
        process.look(now, wall);
        let link = process.link(peer, now);
        link.asked = None;
        link.dialogue.begin(wall);
        true
    }

    /// Returns the next question of a round, or `None` at its end.
    pub fn next_question(&mut self, peer: usize, wall: Time) -> Result<Option<Question>, String> {
        let link = self.process.as_mut().and_then(|process| process.links.get_mut(&peer));
        link.map_or(Ok(None), |link| link.dialogue.next(wall).map_err(text))
    }

    /// Handles the answer of a peer.
    pub fn peer_answered(
        &mut self,
        peer: usize,
        question: &Question,
        given: &Given,
        now: Millis,
        wall: Time,
    ) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let Some(link) = process.links.get_mut(&peer) else { return Ok(()) };
        let proof = given.proof.as_deref().map(str::as_bytes);
        let taken = link.dialogue.answered(question, given.status, proof, &given.body, wall).map_err(text);
        process.tells_news(now);
        taken
    }

    /// Answers a peer. Returns `None` while the host is down.
    pub fn reply(&mut self, sent: &Sent, now: Millis, wall: Time) -> Option<Given> {
        self.clock.store(wall.unix(), Ordering::Relaxed);
        let process = self.process.as_mut()?;
        let (path, query) = sent.path.split_once('?').unwrap_or((&sent.path, ""));
        let asked = PeerRequest { method: sent.method, path, query, body: &sent.body };
        let reply = match &sent.bearer {
            None => process.face.name(),
            Some(bearer) => match process.face.admit(Some(bearer.as_bytes())) {
                Ok(peer) => process.face.answer(&peer, asked),
                Err(refused) => refused,
            },
        };
        process.tells_news(now);
        Some(Given { status: reply.status, proof: reply.proof, body: reply.body.to_vec() })
    }

    /// Returns the signed heads that the host keeps as evidence.
    pub fn kept_heads(&self) -> Vec<String> {
        let Some(process) = &self.process else { return Vec::new() };
        process.replication.forks().unwrap_or_default().into_iter().map(|kept| kept.head).collect()
    }

    /// Returns the heads that the host keeps as evidence of a split view, and the number of its alarms.
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
