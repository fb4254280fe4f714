//! The oracle's judgement of outages: it says when a host must, may or must not count its control plane as unreachable.
//! Glass in the mode `outage` follows the host's judgement.

use halligan::protocol::event::Connectivity;

use crate::network::Millis;

/// Time without the control plane after which a host judges an outage, and time with it after which the outage is over.
/// Both are the daemon's defaults.
pub const DOWN: Millis = 30_000;
pub const UP: Millis = 60_000;
/// Time before and after these limits in which the oracle accepts either judgement.
const SPARE: Millis = 3_000;

/// History of a host's connectivity since its process was started.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Judgement when the process began, or `None` if either may be in force.
    begun: Option<bool>,
    /// Times at which connectivity changed: true if the host reached its control plane from then on.
    turns: Vec<(Millis, bool)>,
    /// Last time at which the process ran.
    ran: Millis,
}

impl Default for Reached {
    fn default() -> Self {
        Self { begun: Some(false), turns: Vec::new(), ran: 0 }
    }
}

impl Reached {
    /// Starts the history of a new process. It begins with the judgement of the previous process when that last ran.
    pub fn begins(&mut self) {
        self.forget(self.judged(self.ran));
    }

    /// Replaces the judgement that the next process begins with, after the file that held it was lost or damaged.
    pub fn forget(&mut self, begun: Option<bool>) {
        *self = Self { begun, turns: Vec::new(), ran: self.ran };
    }

    /// Records the host's connectivity at `now`.
    pub fn note(&mut self, connectivity: Connectivity, now: Millis) {
        self.ran = now;
        let up = match connectivity {
            Connectivity::Connecting => return,
            Connectivity::Online => true,
            Connectivity::Offline => false,
        };
        if self.turns.last().is_none_or(|(_, last)| *last != up) {
            self.turns.push((now, up));
        }
    }

    /// Returns the judgement that the host must have at `now`, or `None` if it may have either.
    pub fn judged(&self, now: Millis) -> Option<bool> {
        // A host may or may not notice a short interruption. Both histories are judged.
        let mut lasting = Vec::<(Millis, bool)>::new();
        for (number, turn) in self.turns.iter().enumerate() {
            let end = self.turns.get(number + 1).map_or(now, |next| next.0);
            let short = end - turn.0 < SPARE && number > 0;
            if !short && lasting.last().is_none_or(|last| last.1 != turn.1) {
                lasting.push(*turn);
            }
        }
        let (all, lasting) = (self.after(&self.turns, now), self.after(&lasting, now));
        if all == lasting { all } else { None }
    }

    fn after(&self, turns: &[(Millis, bool)], now: Millis) -> Option<bool> {
        let mut judged = self.begun;
        for (number, (begun, up)) in turns.iter().enumerate() {
            let end = turns.get(number + 1).map_or(now, |next| next.0);
            let (lasted, needed) = (end - begun, if *up { UP } else { DOWN });
            if lasted > needed + SPARE {
                judged = Some(!up);
            } else if lasted + SPARE >= needed && judged != Some(!up) {
                judged = None;
            }
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use Connectivity::{Connecting, Offline, Online};

    use super::*;

    #[test]
    fn an_outage_is_judged_by_the_last_stretch_that_was_long_enough() {
        let judged = |turns: &[(Millis, Connectivity)], now| {
            let mut reached = Reached::default();
            for (at, connectivity) in turns {
                reached.note(*connectivity, *at);
            }
            reached.judged(now)
        };
        assert_eq!(judged(&[], 500_000), Some(false));
        assert_eq!(judged(&[(0, Connecting)], 500_000), Some(false));
        assert_eq!(judged(&[(0, Offline)], 20_000), Some(false));
        assert_eq!(judged(&[(0, Offline)], 30_000), None);
        assert_eq!(judged(&[(0, Offline)], 40_000), Some(true));
        assert_eq!(judged(&[(0, Offline), (40_000, Online)], 80_000), Some(true));
        assert_eq!(judged(&[(0, Offline), (40_000, Online)], 110_000), Some(false));
        // Time between two processes does not count.
        let mut reached = Reached::default();
        reached.note(Offline, 0);
        reached.note(Offline, 20_000);
        reached.begins();
        assert_eq!(reached.judged(500_000), Some(false));
        // A short interruption may have been noticed or not.
        assert_eq!(judged(&[(0, Offline), (20_000, Online), (21_000, Offline)], 45_000), None);
        assert_eq!(judged(&[(0, Offline), (20_000, Online), (21_000, Offline)], 60_000), Some(true));
    }
}
