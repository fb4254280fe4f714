//! Judges an outage: the control plane counts as unreachable according to how long it could or could not be reached.
//!
//! The judgement has hysteresis, so that an unstable connection does not open and close access repeatedly: the control
//! plane counts as unreachable after a number of consecutive seconds without it, and as reachable after a number of
//! consecutive seconds with it. Time is monotonic, so that setting the wall clock opens nothing.

use std::time::Duration;

use crate::protocol::event::Connectivity;

/// Durations after which the judgement changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hysteresis {
    /// Time without the control plane after which it counts as unreachable.
    pub down: Duration,
    /// Time with the control plane after which it counts as reachable again.
    pub up: Duration,
}

/// History that a judgement needs: the last observed connectivity, its beginning, and the judgement at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Last observed connectivity, or `None` before the first attempt.
    up: Option<bool>,
    since: Duration,
    outage: bool,
}

impl Reach {
    /// Returns the state before any observation. `outage` is the judgement when the daemon last ran.
    #[must_use]
    pub fn new(outage: bool) -> Self {
        Self { up: None, since: Duration::ZERO, outage }
    }

    /// Returns the state after an observation at `now`. `again` is true if the observation equals the one before, and was
    /// interrupted in between.
    #[must_use]
    pub fn seen(self, connectivity: Connectivity, again: bool, now: Duration, limits: Hysteresis) -> Self {
        let up = match connectivity {
            Connectivity::Connecting => return self,
            Connectivity::Online => true,
            Connectivity::Offline => false,
        };
        if self.up == Some(up) && !again {
            return self;
        }
        Self { up: Some(up), since: now, outage: self.outage(now, limits) }
    }

    /// Returns true if the control plane counts as unreachable at `now`.
    #[must_use]
    pub fn outage(self, now: Duration, limits: Hysteresis) -> bool {
        let passed = now.saturating_sub(self.since);
        match self.up {
            Some(true) if self.outage => passed < limits.up,
            Some(false) if !self.outage => passed >= limits.down,
            _ => self.outage,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Hysteresis = Hysteresis { down: Duration::from_secs(30), up: Duration::from_mins(1) };

    /// Judgement at the start, observations by second, and the expected judgement at a last second.
    type Row = (bool, &'static [(u64, Connectivity)], u64, bool);

    fn judged(start: bool, history: &[(u64, Connectivity)], at: u64) -> bool {
        let reach = history.iter().fold(Reach::new(start), |reach, &(second, connectivity)| {
            reach.seen(connectivity, false, Duration::from_secs(second), LIMITS)
        });
        reach.outage(Duration::from_secs(at), LIMITS)
    }

    #[test]
    fn the_judgement_follows_the_connection_after_its_time() {
        use Connectivity::{Connecting, Offline, Online};
        let rows: &[Row] = &[
            (false, &[], 1000, false),
            (true, &[], 1000, true),
            (true, &[(0, Connecting)], 1000, true),
            (false, &[(0, Online)], 1000, false),
            (false, &[(0, Offline)], 29, false),
            (false, &[(0, Offline)], 30, true),
            (false, &[(0, Online), (100, Offline)], 129, false),
            (false, &[(0, Online), (100, Offline)], 130, true),
            // A moment of connection restarts the interval.
            (false, &[(0, Offline), (20, Online), (21, Offline)], 50, false),
            (false, &[(0, Offline), (20, Online), (21, Offline)], 51, true),
            // The control plane is back, but not for long enough; a moment without it restarts that interval.
            (false, &[(0, Offline), (40, Online)], 99, true),
            (false, &[(0, Offline), (40, Online)], 100, false),
            (false, &[(0, Offline), (40, Online), (90, Offline), (91, Online)], 150, true),
            (false, &[(0, Offline), (40, Online), (90, Offline), (91, Online)], 151, false),
            // A restart in an outage closes nothing, and a restart after it keeps access open no longer than the limit.
            (true, &[(5, Offline)], 6, true),
            (true, &[(5, Online)], 64, true),
            (true, &[(5, Online)], 65, false),
        ];
        for (index, &(start, history, at, outage)) in rows.iter().enumerate() {
            assert_eq!(judged(start, history, at), outage, "row {index}");
        }
    }

    #[test]
    fn a_flap_between_two_looks_starts_the_time_anew() {
        let at = Duration::from_secs;
        let reach = Reach::new(false).seen(Connectivity::Offline, false, at(0), LIMITS);
        let flapped = reach.seen(Connectivity::Offline, true, at(20), LIMITS);
        assert!(reach.outage(at(30), LIMITS) && !flapped.outage(at(49), LIMITS));
        assert!(flapped.outage(at(50), LIMITS));
    }

    proptest! {
        #[test]
        fn nothing_changes_within_the_limits(steps in prop::collection::vec((0_u64..29, any::<bool>()), 1..40)) {
            // A connection that is never lost for 30 consecutive seconds is no outage.
            let (mut now, mut reach) = (0, Reach::new(false).seen(Connectivity::Online, false, Duration::ZERO, LIMITS));
            for (down, _) in steps {
                reach = reach.seen(Connectivity::Offline, false, Duration::from_secs(now), LIMITS);
                now += down;
                prop_assert!(!reach.outage(Duration::from_secs(now), LIMITS));
                reach = reach.seen(Connectivity::Online, false, Duration::from_secs(now), LIMITS);
                now += 1;
            }
        }
    }
}
