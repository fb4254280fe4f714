//! Opens connections: directly, or for HTTPS through the proxy in the environment (`HTTPS_PROXY`, `NO_PROXY`).
//!
//! A proxy serves only as a tunnel (CONNECT): TLS ends at the control plane. Plain HTTP, which is for one host and for
//! tests, uses no proxy.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::platform::net::http_client;

/// TCP keepalive: idle time, interval and probes. A node that waits for an answer detects a dead peer within about six seconds.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(3), Duration::from_secs(1), 3);

/// Opens connections to the control plane.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    proxies: Arc<Matcher>,
}

impl Connector {
    /// Returns a connector that gives up on an address after `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        let mut tcp = http_client::tcp(Some(patience));
        let (idle, interval, retries) = KEEPALIVE;
        tcp.set_keepalive(Some(idle));
        tcp.set_keepalive_interval(Some(interval));
        tcp.set_keepalive_retries(Some(retries));
        Self { tcp, proxies: Arc::new(Matcher::from_env()) }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let secure = to.scheme_str() == Some("https");
        let proxy = if secure { self.proxies.intercept(&to) } else { None };
        let Some(proxy) = proxy else {
            let connecting = self.tcp.call(to);
            return Box::pin(async { connecting.await.map_err(Into::into) });
        };
        if proxy.uri().scheme_str() != Some("http") {
            let what = format!("the proxy {} in the environment is not an http:// one", proxy.uri());
            return Box::pin(async { Err(what.into()) });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        Box::pin(async move { tunnel.call(to).await.map_err(Into::into) })
    }
}
