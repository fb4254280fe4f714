//! Configuration file of the control plane (TOML). Unknown keys are rejected.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;
use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

use super::retention::Retention;
use crate::platform::configuration::{
    self, Bound, Configuration, Wrong, bound, check_hosts, check_listeners,
};
use crate::platform::net::network;
use crate::platform::net::origin::{host_of, keeps_secrets};

/// Reasons to reject a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read or parsed.
    #[error(transparent)]
    File(#[from] configuration::ConfigError),
    /// The issuer is not a valid URL of a control plane.
    #[error("issuer = {0:?} in the configuration is not https:// (or http:// on loopback) without a path")]
    Issuer(String),
}

/// Configuration of the control plane.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory of the keys and the database.
    pub state_dir: PathBuf,
    /// Public URL, which is the claim `iss` of everything signed. A change invalidates all tokens.
    pub issuer: String,
    /// Address of the HTTP API.
    pub listen: SocketAddr,
    /// Certificate and key. Without them the API is plain HTTP, and a proxy must terminate TLS.
    pub tls: Option<Tls>,
    /// Networks of the trusted proxies, whose `X-Forwarded-For` is believed. Empty by default.
    #[serde(default, deserialize_with = "network::list")]
    pub trusted_proxies: Vec<IpNet>,
    /// Address of `/metrics`, in plain HTTP. Without it, no metrics are served.
    pub metrics_listen: Option<SocketAddr>,
    /// Limits of callers.
    #[serde(default)]
    pub limits: Limits,
    /// Retention of events, audit-log lines and removals.
    #[serde(default)]
    pub retention: Retention,
    /// Endpoint that receives uses of direct-access tokens. None by default.
    pub webhook: Option<Webhook>,
    /// Archives of deployments' code.
    #[serde(default)]
    pub deploys: Deploys,
}

/// Archives of deployments' code.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploys {
    /// Place of the archives: a directory, or `s3://BUCKET/PREFIX`. By default the directory `deploys` in `state_dir`.
    pub store: Option<String>,
}

/// Limits of callers. A burst of up to one minute's calls is allowed.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls of one user or token per minute.
    pub calls_per_minute: NonZeroU32,
    /// Failed authentications from one address per minute.
    pub failures_per_minute: NonZeroU32,
    /// Connections of one client at a time, except those of trusted proxies and of this host. The default is a quarter of
    /// the connections that others leave.
    pub connections_per_client: Option<NonZeroU32>,
}

impl Default for Limits {
    fn default() -> Self {
        let [calls_per_minute, failures_per_minute] =
            [1200, 60].map(|n| NonZeroU32::MIN.saturating_add(n - 1));
        Self { calls_per_minute, failures_per_minute, connections_per_client: None }
    }
}

/// Certificate and key of the listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// File of the certificate chain (PEM).
    pub certificate: PathBuf,
    /// File of the private key (PEM).
    pub key: PathBuf,
}

/// Endpoint that receives uses of direct-access tokens.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// URL of the endpoint: `https://`, or `http://` on loopback.
    #[serde(deserialize_with = "endpoint")]
    pub url: Url,
    /// File of the secret that signs messages.
    pub secret_file: Option<PathBuf>,
    /// File of certificate authorities (PEM) for the endpoint; the system's by default.
    pub ca_file: Option<PathBuf>,
    /// Time limit of an attempt, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
}

// The path of the URL may contain a secret.
impl fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Webhook").field("secret_file", &self.secret_file).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Returns the time limit of an attempt.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

fn default_timeout() -> u64 {
    10
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = String::deserialize(deserializer)?;
    check_endpoint(&text).ok_or_else(|| {
        de::Error::custom(
            "url is not https:// (or http:// on loopback), or it has a user name, a password or a fragment",
        )
    })
}

fn check_endpoint(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (keeps_secrets(url.as_str()) && bare).then_some(url)
}

