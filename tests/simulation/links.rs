//! Rounds between hosts in simulated time: over the network, which loses, delays and reorders their messages, while
//! faults happen to both hosts.

use std::collections::BTreeMap;
use std::rc::Rc;

use halligan::protocol::time::Time;

use crate::host::{Asking, Next};
use crate::network::Message;
use crate::peers::{Given, Sent, claims_of};
use crate::story::Story;
use crate::truth::Replica;

/// Full round that is under way, with what the oracle knew at its start.
pub struct Exchange {
    /// Replica and version that the asking host held when the round began, and the keysets of both hosts.
    held: Rc<Replica>,
    version: u64,
    keysets: [u64; 2],
    /// Version that the other host showed.
    shown: Option<u64>,
    /// True if the other host had been shown the asking host's version when it answered.
    seen: bool,
    /// Revocations that the other host knew when it was asked for them.
    told: Option<BTreeMap<(usize, String), Time>>,
}

impl Story {
    /// Begins the rounds of a host that are due.
    pub fn ask_peers(&mut self, host: usize) {
        let wall = self.wall(host);
        let others = (0..self.hosts.len()).filter(|other| *other != host);
        for asking in self.hosts[host].ask_peers(others, self.now, wall) {
            self.ask_peer(host, asking);
        }
    }

    fn ask_peer(&mut self, from: usize, asking: Asking) {
        let Asking { peer: to, call, sent, begins } = asking;
        if let Some(full) = begins {
            self.exchanges.remove(&(from, to));
            if let (true, Some(held)) = (full, &self.memories[from].held) {
                let exchange = Exchange {
                    held: Rc::clone(held),
                    version: self.memories[from].version,
                    keysets: [from, to].map(|host| self.hosts[host].keyset()),
                    shown: None,
                    seen: false,
                    told: None,
                };
                self.exchanges.insert((from, to), exchange);
            }
        }
        self.send(&Message::AskPeer { from, to, call, sent });
    }

    /// Delivers a question to a host, and sends its answer.
    pub fn peer_is_asked(&mut self, from: usize, to: usize, call: u64, sent: &Sent) -> Result<(), String> {
        let Some(given) = self.reply_to_peer(from, to, sent)? else { return Ok(()) };
        self.hear_of(from, to);
        if let (Some(exchange), 200) = (self.exchanges.get_mut(&(from, to)), given.status) {
            if sent.path == "/v2/peer/heads" {
                exchange.shown = self.hosts[to].serves().map(|(version, ..)| version);
                exchange.seen = self.seen[to].contains_key(&exchange.version);
            } else if sent.asks_for_revocations() {
                exchange.told = Some(self.memories[to].revocations.clone());
            }
        }
        self.send(&Message::PeerAnswer { from, to, call, given });
        Ok(())
    }

    /// Delivers an answer to the host that asked.
    pub fn peer_answers(&mut self, from: usize, to: usize, call: u64, given: &Given) -> Result<(), String> {
        let wall = self.wall(from);
        let next = self.hosts[from].peer_told(to, call, given, self.now, wall);
        self.proved(from)?;
        match next {
            None => Ok(()),
            Some(Next::Ask(asking)) => {
                self.ask_peer(from, asking);
                Ok(())
            }
            Some(Next::Failed) => {
                self.exchanges.remove(&(from, to));
                Ok(())
            }
            Some(Next::Done) => self.exchange_ends(from, to, given),
        }
    }

    /// Ends a round. The revocations told in it count from now on, unless the asking host has changed its replica
    /// meanwhile.
    fn exchange_ends(&mut self, asker: usize, answerer: usize, last: &Given) -> Result<(), String> {
        let Some(exchange) = self.exchanges.remove(&(asker, answerer)) else { return Ok(()) };
        let Exchange { held, version, keysets, shown, seen, told: Some(told) } = exchange else {
            return Ok(());
        };
        let memory = &self.memories[asker];
        let unchanged = memory.held.as_ref().is_some_and(|now| Rc::ptr_eq(now, &held));
        let same_node = self.hosts[asker].node() == self.hosts[answerer].node();
        if !unchanged || memory.version != version || same_node {
            return Ok(());
        }
        // The host may have another identity by now, so the node is taken from the proof of the last answer.
        let claims = claims_of(last.proof.as_deref());
        if !held.lives(claims["iss"].as_str().unwrap_or_default()) {
            return Err(format!(
                "host {asker} completed a round with host {answerer}, whose node is not active in its replica"
            ));
        }
        if keysets == [asker, answerer].map(|host| self.hosts[host].keyset()) {
            for version in [seen.then_some(version), shown].into_iter().flatten() {
                self.finds_a_split([asker, answerer], version, None)?;
            }
        }
        self.learns(asker, answerer, &held, told)
    }
}
