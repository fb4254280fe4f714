//! Rounds between hosts as time passes: over the network, which loses, delays and reorders their messages, and with all that
//! happens to either host meanwhile.

use std::collections::BTreeMap;
use std::rc::Rc;

use halligan::protocol::time::Time;

use crate::host::{Asking, Next};
use crate::network::Message;
use crate::peers::{Given, Sent, claims_of};
use crate::story::Story;
use crate::truth::Replica;

/// A full round that is under way, and what the oracle knew of it.
pub struct Exchange {
    /// What the asking host held when it began, at which version, and the keysets of both.
    held: Rc<Replica>,
    version: u64,
    keysets: [u64; 2],
    /// The version that the other host showed.
    shown: Option<u64>,
    /// True if the other host had been shown the asking host's version when it answered.
    seen: bool,
    /// The revocations that the other host knew when it was asked for them.
    told: Option<BTreeMap<(usize, String), Time>>,
}

impl Story {
    /// Every host begins the rounds that are due.
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

    /// A question arrives at a host.
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

    /// The answer arrives at the host that asked.
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

    /// A round came to its end: what was told in it counts from now on, unless the asking host follows another replica by now.
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
        // The node that signed the last answer: the host may have another identity by now.
        let claims = claims_of(last.proof.as_deref());
        if !held.lives(claims["iss"].as_str().unwrap_or_default()) {
            return Err(format!(
                "host {asker} had a round with host {answerer}, whom its replica does not name"
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
