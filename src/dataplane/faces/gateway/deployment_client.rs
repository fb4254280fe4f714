//! Client of the deployments, which keeps connections between requests.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{self, Client};
use thiserror::Error;

use super::Body;
use super::config::Limits;
use super::connection::{Connector, until_lost};
use crate::platform::cause::causes;
use crate::platform::net::http_client;

/// Time for which an unused connection to a deployment is kept. uvicorn closes it after 5 seconds.
const POOL_IDLE: Duration = Duration::from_secs(4);

type Sender = Client<Connector, Body>;

/// Sends requests to deployments.
pub(super) struct DeploymentClient {
    /// Client for requests that may be repeated.
    kept: Sender,
    /// Client that opens a new connection for each request.
    fresh: Sender,
}

impl DeploymentClient {
    pub(super) fn new(tls: rustls::ClientConfig, limits: &Limits) -> Self {
        let tcp = http_client::tcp(Some(Duration::from_secs(limits.connect_seconds)));
        let connector = Connector(http_client::over_tls(tcp, tls));
        Self {
            kept: http_client::client(connector.clone(), Some(limits.idle().min(POOL_IDLE))),
            fresh: http_client::client(connector, None),
        }
    }

    /// Sends a request, and returns its answer. A deployment may close an idle connection just when a request is written on
    /// it, and no check before the write can exclude that: the end of the connection may still be on its way. So only a
    /// request that may be repeated uses a kept connection, and is then sent again on a new one. Any other request opens
    /// a connection, which no server closes as idle.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        let Some(again) = repeated(&request) else { return send(&self.fresh, request).await };
        match send(&self.kept, request).await {
            Err(error) if !error.is_connect() && progress(&error) != Sent::Answered => {
                tracing::debug!(%error, "a kept connection was closed; the request goes once more");
                send(&self.fresh, again).await
            }
            sent => sent,
        }
    }
}

/// Reasons why a request has no answer.
#[derive(Debug, Error)]
pub(super) enum SendError {
    #[error("{0}")]
    Client(#[from] legacy::Error),
    #[error("the connection ended, and the request was lost with it")]
    Lost,
}

impl SendError {
    fn is_connect(&self) -> bool {
        matches!(self, Self::Client(error) if error.is_connect())
    }
}

async fn send(client: &Sender, mut request: Request<Body>) -> Result<Response<Incoming>, SendError> {
    let captured = capture_connection(&mut request);
    tokio::select! {
        biased;
        answer = client.request(request) => Ok(answer?),
        () = until_lost(captured) => Err(SendError::Lost),
    }
}

/// Returns a copy of a request that may be sent twice: an idempotent one without a body, since a body can be read only once.
fn repeated(request: &Request<Body>) -> Option<Request<Body>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

/// Progress of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// No byte of it was written.
    Nothing,
    /// At least a part of it may have been written. No answer began.
    Request,
    /// An answer began.
    Answered,
}

/// Returns how far a request came that failed with `error`.
pub(super) fn progress(error: &(dyn std::error::Error + 'static)) -> Sent {
    let connecting = |error: &legacy::Error| error.is_connect();
    // hyper cancels a request only before it is written.
    let unwritten = |error: &hyper::Error| error.is_canceled();
    let malformed = |error: &hyper::Error| error.is_parse();
    let found = |cause: &(dyn std::error::Error + 'static)| {
        if cause.downcast_ref().is_some_and(connecting) || cause.downcast_ref().is_some_and(unwritten) {
            return Some(Sent::Nothing);
        }
        cause.downcast_ref().is_some_and(malformed).then_some(Sent::Answered)
    };
    causes(error).find_map(found).unwrap_or(Sent::Request)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hyper::Method;
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn what_does_no_more_when_it_comes_twice_may_be_repeated() {
        let request = |method: &str, body: &'static str| {
            let body = http_body_util::Full::from(body).map_err(|never| match never {}).boxed_unsync();
            let request = Request::builder().method(method).uri("http://a/b?c").header("x", "y");
            repeated(&request.body(body).unwrap())
        };
        for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT"] {
            let again = request(method, "").unwrap();
            assert_eq!(
                (again.method(), again.uri()),
                (&Method::try_from(method).unwrap(), &"http://a/b?c".parse().unwrap())
            );
            assert_eq!(again.headers().get("x"), Some(&HeaderValue::from_static("y")));
            assert!(request(method, "body").is_none(), "{method}");
        }
        for method in ["POST", "PATCH", "LOCK"] {
            assert!(request(method, "").is_none(), "{method}");
        }
    }
}
