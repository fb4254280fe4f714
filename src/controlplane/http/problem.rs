//! Problem documents (RFC 9457) for the errors of this API and of the framework below it.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::problem::{FieldError, MEDIA_TYPE, Problem};
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;

/// Internal cause of an error, which goes to the log and not to the caller.
#[derive(Clone)]
struct Cause {
    error: String,
    /// Code of the error, if it is a state that lasts: every call fails for the same reason until an operator acts.
    lasting: Option<&'static str>,
}

impl Cause {
    /// Logs the cause of a failed call. One that lasts is logged every ten minutes, because callers try again at any rate.
    fn log(&self, control: &ControlPlane, request_id: &str) {
        let error = &self.error;
        match self.lasting.map(|code| control.complaint_due(code)) {
            None => tracing::error!(error, request_id, "a call failed"),
            Some(Some(left_out)) => tracing::error!(error, request_id, left_out, "a call failed"),
            Some(None) => tracing::debug!(error, request_id, "a call failed"),
        }
    }
}

/// Returns the response of a failed call.
pub(super) fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    of_fields(status, code, detail, Vec::new())
}

/// Returns the response of a failed call with the faults of its fields.
pub(super) fn of_fields(
    status: StatusCode,
    code: &str,
    detail: &str,
    field_errors: Vec<FieldError>,
) -> Response {
    let problem = document(status, code, detail, field_errors);
    let mut response = rendered(status, &problem);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.extensions_mut().insert(problem);
    response
}

/// Returns a problem document without the id of its call, which [`complete`] adds.
fn document(status: StatusCode, code: &str, detail: &str, field_errors: Vec<FieldError>) -> Problem {
    Problem {
        code: Some(code.to_owned().into()),
        detail: Some(detail.to_owned()),
        message: Some(detail.to_owned()),
        status_code: Some(status.as_u16()),
        field_errors: Some(field_errors),
        ..Problem::new(status)
    }
}

/// Returns the response of a call with a fault of one field or query parameter.
pub(super) fn of_field(status: StatusCode, code: &str, field: &str, detail: &str) -> Response {
    let fault = FieldError { field: field.to_owned(), code: code.to_owned(), message: detail.to_owned() };
    of_fields(status, code, &format!("{field}: {detail}"), vec![fault])
}

fn rendered(status: StatusCode, problem: &Problem) -> Response {
    (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], problem.to_json()).into_response()
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = self.code();
        let internal = status.is_server_error() && !matches!(self, Self::Busy(_) | Self::Receiving(_));
        let mut response = match &self {
            Self::Invalid { field, detail } => of_field(status, code, field, detail),
            Self::NoSuch { field, what } => {
                of_field(status, code, field, &format!("there is no {what} of this id here"))
            }
            Self::Archive(error) if error.is_refusal() => {
                of_field(status, code, "archive", &error.to_string())
            }
            // Internal details go to the log, not to the caller.
            _ if internal => problem(status, code, self.outcome()),
            _ => problem(status, code, &self.to_string()),
        };
        if internal {
            let lasting = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(code);
            response.extensions_mut().insert(Cause { error: self.to_string(), lasting });
        }
        if let Self::RateLimited(seconds) | Self::Busy(seconds) | Self::Receiving(seconds) = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Gives every error the id of its call, and logs the internal ones under it. Errors of the framework become problem
/// documents as well: unknown paths and methods, and unreadable parameters.
pub(super) async fn complete(
    State(control): State<Arc<ControlPlane>>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let mut problem = match parts.extensions.get::<Problem>() {
        Some(problem) => problem.clone(),
        // The page of /readyz is an answer, not an error.
        None if status == StatusCode::SERVICE_UNAVAILABLE => return Response::from_parts(parts, body),
        None => {
            let said = to_bytes(body, 1024).await.unwrap_or_default();
            let (code, default) = match status {
                StatusCode::NOT_FOUND => ("not_found", "there is no such call"),
                StatusCode::METHOD_NOT_ALLOWED => {
                    ("method_not_allowed", "this path has no such method; see Allow")
                }
                StatusCode::BAD_REQUEST => ("malformed", "the path or query is not understood"),
                _ => ("refused", "this can't be answered"),
            };
            let said = std::str::from_utf8(&said).ok().filter(|said| !said.is_empty()).unwrap_or(default);
            document(status, code, said, Vec::new())
        }
    };
    let request_id = control.new_id();
    if let Some(cause) = parts.extensions.get::<Cause>() {
        cause.log(&control, &request_id);
    }
    problem.request_id = Some(request_id);
    let mut response = rendered(status, &problem);
    for name in [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::controlplane::test_world::World;
    use crate::platform::logging::captured;

    #[test]
    fn a_cause_that_lasts_is_logged_every_ten_minutes_and_any_other_at_each_call() {
        let world = World::new();
        let of = |error: Error| error.into_response().extensions().get::<Cause>().unwrap().clone();
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let full = of(Error::Store(rusqlite::Error::SqliteFailure(full, None)));
        let other = of(Error::Store(rusqlite::Error::InvalidQuery));
        let log = captured(|| {
            for _ in 0..50 {
                full.log(&world.control, "call");
                world.later(10);
            }
        });
        assert_eq!(log.matches("a call failed").count(), 1, "{log}");
        world.later(200);
        let log = captured(|| full.log(&world.control, "call"));
        assert!(log.contains("a call failed") && log.contains("left_out=49"), "{log}");
        let log = captured(|| (0..2).for_each(|_| other.log(&world.control, "call")));
        assert_eq!(log.matches("a call failed").count(), 2, "{log}");
    }
}
