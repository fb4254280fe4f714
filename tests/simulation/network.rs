//! Network between hosts and their control plane. It delays, drops, duplicates and reorders messages, as the seed
//! draws.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::host::Answer;
use crate::peers::{Given, Sent};

/// Simulated milliseconds since the story began.
pub type Millis = u64;

/// Message on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Message {
    /// Poll of a host. With `hold`, the control plane may delay the answer until something changes.
    Ask {
        host: usize,
        call: u64,
        bearer: String,
        since: u64,
        keyset: u64,
        nonce: Option<String>,
        hold: bool,
    },
    /// Answer of the control plane to a poll.
    Answer {
        host: usize,
        call: u64,
        answer: Answer,
    },
    /// Upload of a host: revocations, outages or events.
    Tell {
        host: usize,
        call: u64,
        bearer: String,
        path: String,
        body: Vec<u8>,
    },
    /// Answer of the control plane to an upload.
    Told {
        host: usize,
        call: u64,
        answer: Answer,
    },
    /// Question of a host to another host, and the answer.
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
    /// Bundle that an attacker sends to a host.
    Forged {
        host: usize,
        bundle: Vec<u8>,
        inside: bool,
    },
}

impl Message {
    /// Returns the line that the message takes: that of a host to the control plane, or those of two hosts combined.
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

/// Line of one host.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// True if messages pass.
    pub up: bool,
    /// Percentage of messages that are lost.
    pub loss: u32,
    /// Percentage of messages that arrive twice.
    pub twice: u32,
    /// Maximum delay of a message.
    pub delay: Millis,
}

impl Line {
    /// Line without faults.
    pub const GOOD: Self = Self { up: true, loss: 0, twice: 0, delay: 20 };

    /// Returns the line that consists of both lines in series.
    fn and(self, other: Self) -> Self {
        Self {
            up: self.up && other.up,
            loss: self.loss.max(other.loss),
            twice: self.twice.max(other.twice),
            delay: self.delay.max(other.delay),
        }
    }
}

/// Network with its messages, ordered by the time at which they arrive.
pub struct Network {
    /// Lines of each host to the control plane, and to other hosts.
    pub lines: Vec<Line>,
    pub peers: Vec<Line>,
    under_way: BinaryHeap<Reverse<(Millis, u64, Message)>>,
    sent: u64,
}

impl Network {
    pub fn new() -> Self {
        Self { lines: Vec::new(), peers: Vec::new(), under_way: BinaryHeap::new(), sent: 0 }
    }

    /// Adds the lines of another host.
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

    /// Returns the time at which the next message arrives.
    pub fn next(&self) -> Option<Millis> {
        self.under_way.peek().map(|Reverse((arrives, _, _))| *arrives)
    }

    /// Removes and returns the next message that has arrived by `now`. Messages on a line that is down are lost.
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
