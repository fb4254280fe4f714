//! JSON bodies of calls.

use std::error::Error;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use http_body_util::LengthLimitError;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::problem::{of_fields, problem};
use crate::api::problem::FieldError;
use crate::platform::cause::causes;
use crate::platform::net::serve::LateBody;
use crate::protocol::json::{TOO_DEEP, nests_too_deep};

/// Maximum size of most bodies, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// Reads a whole body of at most `max` bytes. A body that is larger, was cut off or did not arrive in time
/// is answered with a problem that names the fault (RFC 9110 sections 15.5.14, 15.5.1 and 15.5.9).
pub(super) async fn read(body: axum::body::Body, max: usize) -> Result<Bytes, Response> {
    to_bytes(body, max).await.map_err(|error| {
        if causes(&error).any(<dyn Error>::is::<LengthLimitError>) {
            let detail = format!("the body is larger than {} KiB", max / 1024);
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &detail);
        }
        if causes(&error).any(<dyn Error>::is::<LateBody>) {
            let detail = "the body did not arrive in time; send it again";
            return problem(StatusCode::REQUEST_TIMEOUT, "body_stalled", detail);
        }
        problem(StatusCode::BAD_REQUEST, "body_broken", "the body was cut off; send it again")
    })
}

/// Extractor of a JSON body. A fault is answered with a problem that names the field.
pub(super) struct Body<T, const MAX: usize = MAX_BODY>(pub(super) T);

impl<S: Sync, T: DeserializeOwned, const MAX: usize> FromRequest<S> for Body<T, MAX> {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        if !says_json(&parts.headers) {
            return Err(problem(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "send JSON with the header Content-Type: application/json",
            ));
        }
        let bytes = read(body, MAX).await?;
        // Bodies are objects. serde would also accept a list as an object, with its items as the members in order.
        if bytes.trim_ascii_start().first().is_some_and(|first| b"[\"0123456789-tfn".contains(first)) {
            return Err(problem(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "the body is not a JSON object",
            ));
        }
        if nests_too_deep(&bytes) {
            return Err(problem(
                StatusCode::BAD_REQUEST,
                "malformed",
                &format!("the body is refused: {TOO_DEEP}"),
            ));
        }
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            (path, error.into_inner())
        });
        let read = read.and_then(|read| reader.end().map(|()| read).map_err(|error| (".".into(), error)));
        read.map(Self).map_err(|(path, error)| {
            let detail = format!("the body is not understood: {error}");
            // serde_json reports a null where none is allowed as an error of the syntax, not of the member.
            let is_json = || serde_json::from_slice::<IgnoredAny>(&bytes).is_ok();
            if !error.is_data() && !is_json() {
                return problem(StatusCode::BAD_REQUEST, "malformed", &detail);
            }
            let field = if path == "." { named(&error.to_string()).unwrap_or_default() } else { path };
            let fault = FieldError { field, code: "invalid".into(), message: error.to_string() };
            of_fields(StatusCode::UNPROCESSABLE_ENTITY, "invalid", &detail, vec![fault])
        })
    }
}

/// Returns the field that an error of the whole object names: a missing or an unknown field.
fn named(error: &str) -> Option<String> {
    let (_, rest) = error.split_once(" field `")?;
    rest.split_once('`').map(|(field, _)| field.to_owned())
}

fn says_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::BoxError;
    use axum::body::Body as Sent;
    use hyper::body::Frame;

    use super::*;

    /// Body that fails after its first bytes.
    struct Failing(Vec<Result<Bytes, BoxError>>);

    impl hyper::body::Body for Failing {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.0.pop().map(|piece| piece.map(Frame::data)))
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_whole_is_not_called_too_large() {
        let failing =
            |error: BoxError| Sent::new(Failing(vec![Err(error), Ok(Bytes::from_static(b"{\"name\""))]));
        for (body, status, code) in [
            (failing(LateBody.into()), 408, "body_stalled"),
            (failing(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()), 400, "body_broken"),
            (Sent::from("x".repeat(1025)), 413, "too_large"),
        ] {
            let refused = read(body, 1024).await.unwrap_err();
            assert_eq!(refused.status().as_u16(), status);
            let problem = refused.extensions().get::<crate::api::problem::Problem>().unwrap();
            assert_eq!(problem.code.as_deref(), Some(code));
        }
        assert_eq!(&*read(Sent::from("{}"), 1024).await.unwrap(), b"{}");
    }
}
