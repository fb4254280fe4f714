//! Error answers of the API.

use serde::{Deserialize, Serialize};

/// Answer of a failed call: the members of a problem document (RFC 9457), and those that the platform's clients read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
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
    /// The same as `detail`, for clients that read this member.
    pub message: String,
    /// Id of the call. The control plane's log has it beside the cause of an internal failure.
    pub request_id: String,
    /// The same as `status`, for clients that read this member.
    pub status_code: u16,
    /// Faults of single fields and query parameters.
    pub field_errors: Vec<FieldError>,
}

/// Fault of one field or query parameter of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// Name of the field, or path to it.
    pub field: String,
    /// Stable code for programs.
    pub code: String,
    /// Fault of its value, for people.
    pub message: String,
}
