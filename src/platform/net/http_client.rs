//! HTTP clients of the daemon: HTTP/1.1 over TCP or TLS, with connections that are kept between requests.
//!
//! The control plane and the command line use reqwest instead, which `object_store` brings; docs/decisions/libraries.md says why
//! the daemon is built without it.

use std::time::Duration;

use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

/// Client of servers that are reached over TCP or TLS alone, for requests with bodies `B`.
pub type HttpClient<B> = Client<HttpsConnector<HttpConnector>, B>;

/// Returns a connector for TCP. It gives up on an address after `patience`, or when the operating system does.
#[must_use]
pub fn tcp(patience: Option<Duration>) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // Otherwise it would reject https:// URLs, which come to it through TLS.
    tcp.enforce_http(false);
    tcp.set_connect_timeout(patience);
    // Requests are written as a whole, so that Nagle's algorithm could only delay them.
    tcp.set_nodelay(true);
    tcp
}

/// Returns a connector that speaks TLS to https:// URLs, and plain TCP to http:// URLs. Both carry HTTP/1.1.
#[must_use]
pub fn over_tls<C>(tcp: C, tls: ClientConfig) -> HttpsConnector<C> {
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp)
}

/// Returns a client that keeps an unused connection for `idle`, or that opens a new one for each request.
#[must_use]
pub fn client<C, B>(connector: C, idle: Option<Duration>) -> Client<C, B>
where
    C: Connect + Clone,
    B: Body + Send,
    B::Data: Send,
{
    let mut builder = Client::builder(TokioExecutor::new());
    // Without a timer, an unused connection would stay open until the next request to the same server.
    builder.pool_timer(TokioTimer::new());
    match idle {
        Some(idle) => builder.pool_idle_timeout(idle),
        None => builder.pool_max_idle_per_host(0),
    };
    builder.build(connector)
}
