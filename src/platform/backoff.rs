//! Pauses between attempts that fail: they double up to a maximum, and chance spreads them.

use std::time::Duration;

/// Number of doublings after which no pause here is below its maximum.
const DOUBLINGS: u32 = 20;

/// Pauses of one kind of attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Returns pauses of at most `first` after one failure, of at most twice as much after each further one, and never of more
    /// than `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// Returns the maximum pause after `failures` failures in a row.
    #[must_use]
    pub fn bound(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    /// Returns the pause after `failures` failures in a row, which `luck` spreads as [`spread`] does.
    #[must_use]
    pub fn pause(self, failures: u32, luck: u32) -> Duration {
        spread(self.bound(failures), luck)
    }
}

/// Returns a pause between half of `bound` and all of it, in whole milliseconds. `luck` is a random number: those who lost
/// the same server at the same moment must not return to it at the same moment.
#[must_use]
pub fn spread(bound: Duration, luck: u32) -> Duration {
    let whole = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    let half = whole / 2;
    let more = (u128::from(half) * u128::from(luck)) >> 32;
    // A share of a number of 64 bits has at most 64 bits.
    Duration::from_millis(whole - half + u64::try_from(more).unwrap_or(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_maximum() {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(400));
        let bounds = [0, 1, 2, 3, 4, 5, u32::MAX].map(|failures| backoff.bound(failures).as_millis());
        assert_eq!(bounds, [50, 50, 100, 200, 400, 400, 400]);
    }

    #[test]
    fn chance_spreads_pauses_over_the_upper_half() {
        for bound in [0, 1, 2, 50, 400, 600_000].map(Duration::from_millis) {
            let [least, middle, most] = [0, u32::MAX / 2, u32::MAX].map(|luck| spread(bound, luck));
            assert!(bound <= 2 * least && least <= middle && middle <= most && most <= bound, "{bound:?}");
        }
        assert_eq!(spread(Duration::from_millis(400), 1 << 31).as_millis(), 300);
    }
}
