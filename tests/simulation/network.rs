//! The network between hosts and their control plane: it delays, drops, duplicates and reorders, as the seed says.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::host::Answer;
use crate::peers::{Given, Sent};

/// Simulated milliseconds since the story began.
pub type Millis = u64;

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Message {
    /// A host asks for what has changed; with `hold`, the answer may wait until something has.
    Ask {
        host: usize,
        call: u64,
        bearer: String,
        since: u64,
        keyset: u64,
        nonce: Option<String>,
        hold: bool,
    },
    /// The control plane answers.
    Answer {
        host: usize,
        call: u64,
        answer: Answer,
    },
    /// A host tells what its control plane does not know.
    Tell {
        host: usize,
        call: u64,
        bearer: String,
        path: String,
        body: Vec<u8>,
    },
    /// The control plane says what it took in.
    Told {
        host: usize,
        call: u64,
        answer: Answer,
    },
    /// A host asks another, and is answered.
    AskPeer {
        from: usize,
        to: usize,
        call: u64,
        sent: Sent,
    },
    PeerAnswer {
        from: usize,
        to: usize,
        call: u64,
        given: Given,
    },
    /// What only an attacker sends: an answer that nobody who may has given.
    Forged {
        host: usize,
        bundle: Vec<u8>,
        inside: bool,
    },
}

impl Message {
    /// The line that it goes over: that of a host to the control plane, or those of two hosts to each other.
    fn line(&self, network: &Network) -> Line {
        match self {
            Self::Ask { host, .. }
            | Self::Answer { host, .. }
            | Self::Tell { host, .. }
            | Self::Told { host, .. }
            | Self::Forged { host, .. } => network.lines[*host],
            Self::AskPeer { from, to, .. } | Self::PeerAnswer { from, to, .. } => {
                network.peers[*from].and(network.peers[*to])
            }
        }
    }
}

/// One host's line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Whether anything passes.
    pub up: bool,
    /// How many of a hundred messages are lost.
    pub loss: u32,
    /// How many of a hundred arrive twice.
    pub twice: u32,
    /// The longest a message takes.
    pub delay: Millis,
}

impl Line {
    /// A line as it should be.
    pub const GOOD: Self = Self { up: true, loss: 0, twice: 0, delay: 20 };

    /// Both lines, one after the other.
    fn and(self, other: Self) -> Self {
        Self {
            up: self.up && other.up,
            loss: self.loss.max(other.loss),
            twice: self.twice.max(other.twice),
            delay: self.delay.max(other.delay),
        }
    }
}

/// All that is under way, ordered by when it arrives.
pub struct Network {
    /// Of each host to the control plane, and to other hosts.
    pub lines: Vec<Line>,
    pub peers: Vec<Line>,
    under_way: BinaryHeap<Reverse<(Millis, u64, Message)>>,
    sent: u64,
}

impl Network {
    pub fn new() -> Self {
        Self { lines: Vec::new(), peers: Vec::new(), under_way: BinaryHeap::new(), sent: 0 }
    }

    /// Another host.
    pub fn connect(&mut self) {
        self.lines.push(Line::GOOD);
        self.peers.push(Line::GOOD);
    }

    pub fn send(&mut self, now: Millis, message: &Message, random: &mut StdRng) {
        let line = message.line(self);
        let copies = if random.random_range(0..100) < line.twice { 2 } else { 1 };
        for _ in 0..copies {
            if !line.up || random.random_range(0..100) < line.loss {
                continue;
            }
            self.sent += 1;
            let arrives = now + 1 + random.random_range(0..=line.delay);
            self.under_way.push(Reverse((arrives, self.sent, message.clone())));
        }
    }

    /// When the next message arrives.
    pub fn next(&self) -> Option<Millis> {
        self.under_way.peek().map(|Reverse((arrives, _, _))| *arrives)
    }

    /// Takes the next message that has arrived by `now`. What was under way when a line went down is lost.
    pub fn arrived(&mut self, now: Millis) -> Option<Message> {
        while self.next().is_some_and(|arrives| arrives <= now) {
            let Reverse((_, _, message)) = self.under_way.pop()?;
            if message.line(self).up {
                return Some(message);
            }
        }
        None
    }
}
