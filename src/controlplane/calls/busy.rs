//! The answer to a node when too many call at once.

use std::ops::RangeInclusive;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;

/// Bounds of the time after which a node is to try again, in seconds.
const RETRY: RangeInclusive<u64> = 5..=30;

impl ControlPlane {
    /// Returns the error that tells a node to come back later: each at another time, so that they do not come all at once again.
    pub(in crate::controlplane) fn busy(&self) -> Error {
        Error::Busy(RETRY.start() + u64::from(self.luck()) % (RETRY.end() - RETRY.start() + 1))
    }
}
