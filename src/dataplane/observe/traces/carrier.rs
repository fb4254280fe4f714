//! HTTP client for the collector. It runs on the daemon's runtime, since the SDK's own thread has none.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

use crate::platform::cause::innermost;
use crate::platform::net::http_client;
use crate::platform::net::tls::{self, TlsError};

/// Time limit for an answer of the collector. Spans that it did not accept by then are lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Sends requests, and logs once when they begin to fail and once when they succeed again: the collector may be away as
/// long as the control plane.
#[derive(Clone, Debug)]
pub(super) struct Carrier {
    client: HyperClient<HttpsConnector<HttpConnector>>,
    runtime: Handle,
    failing: Arc<AtomicBool>,
}

impl Carrier {
    /// Returns a client on `runtime` that trusts the authorities in `ca_file`, or the system's.
    pub(super) fn new(ca_file: Option<&Path>, runtime: Handle) -> Result<Self, TlsError> {
        let connector = http_client::over_tls(http_client::tcp(None), tls::client(ca_file)?);
        // The exporter's own client keeps the connections.
        Ok(Self { client: HyperClient::new(connector, PATIENCE, None), runtime, failing: Arc::default() })
    }

    /// Records the result of a request.
    fn note(&self, failure: Option<String>) {
        match failure {
            Some(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the collector does not accept spans; they are lost until it does");
            }
            None if self.failing.swap(false, Ordering::Relaxed) => {
                tracing::info!("the collector accepts spans again");
            }
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Carrier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { client.send_bytes(request).await }).await;
        let answer = sent.map_err(HttpError::from).flatten();
        self.note(match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status())),
            Err(error) => Some(innermost(&**error).to_string()),
        });
        answer
    }
}
