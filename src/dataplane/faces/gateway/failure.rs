//! Failures of allowed requests, and their answers.

use http_body_util::{BodyExt as _, Full, LengthLimitError};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use thiserror::Error;

use super::idle_limit::{BoxError, ClientBroke, Stalled};
use super::{Body, deployment_client, headers};
use crate::api::problem::{MEDIA_TYPE, Problem};
use crate::platform::cause::causes;

/// Reasons why an allowed request fails.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("no upstream is configured for this deployment")]
    NoUpstream,
    #[error("the request's body is too large")]
    TooLarge,
    #[error("the request's body did not arrive in time")]
    ClientStalled,
    #[error("the request's body broke off, or its framing is invalid")]
    ClientBroke,
    /// No byte of the request was written, so the client may repeat it.
    #[error("the deployment can't be reached")]
    Unreachable(#[source] BoxError),
    /// The request was written. The gateway cannot know whether the deployment acted on it (RFC 9110 section 9.2.2).
    #[error("the deployment ended the connection without an answer; it may have done what was asked")]
    Unanswered(#[source] BoxError),
    #[error("the deployment did not answer in time")]
    DeploymentStalled,
    #[error("the deployment's answer is not HTTP/1.1")]
    NotHttp(#[source] BoxError),
    #[error("the deployment's answer states no unambiguous length")]
    TwoLengths,
    #[error("the deployment changed the protocol without a request for it")]
    Unasked,
    #[error("too many WebSockets are open")]
    TooMany,
}

impl Failure {
    /// Returns the failure that an error of the client, of a body or of the deployment stands for.
    pub(super) fn from_error(error: BoxError) -> Self {
        for cause in causes(&*error) {
            if cause.is::<LengthLimitError>() {
                return Self::TooLarge;
            }
            if cause.is::<Stalled>() {
                return Self::ClientStalled;
            }
            if cause.is::<ClientBroke>() {
                return Self::ClientBroke;
            }
        }
        match deployment_client::progress(&*error) {
            deployment_client::Sent::Nothing => Self::Unreachable(error),
            deployment_client::Sent::Request => Self::Unanswered(error),
            deployment_client::Sent::Answered => Self::NotHttp(error),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoUpstream
            | Self::Unreachable(_)
            | Self::Unanswered(_)
            | Self::NotHttp(_)
            | Self::TwoLengths
            | Self::Unasked => StatusCode::BAD_GATEWAY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ClientStalled => StatusCode::REQUEST_TIMEOUT,
            Self::ClientBroke => StatusCode::BAD_REQUEST,
            Self::DeploymentStalled => StatusCode::GATEWAY_TIMEOUT,
            Self::TooMany => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the stable name of the failure for programs.
    fn code(&self) -> &'static str {
        match self {
            Self::NoUpstream => "no_upstream",
            Self::TooLarge => "body_too_large",
            Self::ClientStalled => "body_stalled",
            Self::ClientBroke => "body_broken",
            Self::Unreachable(_) => "upstream_unreachable",
            Self::Unanswered(_) => "upstream_unanswered",
            Self::DeploymentStalled => "upstream_stalled",
            Self::NotHttp(_) | Self::TwoLengths | Self::Unasked => "upstream_invalid",
            Self::TooMany => "websockets_full",
        }
    }

    /// Logs a failure of the deployment. Clients can cause the others at will, so those are only answered.
    pub(super) fn log(&self, event: &str) {
        match self {
            Self::Unreachable(error) => tracing::warn!(%error, event, "a deployment can't be reached"),
            Self::Unanswered(error) => {
                tracing::warn!(%error, event, "a deployment ended a connection without an answer");
            }
            Self::NotHttp(error) => tracing::warn!(%error, event, "a deployment's answer is not HTTP/1.1"),
            _ => {}
        }
    }

    /// Returns the problem document (RFC 9457).
    pub(super) fn answer(&self, told: &HeaderMap) -> Response<Body> {
        let status = self.status();
        let (title, code) = (self.to_string().into(), Some(self.code().into()));
        let problem = Problem { title, code, ..Problem::new(status) };
        let body = Full::from(problem.to_json());
        let mut answer = Response::new(body.map_err(|never| match never {}).boxed_unsync());
        *answer.status_mut() = status;
        headers::towards_client(answer.headers_mut(), told);
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        answer
    }
}
