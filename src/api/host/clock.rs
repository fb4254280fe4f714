//! Acceptance of the host's clock.

use serde::{Deserialize, Serialize};

use crate::protocol::time::Time;

/// Request to accept the clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The operator's reason.
    pub reason: String,
}

/// Clock that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Time that was accepted.
    pub time: Time,
    /// Seconds by which the time floor was ahead of it.
    pub ahead_seconds: i64,
    /// Number of tokens that had expired by the floor and not by the accepted time. They stay expired.
    pub stay_expired: usize,
    /// Identifier of the event.
    pub event: String,
}
