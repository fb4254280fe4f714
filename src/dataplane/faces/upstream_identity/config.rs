//! Settings of the identity that an upstream gets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::protocol::id::DeploymentId;

/// Identity that an upstream gets in place of the caller's token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamIdentityConfig {
    /// Audience: Airflow's `[api_auth] jwt_audience`.
    pub audience: String,
    /// Lifetime in seconds: more than the minute for which an identity is reused, and at most an hour.
    pub lifetime_seconds: i64,
    /// Private key. The default is `airflow.pem` in the state directory, which the first start creates.
    pub key_file: Option<PathBuf>,
    /// File to which the JWK set is written for the upstream. The default is `jwks.json` in the state directory.
    pub jwks_file: Option<PathBuf>,
    /// Public keys (SPKI PEM) with which Airflows sign for their own workers. They join the JWK set: an Airflow accepts
    /// only keys of that set, also from its own workers.
    pub airflow_keys: Vec<PathBuf>,
    /// Deployments that get an identity; all if it is empty.
    pub deployments: BTreeMap<DeploymentId, DeploymentIdentity>,
}

/// Settings of one deployment.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct DeploymentIdentity {
    /// Audience of the deployment, so that an identity for one upstream is invalid at another.
    pub audience: Option<String>,
}

impl Default for UpstreamIdentityConfig {
    fn default() -> Self {
        Self {
            audience: "apache-airflow".into(),
            lifetime_seconds: 120,
            key_file: None,
            jwks_file: None,
            airflow_keys: Vec::new(),
            deployments: BTreeMap::new(),
        }
    }
}

impl UpstreamIdentityConfig {
    /// Returns the audience of identities for a deployment, or `None` if it gets none.
    #[must_use]
    pub fn audience(&self, deployment: &DeploymentId) -> Option<&str> {
        if self.deployments.is_empty() {
            return Some(&self.audience);
        }
        let named = self.deployments.get(deployment)?;
        Some(named.audience.as_ref().unwrap_or(&self.audience))
    }
}
