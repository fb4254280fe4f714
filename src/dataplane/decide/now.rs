//! The time of a decision.

use crate::protocol::time::Time;

/// Maximum lag of the clock behind the time floor, in seconds. Beyond it the clock is not trusted.
pub const CLOCK_TOLERANCE: i64 = 300;

/// Returns true if a difference between two clocks, in seconds, is within [`CLOCK_TOLERANCE`].
///
/// ```
/// use halligan::dataplane::decide::{CLOCK_TOLERANCE, clocks_agree};
///
/// assert!(clocks_agree(-CLOCK_TOLERANCE) && clocks_agree(CLOCK_TOLERANCE));
/// assert!(!clocks_agree(CLOCK_TOLERANCE + 1));
/// ```
#[must_use]
pub const fn clocks_agree(difference: i64) -> bool {
    difference.unsigned_abs() <= CLOCK_TOLERANCE.unsigned_abs()
}

/// Two readings of the time: the clock, and a lower bound of the true time.
///
/// ```
/// use halligan::dataplane::decide::Now;
/// use halligan::protocol::time::Time;
///
/// let floor = Time::from_unix(1_800_000_000);
/// let now = Now { wall: floor.plus(-3600), floor };
/// assert_eq!(now.effective(), floor);
/// assert!(!now.trusted());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Time of the node's clock.
    pub wall: Time,
    /// Time floor: the latest time of which this node has proof. It survives restarts, and falls only after the proof was
    /// found wrong ([`crate::dataplane::replica::timekeeper`]).
    pub floor: Time,
}

impl Now {
    /// Returns the later of clock and floor. Expiry is compared with it, so that a clock that was set back revives no
    /// token.
    #[must_use]
    pub fn effective(self) -> Time {
        self.wall.max(self.floor)
    }

    /// Returns true unless the clock is more than [`CLOCK_TOLERANCE`] behind the floor.
    ///
    /// ```
    /// use halligan::dataplane::decide::{CLOCK_TOLERANCE, Now};
    /// use halligan::protocol::time::Time;
    ///
    /// let floor = Time::from_unix(1_800_000_000);
    /// assert!(Now { wall: floor.plus(-CLOCK_TOLERANCE), floor }.trusted());
    /// assert!(!Now { wall: floor.plus(-CLOCK_TOLERANCE - 1), floor }.trusted());
    /// ```
    #[must_use]
    pub fn trusted(self) -> bool {
        self.wall.plus(CLOCK_TOLERANCE) >= self.floor
    }
}
