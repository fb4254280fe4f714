//! Defines the messages by which a node and its control plane reconcile after an outage: the position of an audit log,
//! the results of revocations, and the statement of the outage.

use serde::{Deserialize, Serialize};

use super::id::{NodeId, TokenId, is_id};
use super::time::Time;

/// Media type of events or revocations, one on each line.
pub const NDJSON: &str = "application/x-ndjson";
/// Maximum number of lines that a node sends in one call.
pub const MAX_LINES: usize = 1000;
/// Maximum number of bytes that a node sends in one call.
pub const MAX_BYTES: usize = 2 << 20;

/// Position of a node's audit log at the control plane: the last event that it received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct Position {
    /// Number of that event; 0 if there is none.
    pub sequence: u64,
    /// [`super::event::line_hash`] of that event.
    pub hash: String,
}

/// Result of a host's revocation at the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The revocation revoked the token.
    Revoked,
    /// The token had been revoked or deleted before.
    Already,
    /// The data plane has no direct-access token with this id.
    Unknown,
    /// The control plane rejected the signature, and keeps the revocation as evidence.
    Refused,
}

impl Outcome {
    /// Returns the result as JSON and databases write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Already => "already",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
        }
    }

    /// Parses the text of [`Self::as_str`]. Returns `None` for any other text.
    ///
    /// ```
    /// use halligan::protocol::reconciliation::Outcome;
    ///
    /// assert_eq!(Outcome::parse("revoked"), Some(Outcome::Revoked));
    /// assert_eq!(Outcome::parse("Revoked"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Revoked, Self::Already, Self::Unknown, Self::Refused]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// Alarm of a node in the statement of an outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AlarmNote {
    /// Time at which the alarm last occurred.
    pub time: Time,
    /// Kind of the alarm, as a word for programs.
    pub kind: String,
    /// Description in one sentence.
    pub what: String,
    /// Number of occurrences in a row.
    pub times: u64,
}

/// Maximum number of alarms in a statement.
pub const MAX_ALARMS: usize = 32;

/// A node's statement of an outage, made when the outage is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct OutageStatement {
    /// Identifier of the outage (`out_…`).
    pub id: String,
    /// Time at which the node first found the control plane unreachable.
    pub began_at: Time,
    /// Time at which the control plane answered again.
    pub ended_at: Time,
    /// Time of the last answer before the outage. The replica contains no later change.
    #[serde(default)]
    pub last_contact_at: Option<Time>,
    /// First error, in one sentence.
    #[serde(default)]
    pub cause: String,
    /// Number of the node's first event after the beginning. Such an event need not exist.
    pub first_sequence: u64,
    /// Number of the node's last event before the end.
    pub last_sequence: u64,
    /// Alarms of the node during the outage.
    #[serde(default)]
    pub alarms: Vec<AlarmNote>,
}

/// Reasons to reject a statement of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementFault {
    /// `id` is not the identifier of an outage.
    Id,
    /// `endedAt` is before `beganAt`.
    Ends,
}

impl OutageStatement {
    /// Checks the rules that the types do not express: the form of `id`, and that `endedAt` is not before `beganAt`.
    ///
    /// ```
    /// use halligan::protocol::reconciliation::{OutageStatement, StatementFault};
    /// use halligan::protocol::time::Time;
    ///
    /// let began_at = Time::from_unix(1_800_000_000);
    /// let statement = OutageStatement {
    ///     id: "out_7".into(),
    ///     began_at,
    ///     ended_at: began_at.plus(3600),
    ///     last_contact_at: Some(began_at.plus(-30)),
    ///     cause: "connection refused".into(),
    ///     first_sequence: 101,
    ///     last_sequence: 180,
    ///     alarms: Vec::new(),
    /// };
    /// assert_eq!(statement.check(), Ok(()));
    /// let backwards = OutageStatement { ended_at: began_at.plus(-1), ..statement };
    /// assert_eq!(backwards.check(), Err(StatementFault::Ends));
    /// ```
    pub fn check(&self) -> Result<(), StatementFault> {
        if !(self.id.starts_with("out_") && is_id(&self.id)) {
            return Err(StatementFault::Id);
        }
        if self.ended_at < self.began_at { Err(StatementFault::Ends) } else { Ok(()) }
    }
}

/// Result of one revocation. The node and the token identify the revocation to both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct RevocationAnswer {
    /// Node on which the revocation was made.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub node: NodeId,
    /// Identifier of the revoked token.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub token: TokenId,
    /// Result at the control plane.
    pub outcome: Outcome,
}
