//! Dual control: its setting, and requests that wait for a second owner.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::id::{RequestId, TokenId};
use super::instant::Instant;
use super::page::Extent;

/// Setting of dual control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DualControl {
    /// True if direct-access tokens need two owners.
    pub enabled: bool,
    /// Time limit for the approval, and again for the collection after it, in hours.
    #[serde(default = "a_day", deserialize_with = "super::number::number")]
    #[cfg_attr(feature = "control", schema(minimum = 1, maximum = 720, default = 24))]
    pub approval_period_in_hours: i64,
}

fn a_day() -> i64 {
    24
}

/// Subject of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RequestKind {
    /// Create a direct-access token.
    DirectAccessToken,
    /// Give a direct-access token a new value.
    DirectAccessRotation,
    /// Disable dual control.
    EndDualControl,
}

/// State of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RequestState {
    /// Another owner has to decide.
    Pending,
    /// Approved; the requester has to collect the token.
    Approved,
    /// The request was carried out.
    Done,
    /// Rejected by another owner.
    Rejected,
    /// Expired before the decision, or before the token was collected.
    Expired,
}

/// Request for an act that needs two owners.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Id of the request.
    pub id: RequestId,
    /// Subject of the request.
    pub kind: RequestKind,
    /// State of the request.
    pub state: RequestState,
    /// Token to create, in the form of the call that creates one; or the token to rotate, as [`Rotation`].
    #[cfg_attr(feature = "control", schema(value_type = Object))]
    pub request: Box<RawValue>,
    /// Id of the requester.
    pub requested_by: String,
    /// Time of the request.
    pub requested_at: Instant,
    /// End of the time limit: of the approval, and once approved, of the collection.
    pub expires_at: Instant,
    /// Id of the owner who decided.
    pub decided_by: Option<String>,
    /// Time of the decision.
    pub decided_at: Option<Instant>,
    /// Reason for a rejection.
    pub reason: Option<String>,
    /// Id of the created or rotated token.
    pub token_id: Option<TokenId>,
    /// Next step, in one sentence. Clients that take an answer other than 200 for a failure print this member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Token to rotate, as a request names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Id of the token.
    pub token_id: TokenId,
    /// Name of the token at the time of the request.
    pub name: String,
    /// Generation at the time of the request. Once another one is in force, nothing is carried out.
    pub generation: u32,
}

/// Rejection of a request.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// Reason for the rejection.
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub reason: Option<String>,
}

/// Page of requests.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct RequestPage {
    /// Requests, newest first.
    pub requests: Vec<Request>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Conditions that a request must meet.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct RequestFilter {
    /// State of the request.
    pub state: Option<RequestState>,
}
