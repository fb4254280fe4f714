//! Audit log of the control plane: the calls that changed, or tried to change, something.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::instant::Instant;
use super::page::Extent;

/// Result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// The call succeeded.
    Done,
    /// The call was rejected and changed nothing.
    Refused,
    /// The call failed with an internal error.
    Failed,
    /// The call is in progress, or the control plane stopped before it answered.
    Unknown,
}

/// Line of the audit log.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Number of the line, rising with time.
    pub id: i64,
    /// Time of the call.
    pub at: Instant,
    /// Id of the user or token that called.
    pub actor: String,
    /// Email address of the user or name of the token at that time.
    pub actor_name: String,
    /// IP address of the client.
    pub address: Option<String>,
    /// Method and route.
    pub call: String,
    /// Id of the object that the call was about.
    pub target: Option<String>,
    /// Body of the call.
    #[cfg_attr(feature = "control", schema(value_type = Option<Value>))]
    pub request: Option<Box<RawValue>>,
    /// Result of the call.
    pub outcome: Outcome,
    /// HTTP status of the answer.
    pub status: Option<u16>,
    /// Code of the rejection.
    pub code: Option<String>,
    /// Number of times that the same call was rejected again within the hour; those rejections have no line of their own.
    pub repeated: u64,
    /// Time of the last repeated rejection, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Instant>,
}

/// Page of the audit log.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct EntryPage {
    /// Lines, newest first.
    pub entries: Vec<Entry>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Conditions that a line must meet. An absent condition matches every line.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct EntryFilter {
    /// Id of the user or token that called.
    pub actor: Option<String>,
    /// Id of the object that the call was about.
    pub target: Option<String>,
    /// Method and route, such as `POST /tokens`.
    pub call: Option<String>,
    /// Result of the call.
    pub outcome: Option<Outcome>,
    /// Earliest time, inclusive.
    pub since: Option<Instant>,
    /// Latest time, exclusive.
    pub until: Option<Instant>,
}
