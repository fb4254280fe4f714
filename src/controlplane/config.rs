//! The control plane's configuration file (TOML). Unknown keys are refused.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;
use thiserror::Error;

use crate::configuration;

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

impl Config {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = configuration::read(path)?;
        check_issuer(&config.issuer)?;
        Ok(config)
    }

    /// Takes certificate and key from the service manager where the file names none itself.
    #[must_use]
    pub fn with_credentials(mut self, credential: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let both = credential("halligan.tls-certificate").zip(credential("halligan.tls-key"));
        self.tls = self.tls.or_else(|| both.map(|(certificate, key)| Tls { certificate, key }));
        self
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state_dir.join("control.db")
    }
}

fn check_issuer(issuer: &str) -> Result<(), ConfigError> {
    let host = match (issuer.strip_prefix("https://"), issuer.strip_prefix("http://")) {
        (Some(host), _) => Some(host),
        (_, Some(host)) => {
            ["127.", "localhost", "[::1]"].iter().any(|loopback| host.starts_with(loopback)).then_some(host)
        }
        _ => None,
    };
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => Ok(()),
        _ => Err(ConfigError::Issuer(issuer.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_a_bare_url_and_plain_http_stays_on_the_host() {
        for good in ["https://control.example", "https://control.example:8443", "http://127.0.0.1:8080"] {
            assert!(check_issuer(good).is_ok(), "{good}");
        }
        for bad in ["control.example", "http://control.example", "https://", "https://a/b", "https://u@a"] {
            assert!(check_issuer(bad).is_err(), "{bad}");
        }
    }
}