/// Bounds of every number. docs/configuration.md has the same table, and a test compares the two.
const BOUNDS: [Bound; 10] = [
    bound("limits.calls_per_minute", 1, 100_000_000),
    bound("limits.failures_per_minute", 1, 100_000_000),
    bound("limits.connections_per_client", 1, 1_000_000),
    bound("retention.event_days", 1, 36_500),
    bound("retention.event_max_bytes", 1 << 20, 1 << 50),
    bound("retention.audit_log_days", 1, 36_500),
    bound("retention.audit_log_max_bytes", 1 << 20, 1 << 50),
    bound("retention.change_days", 1, 36_500),
    bound("retention.change_max_bytes", 1 << 20, 1 << 50),
    bound("webhook.timeout_seconds", 1, 60),
];

impl Configuration for Config {
    const BOUNDS: &'static [Bound] = &BOUNDS;

    fn check(&self) -> Result<(), Wrong> {
        check_listeners(&[("listen", &[self.listen]), ("metrics_listen", self.metrics_listen.as_slice())])
    }
}

impl Config {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = configuration::read(path)?;
        check_issuer(&config.issuer)?;
        Ok(config)
    }

    /// Sets certificate, key and webhook secret from the service manager's credentials where the file names none.
    #[must_use]
    pub fn with_credentials(mut self, credential: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let both = credential("halligan.tls-certificate").zip(credential("halligan.tls-key"));
        self.tls = self.tls.or_else(|| both.map(|(certificate, key)| Tls { certificate, key }));
        if let Some(webhook) = &mut self.webhook {
            webhook.secret_file =
                webhook.secret_file.take().or_else(|| credential("halligan.webhook-secret"));
        }
        self
    }

    /// Returns the path of the database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state_dir.join("control.db")
    }
}

fn check_issuer(issuer: &str) -> Result<(), ConfigError> {
    let address = issuer.strip_prefix("https://").or_else(|| issuer.strip_prefix("http://"));
    if address.is_some_and(is_address) && keeps_secrets(issuer) {
        return Ok(());
    }
    Err(ConfigError::Issuer(issuer.to_owned()))
}

/// Returns true if `text` is a host name or an IP address, with or without a port.
fn is_address(text: &str) -> bool {
    host_of(text).is_some_and(|host| check_hosts(&[host.to_owned()], "issuer", &mut BTreeMap::new()).is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_issuer_is_a_bare_url_and_plain_http_stays_on_the_host() {
        for good in [
            "https://control.example",
            "https://control.example:8443",
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://localhost",
            "http://localhost.:8080",
            "http://[::1]:8080",
        ] {
            assert!(check_issuer(good).is_ok(), "{good}");
        }
        for bad in [
            "control.example",
            "http://control.example",
            "http://localhost.example",
            "http://localhostexample:8080",
            "http://127.evil.example",
            "http://127.0.0.1.example",
            "http://127.0.0.1.example:8080",
            "http://127.0.0",
            "http://[::1].example",
            "http://[::2]",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://*.example",
            "https://a:b",
            "https://a:0",
            "https://a b",
        ] {
            assert!(check_issuer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_webhook_is_https_or_on_this_host_and_names_nobody() {
        for good in [
            "https://hooks.example/a?b=c",
            "https://10.0.0.1:8443",
            "http://127.0.0.1:8080/",
            "http://localhost/x",
            "http://[::1]:9/x",
        ] {
            assert!(check_endpoint(good).is_some(), "{good}");
        }
        for bad in [
            "hooks.example",
            "http://hooks.example",
            "http://127.0.0.1.example/",
            "http://localhost.example",
            "http://127.evil.example/",
            "http://localhost:secret@hooks.example",
            "https://user@hooks.example",
            "https://user:secret@hooks.example",
            "https://hooks.example/#there",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
            "https://",
        ] {
            assert!(check_endpoint(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_webhook_is_said_without_quoting_it() {
        let read = |text: &str| toml::from_str::<Webhook>(text).map_err(|error| error.message().to_owned());
        let error = read("url = 'http://hooks.example/s3cret'").unwrap_err();
        assert!(error.contains("url is not https://") && !error.contains("s3cret"), "{error}");
        for (text, word) in
            [("url = 'https://a.example'\nsecret = 'x'", "secret"), ("secret_file = 'x'", "url")]
        {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let webhook = read("url = 'https://a.example/s3cret'").unwrap();
        assert!(!format!("{webhook:?}").contains("s3cret"));
        assert_eq!(webhook.timeout_seconds, 10);
    }
}
