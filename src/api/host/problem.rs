//! Error answers of the admin socket.

use serde::{Deserialize, Serialize};

/// Answer of a failed call: a problem document (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: the status gives the kind of problem, the code its cause.
    #[serde(rename = "type")]
    pub kind: String,
    /// Status in words.
    pub title: String,
    /// HTTP status of the response.
    pub status: u16,
    /// Stable code for programs.
    pub code: String,
    /// Fault and remedy, for people.
    pub detail: String,
}
