//! Audit log of the host.

use serde::{Deserialize, Serialize};

/// Result of verifying the log, and other damages of the host's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Sequence number of the last event that the node signed as dropped; 0 if none was dropped.
    pub dropped: u64,
    /// Sequence number of the last valid event.
    pub events: u64,
    /// Hash of the last valid event.
    pub last: String,
    /// Number of valid checkpoints.
    pub checkpoints: u64,
    /// Sequence number of the last event that a checkpoint covers.
    pub covered: u64,
    /// First fault of the log, or `None` if it is valid.
    pub fault: Option<LogFault>,
    /// Damages of other files, a sentence each.
    pub damage: Vec<String>,
}

/// Fault of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogFault {
    /// Sequence number of the event at which the fault appears.
    pub sequence: u64,
    /// Description of the fault.
    pub what: String,
}
