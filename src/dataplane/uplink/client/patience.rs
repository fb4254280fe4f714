//! Bounds on requests to the control plane.

use std::time::Duration;

/// Limits of each step, and of the size of a bundle.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Time limit for connecting to one address.
    pub connect: Duration,
    /// Time limit from the first packet to the headers of an answer, in addition to the time for which it may be held back.
    pub headers: Duration,
    /// Time limit between two parts of a body.
    pub idle: Duration,
    /// Total time for which a body may be slower than `rate`.
    pub grace: Duration,
    /// Minimum rate of a body, in bytes a second.
    pub rate: u64,
    /// Time limit for a complete body.
    pub total: Duration,
    /// Maximum size of a compressed bundle, in bytes.
    pub size: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            headers: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            rate: 8 << 10,
            total: Duration::from_mins(30),
            size: 256 << 20,
        }
    }
}
