//! Whether a host must judge its control plane unreachable, as the oracle sees it: glass that is kept for outages follows that
//! judgement.

use halligan::protocol::event::Connectivity;

use crate::network::Millis;

/// Without the control plane for so long, a host judges an outage; with it for so long, that the outage is over. The daemon's
/// defaults, in milliseconds.
pub const DOWN: Millis = 30_000;
pub const UP: Millis = 60_000;
/// How long before or after that the oracle takes either judgement.
const SPARE: Millis = 3_000;

/// How a host reached its control plane since its process was started.
#[derive(Clone, Debug)]
pub struct Reached {
    /// How it was judged when the process began; none: either way.
    begun: Option<bool>,
    /// When it began to reach it (true), or to miss it.
    turns: Vec<(Millis, bool)>,
    /// When the process was last seen to run.
    ran: Millis,
}

impl Default for Reached {
    fn default() -> Self {
        Self { begun: Some(false), turns: Vec::new(), ran: 0 }
    }
}

impl Reached {
    /// A process begins. The one before judged as long as it ran.
    pub fn begins(&mut self) {
        self.forget(self.judged(self.ran));
    }

    /// What its disk said of the last judgement is gone (`Some(false)`: it begins anew), or may be.
    pub fn forget(&mut self, begun: Option<bool>) {
        *self = Self { begun, turns: Vec::new(), ran: self.ran };
    }

    /// Takes note of its connectivity.
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

    /// Whether it must judge an outage at the time `now`; none: it may judge either way.
    pub fn judged(&self, now: Millis) -> Option<bool> {
        // An interruption too short to be noticed begins nothing anew. It may have been noticed, too.
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
        // What passes between two processes is no time without the control plane.
        let mut reached = Reached::default();
        reached.note(Offline, 0);
        reached.note(Offline, 20_000);
        reached.begins();
        assert_eq!(reached.judged(500_000), Some(false));
        // Noticed or not: what it was before counts on, or begins anew.
        assert_eq!(judged(&[(0, Offline), (20_000, Online), (21_000, Offline)], 45_000), None);
        assert_eq!(judged(&[(0, Offline), (20_000, Online), (21_000, Offline)], 60_000), Some(true));
    }
}
