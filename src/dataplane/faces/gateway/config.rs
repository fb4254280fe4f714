//! Configuration of the gateway: `[gateway]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::{Authority, Scheme};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::platform::net::origin::host_of;
use crate::platform::net::share::Share;
use crate::protocol::id::DeploymentId;

/// The daemon as a reverse proxy.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Addresses to listen on, besides the sockets that systemd passes under the name `gateway`.
    #[serde(default)]
    pub listen: Vec<SocketAddr>,
    /// Certificate and key, or `None` for plain HTTP/1.1.
    pub tls: Option<TlsConfig>,
    /// Certificate authorities (PEM) of HTTPS deployments, or `None` for the system's.
    pub ca_file: Option<PathBuf>,
    /// Deployments behind the gateway.
    pub deployments: BTreeMap<DeploymentId, DeploymentBehind>,
    /// Limits of time and size.
    #[serde(default)]
    pub limits: Limits,
}

/// Certificate and key. Both are read again when one of them changes.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain (PEM), with the gateway's own certificate first.
    pub certificate_file: PathBuf,
    /// Private key (PEM).
    pub key_file: PathBuf,
}

/// Deployment behind the gateway.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DeploymentBehind {
    /// Base URL of the deployment, as in `http://127.0.0.1:8080`.
    pub upstream: Upstream,
    /// Host names of the deployment, besides those of its record. They come before the host names of any record.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// Scheme and address of an upstream, to which a request's target is appended.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Scheme of the URL: `http` or `https`.
    pub scheme: Scheme,
    /// Host and port of the upstream.
    pub authority: Authority,
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refused = || {
            let what = "write http://HOST:PORT with a port from 1 to 65535, and without a path";
            D::Error::custom(format!("{text:?} is no upstream: {what}"))
        };
        let parts = text.parse::<Uri>().map_err(|_| refused())?.into_parts();
        let bare = parts.path_and_query.as_ref().is_none_or(|path| path == "/");
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority))
                if bare
                    && !text.contains('#')
                    && (scheme == Scheme::HTTP || scheme == Scheme::HTTPS)
                    && host_of(authority.as_str()).is_some() =>
            {
                Ok(Self { scheme, authority })
            }
            _ => Err(refused()),
        }
    }
}

/// Limits of time and size.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Maximum number of connections, and of WebSockets, at a time.
    pub connections: u32,
    /// Maximum number of connections, and of WebSockets, of one client at a time. The default is a quarter of those that
    /// others leave.
    pub connections_per_client: Option<u32>,
    /// Maximum size of a request's line and headers, in bytes.
    pub header_bytes: u32,
    /// Maximum size of a request's body, in bytes.
    pub body_bytes: usize,
    /// Time limit for the TLS handshake, and for a request's headers, in seconds.
    pub header_seconds: u64,
    /// Time limit for connecting to the deployment, in seconds.
    pub connect_seconds: u64,
    /// Time limit without progress of a body, and for the beginning of the deployment's answer, in seconds.
    pub idle_seconds: u64,
    /// Maximum duration of a WebSocket, in seconds. A token that is revoked meanwhile stays usable on it for this time at most.
    pub websocket_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_client: None,
            header_bytes: 64 * 1024,
            body_bytes: 100 << 20,
            header_seconds: 10,
            connect_seconds: 5,
            idle_seconds: 60,
            websocket_seconds: 3600,
        }
    }
}

impl Limits {
    /// Returns the share of one client in the connections, and in the WebSockets.
    pub(super) fn share(&self) -> Share {
        self.connections_per_client.into()
    }

    pub(super) fn header(&self) -> Duration {
        Duration::from_secs(self.header_seconds)
    }

    pub(super) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(upstream: &str) -> Result<GatewayConfig, toml::de::Error> {
        toml::from_str(&format!("listen = []\n[deployments.dep_a]\nupstream = {upstream:?}"))
    }

    #[test]
    fn an_upstream_is_a_scheme_and_an_address() {
        let config = read("http://127.0.0.1:8080").unwrap();
        let upstream = &config.deployments.values().next().unwrap().upstream;
        assert_eq!((upstream.scheme.as_str(), upstream.authority.as_str()), ("http", "127.0.0.1:8080"));
        assert!(read("https://airflow.internal/").is_ok());
        for refused in [
            "127.0.0.1:8080",
            "http://a/b",
            "http://a?b",
            "http://a#b",
            "http://a:0",
            "http://a:65536",
            "http://a:",
            "http://:80",
            "http://a..:80",
            "http://*.a:80",
            "http://[::1]:99999",
            "ftp://a",
            "http://u:p@a",
            "/a",
            "",
        ] {
            let error = read(refused).unwrap_err().to_string();
            assert!(error.contains("is no upstream"), "{refused}: {error}");
        }
    }
}
