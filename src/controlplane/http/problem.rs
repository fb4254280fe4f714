//! Problem documents (RFC 9457) for the errors of this API and of the framework below it.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::controlplane::error::Error;

const MEDIA_TYPE: &str = "application/problem+json";

/// Problem document of a failed call (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(super) struct Problem<'a> {
    /// Always `about:blank`: the status gives the kind of problem, the code its cause.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Status in words.
    title: &'static str,
    /// HTTP status of the response.
    status: u16,
    /// Stable code for programs.
    code: &'a str,
    /// Fault and remedy, for people.
    detail: &'a str,
}

/// Stable code of an error, attached to the response for the audit log.
#[derive(Clone)]
pub(super) struct Code(pub(super) String);

pub(super) fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("error");
    let problem = Problem { kind: "about:blank", title, status: status.as_u16(), code, detail };
    // Numbers and strings always serialize.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.extensions_mut().insert(Code(code.to_owned()));
    response
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let detail = if status.is_server_error() {
            // Internal details go to the log, not to the caller.
            tracing::error!(error = %self, "a call failed");
            self.outcome().to_owned()
        } else {
            self.to_string()
        };
        let mut response = problem(status, self.code(), &detail);
        if let Self::RateLimited(seconds) = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Turns every error that is not a problem document into one: unknown paths and methods, and unreadable parameters.
pub(super) async fn always(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let told = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == MEDIA_TYPE);
    if told || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let said = to_bytes(body, 1024).await.unwrap_or_default();
    let said = std::str::from_utf8(&said).unwrap_or_default();
    let (code, default) = match status {
        StatusCode::NOT_FOUND => ("not_found", "there is no such call"),
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "this path has no such method; see Allow"),
        StatusCode::BAD_REQUEST => ("malformed", "the path or query is not understood"),
        _ => ("refused", "this can't be answered"),
    };
    let mut told = problem(status, code, if said.is_empty() { default } else { said });
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        told.headers_mut().insert(header::ALLOW, allow.clone());
    }
    told
}
