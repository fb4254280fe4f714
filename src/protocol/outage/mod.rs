//! Builds the report of an outage: the events on a node while it could not reach its control plane. The node makes it from
//! its own log. The control plane makes it from the events that it received, and adds what only it knew at the time, such
//! as revocations. Both use the same form.

mod report;

use serde::{Deserialize, Serialize};

use super::id::TokenId;
use super::reconciliation::Outcome;
use super::time::Time;

pub use report::{Opening, Report};

/// Maximum number of late uses, and of revocations, that a report lists. Late uses beyond it are only counted.
pub const MAX_NAMED: usize = 1000;

/// Progress of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OutageState {
    /// The node can't reach the control plane.
    Open,
    /// The node reaches the control plane again; the control plane has not received all of its events yet.
    Reconciling,
    /// The control plane has received all events of the outage.
    Closed,
}

/// One use of a token: a request that was allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// Time of the request.
    pub time: Time,
    /// Identifier of the audit event.
    pub event_id: String,
    /// Identifier of the token.
    pub token_id: TokenId,
    /// Generation of the token.
    pub generation: u32,
    /// Deployment to which the request was directed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Method of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Canonical path of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// Way in which a token ended before a late use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// The token was revoked or deleted.
    Revoked,
    /// The token was rotated; its generation is no longer the newest.
    Rotated,
}

/// End of a generation of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Time of the end.
    pub at: Time,
    /// Way in which it ended.
    pub how: Ended,
}

/// Use of a token after its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LateUse {
    /// The use itself.
    #[serde(flatten)]
    pub used: Use,
    /// Time at which the token ended.
    pub ended_at: Time,
    /// Way in which it ended.
    pub ended: Ended,
}

impl LateUse {
    /// Returns a late use if `used` happened after `end`. Times are whole seconds, so a use in the second of the end is
    /// not late: its order is unknown.
    ///
    /// ```
    /// use halligan::protocol::outage::{End, Ended, LateUse, Use};
    /// use halligan::protocol::time::Time;
    ///
    /// let time = Time::from_unix(1_800_000_000);
    /// let used = Use {
    ///     time,
    ///     event_id: "evt_a".into(),
    ///     token_id: "tok_a".parse().unwrap(),
    ///     generation: 1,
    ///     deployment_id: None,
    ///     method: None,
    ///     path: None,
    ///     client: None,
    /// };
    /// let end = |at| Some(End { at, how: Ended::Revoked });
    /// assert!(LateUse::detect(used.clone(), end(time.plus(-1))).is_some());
    /// assert!(LateUse::detect(used, end(time)).is_none());
    /// ```
    #[must_use]
    pub fn detect(used: Use, end: Option<End>) -> Option<Self> {
        let end = end.filter(|end| used.time > end.at)?;
        Some(Self { used, ended_at: end.at, ended: end.how })
    }
}

/// Summary of a token's uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenUses {
    /// Identifier of the token.
    pub token_id: TokenId,
    /// Name of the token, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of allowed requests.
    pub count: u64,
    /// Time of the first use.
    pub first_at: Time,
    /// Time of the last use.
    pub last_at: Time,
}

/// Revocation that an operator made on a host during the outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MergedRevocation {
    /// Identifier of the revoked token.
    pub token_id: TokenId,
    /// Node on which it was made.
    pub node_id: String,
    /// Time of the revocation.
    pub revoked_at: Time,
    /// User who made it, by the kernel's credentials.
    pub operator: String,
    /// The operator's reason.
    pub reason: String,
    /// Result at the control plane. No value until the control plane has received the revocation.
    pub outcome: Option<Outcome>,
}

/// Fault in the log that a node sent: a gap, a fork or a new beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogFault {
    /// Number of the event at which the fault shows.
    pub sequence: u64,
    /// Kind of the fault, as a word for programs.
    pub kind: String,
    /// Description in one sentence.
    pub what: String,
    /// Time at which the control plane noticed it.
    pub noted_at: Time,
}

/// One entry of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// Time of the entry.
    pub time: Time,
    /// Kind of the entry: `outage`, `use`, `late-use`, `revocation`, `deploy`, `alarm` or `log`.
    pub kind: String,
    /// Description in one sentence.
    pub what: String,
}

#[cfg(test)]
mod tests;
