//! Client of the deployments, which keeps connections between requests.

use std::io::ErrorKind;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::Body;
use super::config::Limits;
use crate::platform::cause::causes;

/// Time for which an unused connection to a deployment is kept. uvicorn closes it after 5 seconds.
const POOL_IDLE: Duration = Duration::from_secs(4);
/// The same for requests that are sent only once. Servers close idle connections after 2 seconds (gunicorn) or later, so such a
/// request does not meet a connection that is about to be closed.
const ONCE_IDLE: Duration = Duration::from_secs(1);

/// Turns of the runtime before a request that is sent only once: one delivers the end of a connection, which the kernel may
/// have already, to the connection's task, and that task runs before the other ends.
const TURNS: usize = 2;

type Sender = Client<HttpsConnector<HttpConnector>, Body>;

/// Sends requests to deployments.
pub(super) struct Onward {
    kept: Sender,
    /// Client with connections of its own for requests that are sent only once.
    once: Sender,
    /// Client that opens a new connection for each request.
    fresh: Sender,
}

impl Onward {
    pub(super) fn new(tls: rustls::ClientConfig, limits: &Limits) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(Duration::from_secs(limits.connect_seconds)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new());
        Self {
            kept: client.pool_idle_timeout(limits.idle().min(POOL_IDLE)).build(connector.clone()),
            once: client.pool_idle_timeout(limits.idle().min(ONCE_IDLE)).build(connector.clone()),
            fresh: client.pool_max_idle_per_host(0).build(connector),
        }
    }

    /// Sends a request, and returns its answer. A deployment may close an idle connection just when a request is sent on
    /// it. An idempotent request (RFC 9110 section 9.2.2) is then sent again, on a new connection. Any other is sent once, and so
    /// only on a new connection, or on one that was used a moment ago and is not known to be closed. The pool itself sends a
    /// request again of which no byte was written.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, legacy::Error> {
        let Some(again) = repeated(&request) else {
            // A connection that was closed is known to be once its own task has run.
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            return self.once.request(request).await;
        };
        match self.kept.request(request).await {
            Err(error) if was_closed(&error) => {
                tracing::debug!(%error, "a kept connection was closed; the request goes once more");
                self.fresh.request(again).await
            }
            sent => sent,
        }
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

/// Returns true if the connection ended before an answer began. A connection that could not be opened does not count.
fn was_closed(error: &legacy::Error) -> bool {
    let closed =
        |error: &hyper::Error| error.is_incomplete_message() || error.is_canceled() || error.is_closed();
    let broken = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected)
    };
    let ended = causes(error)
        .any(|cause| cause.downcast_ref().is_some_and(closed) || cause.downcast_ref().is_some_and(broken));
    ended && !error.is_connect()
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
