//! What a node and its control plane tell each other when an outage is over: where an audit log stands, what became of
//! revocations, and what the outage was.

use serde::{Deserialize, Serialize};

use super::id::{NodeId, TokenId};
use super::time::Time;

/// The media type of many lines: events, or revocations, one a line.
pub const NDJSON: &str = "application/x-ndjson";
/// The most lines a node sends at once.
pub const MAX_LINES: usize = 1000;
/// The most bytes a node sends at once.
pub const MAX_BYTES: usize = 2 << 20;

/// Where a node's audit log stands above: the last event that arrived, and what its line hashes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct Position {
    /// The event's place; 0 before the first.
    pub sequence: u64,
    /// [`super::event::line_hash`] of it.
    pub hash: String,
}

/// What became of a revocation above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The token is revoked by it.
    Revoked,
    /// The token had been revoked or deleted before.
    Already,
    /// No direct-access token of this data plane has this id.
    Unknown,
    /// Its signature does not count: it is kept as evidence.
    Refused,
}

impl Outcome {
    /// The outcome as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Already => "already",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
        }
    }

    /// Reads an outcome.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Revoked, Self::Already, Self::Unknown, Self::Refused]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// An alarm of a node, as it stands in an outage's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AlarmNote {
    /// When it last happened.
    pub time: Time,
    /// What kind of thing.
    pub kind: String,
    /// What, in a sentence.
    pub what: String,
    /// How often in a row.
    pub times: u64,
}

/// The most alarms an outage's statement carries.
pub const MAX_ALARMS: usize = 32;

/// What a node states of an outage once it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct OutageStatement {
    /// Its id, `out_…`.
    pub id: String,
    /// When the control plane was first found not to answer.
    pub began_at: Time,
    /// When it answered again.
    pub ended_at: Time,
    /// When it had last answered before: from then on the node knew nothing new.
    #[serde(default)]
    pub last_contact_at: Option<Time>,
    /// What went wrong first, in a sentence.
    #[serde(default)]
    pub cause: String,
    /// The node's first event after it began; it may not have been written.
    pub first_sequence: u64,
    /// The node's last event before it ended.
    pub last_sequence: u64,
    /// Alarms meanwhile.
    #[serde(default)]
    pub alarms: Vec<AlarmNote>,
}

/// A token and the node that revoked it, as they name a revocation between two who both hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct RevocationAnswer {
    /// The node it was made on.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub node: NodeId,
    /// The token.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub token: TokenId,
    /// What became of it.
    pub outcome: Outcome,
}
