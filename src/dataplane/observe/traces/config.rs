//! Configuration of traces: `[tracing]`.

use std::path::PathBuf;

use hyper::Uri;
use hyper::http::uri::Scheme;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Collector of spans, and the share of requests that are traced.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TracingConfig {
    /// Base URL of the collector, for OTLP over HTTP. `/v1/traces` is appended.
    pub otlp_endpoint: Endpoint,
    /// Share of the requests without a trace for which one is begun, from 0 to 1.
    #[serde(default = "one_in_a_hundred")]
    pub sample: f64,
    /// Certificate authorities (PEM) of an HTTPS collector, or `None` for the system's.
    pub ca_file: Option<PathBuf>,
}

/// URL to which spans are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Returns the URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let base = String::deserialize(deserializer)?;
        let plain = base.parse().ok().filter(|uri: &Uri| {
            let scheme = uri.scheme().is_some_and(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
            // User information in a URL includes a password, which must not be in this file.
            let host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
            scheme && host && uri.query().is_none()
        });
        match plain {
            Some(_) => Ok(Self(format!("{}/v1/traces", base.trim_end_matches('/')))),
            None => Err(D::Error::custom("otlp_endpoint must be a URL like http://127.0.0.1:4318")),
        }
    }
}

fn one_in_a_hundred() -> f64 {
    0.01
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(text: &str) -> Result<TracingConfig, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn an_endpoint_is_enough() {
        let config = read("otlp_endpoint = 'http://127.0.0.1:4318'").unwrap();
        assert_eq!(config.otlp_endpoint.as_str(), "http://127.0.0.1:4318/v1/traces");
        assert!((config.sample - 0.01).abs() < f64::EPSILON);
        let config = read("otlp_endpoint = 'https://otel.example/eu/'\nsample = 1").unwrap();
        assert_eq!(config.otlp_endpoint.as_str(), "https://otel.example/eu/v1/traces");
    }

    #[test]
    fn what_is_no_collector_is_refused_and_no_password_repeated() {
        for endpoint in ["", "127.0.0.1:4318", "grpc://a:4317", "http:///v1", "http://a/?b", "/v1/traces"] {
            let told = read(&format!("otlp_endpoint = '{endpoint}'")).unwrap_err();
            assert!(told.contains("otlp_endpoint"), "{endpoint}: {told}");
        }
        let told = read("otlp_endpoint = 'http://me:hunter2@otel.example'").unwrap_err();
        assert!(told.contains("otlp_endpoint") && !told.contains("hunter2"), "{told}");
        assert!(read("otlp_endpoint = 'http://a'\nsamples = 1").is_err());
        assert!(read("sample = 1").is_err(), "without a collector there is nothing to do");
    }
}
