//! Problem documents (RFC 9457): the body of every failed request, whichever server answers it.

use std::borrow::Cow;

#[cfg(any(feature = "daemon", feature = "control"))]
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// Media type of a problem document (RFC 9457 section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Answer of a failed call: the members of a problem document (RFC 9457), and those that the platform's clients read.
// The control plane sets every member but `event`, so its OpenAPI document leaves that one out and requires the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `about:blank` if the status gives the kind of problem and the code its cause, otherwise a URN.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub kind: Cow<'static, str>,
    /// Status in words.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub title: Cow<'static, str>,
    /// HTTP status of the response.
    pub status: u16,
    /// Stable code for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(value_type = String, required = true))]
    pub code: Option<Cow<'static, str>>,
    /// Fault and remedy, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(value_type = String, required = true))]
    pub detail: Option<String>,
    /// Id of the event that the daemon recorded for the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(ignore))]
    pub event: Option<String>,
    /// The same as `detail`, for clients that read this member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(value_type = String, required = true))]
    pub message: Option<String>,
    /// Id of the call. The control plane's log has it beside the cause of an internal failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(value_type = String, required = true))]
    pub request_id: Option<String>,
    /// The same as `status`, for clients that read this member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(value_type = u16, required = true))]
    pub status_code: Option<u16>,
    /// Faults of single fields and query parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(value_type = Vec<FieldError>, required = true))]
    pub field_errors: Option<Vec<FieldError>>,
}

/// Fault of one field or query parameter of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// Name of the field, or path to it.
    pub field: String,
    /// Stable code for programs.
    pub code: String,
    /// Fault of its value, for people.
    pub message: String,
}

impl Problem {
    /// Returns the problem that `status` alone describes: its type is `about:blank`, and its title the status in words (RFC
    /// 9457 section 4.2.1). Servers set the other members.
    #[cfg(any(feature = "daemon", feature = "control"))]
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("error").into(),
            status: status.as_u16(),
            code: None,
            detail: None,
            event: None,
            message: None,
            request_id: None,
            status_code: None,
            field_errors: None,
        }
    }

    /// Returns the document as JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Numbers and strings always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Members of a received problem document that clients show or act on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Explanation {
    /// Title of the problem.
    pub title: Option<String>,
    /// Stable code for programs.
    pub code: Option<String>,
    /// Fault and remedy, for people.
    pub detail: Option<String>,
}

impl Explanation {
    /// Reads the body of a failed request. Something between the server and this program may have answered in another form:
    /// a member that is missing or no text is left out (RFC 9457 section 3.1), and a body that is no JSON object has none.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let member = |name: &str| document[name].as_str().map(str::to_owned);
        Self { title: member("title"), code: member("code"), detail: member("detail") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "daemon", feature = "control"))]
    #[test]
    fn a_problem_has_the_members_that_its_server_sets_and_is_read_again() {
        let bare = Problem::new(StatusCode::NOT_FOUND);
        let json = String::from_utf8_lossy(&bare.to_json()).into_owned();
        assert_eq!(json, r#"{"type":"about:blank","title":"Not Found","status":404}"#);
        let problem = Problem { code: Some("a".into()), detail: Some("b".into()), ..bare };
        let read = Explanation::read(&problem.to_json());
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(read, Explanation { title: text("Not Found"), code: text("a"), detail: text("b") });
    }

    #[test]
    fn a_member_of_another_type_does_not_hide_the_others() {
        let read = Explanation::read(br#"{"title":1,"code":"a"}"#);
        assert_eq!((read.title, read.code.as_deref(), read.detail), (None, Some("a"), None));
        for body in ["<html>", "", "[]", "\"a\""] {
            assert_eq!(Explanation::read(body.as_bytes()), Explanation::default(), "{body}");
        }
    }
}
