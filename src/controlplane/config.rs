//! The control plane's configuration file (TOML). Unknown keys are refused.

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
use crate::configuration::{self, Bound, Configuration, Wrong, bound, check_hosts};
use crate::net::origin::keeps_secrets;

/// Why the configuration is not taken.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file.
    #[error(transparent)]
    File(#[from] configuration::ConfigError),
    /// The issuer is no URL of a control plane.
    #[error("issuer = {0:?} in the configuration is not https:// (or http:// on loopback) without a path")]
    Issuer(String),
}

/// All of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the keys and the database are kept.
    pub state_dir: PathBuf,
    /// The public URL: the claim `iss` of all that is signed. Changing it makes every token void.
    pub issuer: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificate and key. Without them it speaks plain HTTP, and something in front must speak TLS.
    pub tls: Option<Tls>,
    /// Networks of the proxies in front, whose `X-Forwarded-For` is believed; none unless named.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
    /// Where `/metrics` is answered, in plain HTTP; nowhere unless named.
    pub metrics_listen: Option<SocketAddr>,
    /// How often one may call.
    #[serde(default)]
    pub limits: Limits,
    /// How long events, lines of the audit log and removals are kept.
    #[serde(default)]
    pub retention: Retention,
    /// Who is told of uses of direct-access tokens; nobody unless named.
    pub webhook: Option<Webhook>,
}

/// How often one may call. Up to a minute's worth may come at once.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls of one user or token in a minute.
    pub calls_per_minute: NonZeroU32,
    /// Calls from one address that fail to say who it is, in a minute.
    pub failures_per_minute: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        let [calls_per_minute, failures_per_minute] =
            [1200, 60].map(|n| NonZeroU32::MIN.saturating_add(n - 1));
        Self { calls_per_minute, failures_per_minute }
    }
}

/// TLS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// An endpoint that is told of uses of direct-access tokens.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where it is: `https://`, or `http://` on loopback.
    #[serde(deserialize_with = "endpoint")]
    pub url: Url,
    /// A file with the secret that messages are signed with.
    pub secret_file: Option<PathBuf>,
    /// Certificate authorities (PEM) for it; the system's unless named.
    pub ca_file: Option<PathBuf>,
    /// How long an answer is waited for, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
}

// Its URL may hold a secret in its path.
impl fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Webhook").field("secret_file", &self.secret_file).finish_non_exhaustive()
    }
}

impl Webhook {
    /// How long an answer is waited for.
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

/// The bounds of every number. docs/configuration.md repeats this table, and a test compares both.
const BOUNDS: [Bound; 9] = [
    bound("limits.calls_per_minute", 1, 100_000_000),
    bound("limits.failures_per_minute", 1, 100_000_000),
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
        Ok(())
    }
}

impl Config {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = configuration::read(path)?;
        check_issuer(&config.issuer)?;
        Ok(config)
    }

    /// Takes certificate and key, and the webhook's secret, from the service manager where the file names none itself.
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

    /// The database file.
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

/// Returns whether `text` is a host name or an IP address, with or without a port.
fn is_address(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    port && check_hosts(&[host.to_owned()], "issuer", &mut BTreeMap::new()).is_ok()
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
