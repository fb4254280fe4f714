//! Configuration file of the daemon (TOML). Unknown keys are rejected, since a misspelt limit would limit nothing.

mod bounds;
mod network;
mod paths;
mod staleness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use self::bounds::BOUNDS;
pub use self::network::{Listen, Peers, Proxies};
pub use self::staleness::StalenessConfig;

use super::audit::{Retention, WhenFull};
use super::glass::Hysteresis;
use crate::dataplane::decide::routes::{MapsError, RouteMaps};
use crate::dataplane::decide::session::Durations;
use crate::dataplane::decide::staleness::Staleness;
use crate::dataplane::faces::gateway::config::GatewayConfig;
use crate::dataplane::faces::upstream_identity::UpstreamIdentityConfig;
use crate::dataplane::observe::traces::config::TracingConfig;
use crate::platform::configuration::{
    self, Bound, ConfigError, Configuration, Wrong, check_hosts, check_listeners,
};
use crate::platform::net::origin::keeps_secrets;
use crate::platform::text::{NAME_RULE, is_name};

/// The complete configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory of the databases, the node's key and its identity.
    pub state_dir: PathBuf,
    /// Root keys that the node trusts.
    pub trust: Trust,
    /// Addresses of the control plane.
    pub control_plane: ControlPlane,
    /// Name and key of this node.
    #[serde(default)]
    pub node: Node,
    /// Addresses to listen on, besides the sockets that systemd passes.
    #[serde(default)]
    pub listen: Listen,
    /// Proxies whose headers are trusted.
    #[serde(default)]
    pub proxies: Proxies,
    /// Limits of the replica's age.
    #[serde(default)]
    pub staleness: StalenessConfig,
    /// Route maps besides the built-in ones.
    #[serde(default)]
    pub routes: Routes,
    /// Limits of outages and of broken glass.
    #[serde(default)]
    pub glass: GlassConfig,
    /// Introspection of standard tokens.
    #[serde(default)]
    pub introspection: IntrospectionConfig,
    /// Other nodes of the data plane.
    #[serde(default)]
    pub peers: Peers,
    /// Limits of the audit log.
    #[serde(default)]
    pub audit: Audit,
    /// Users that may administer.
    #[serde(default)]
    pub admin: Admin,
    /// Sessions of browsers, or `None` if nobody can sign in.
    pub sessions: Option<SessionsConfig>,
    /// Environment variables of deployments.
    #[serde(default)]
    pub environment: EnvironmentConfig,
    /// Code of deployments.
    #[serde(default)]
    pub code: CodeConfig,
    /// Identity for upstreams, or `None` if upstreams get none.
    pub upstream_identity: Option<UpstreamIdentityConfig>,
    /// The daemon as a reverse proxy, or `None` if it only answers other proxies.
    pub gateway: Option<GatewayConfig>,
    /// Export of decisions as spans, or `None` if they are not exported.
    pub tracing: Option<TracingConfig>,
    /// File from which the configuration was read.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// Root keys that the node trusts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Directory of root public keys (`*.pem`).
    pub root_keys: PathBuf,
    /// Number of roots that must have signed the first keyset.
    #[serde(default = "one")]
    pub threshold: u32,
}

/// Addresses of the control plane, and access to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlPlane {
    /// Base URLs, tried in turn.
    pub urls: Vec<String>,
    /// Certificate authorities (PEM), or `None` for the system's.
    pub ca_file: Option<PathBuf>,
    /// File with the one-time enrolment token, needed while the node has no identity.
    pub enrolment_token_file: Option<PathBuf>,
}

/// Name and key of the node.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Name of the node, for display.
    pub name: Option<String>,
    /// Private key. The default is `node.pem` in the state directory, which the first start creates.
    pub key_file: Option<PathBuf>,
}

/// Route maps of the host.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Routes {
    /// Directory in which `NAME.toml` is the map of the deployments that name it.
    pub directory: Option<PathBuf>,
}

/// Limits of outages and of broken glass.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GlassConfig {
    /// Consecutive seconds without the control plane after which it counts as an outage.
    pub outage_after_seconds: u32,
    /// Consecutive seconds with the control plane after which the outage counts as over.
    pub restored_after_seconds: u32,
    /// Maximum duration of broken glass, in seconds.
    pub max_break_seconds: u32,
}

impl Default for GlassConfig {
    fn default() -> Self {
        Self { outage_after_seconds: 30, restored_after_seconds: 60, max_break_seconds: 24 * 3600 }
    }
}

impl GlassConfig {
    /// Returns the limits by which an outage is judged.
    #[must_use]
    pub fn limits(&self) -> Hysteresis {
        let seconds = |seconds| Duration::from_secs(u64::from(seconds));
        Hysteresis { down: seconds(self.outage_after_seconds), up: seconds(self.restored_after_seconds) }
    }
}

/// Introspection of standard tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntrospectionConfig {
    /// Maximum number of seconds for which an answer is reused. With 0, every request asks.
    pub cache_seconds: u64,
    /// Time limit for an answer, in milliseconds.
    pub timeout_milliseconds: u64,
}

impl Default for IntrospectionConfig {
    fn default() -> Self {
        Self { cache_seconds: 30, timeout_milliseconds: 2000 }
    }
}

/// Limits of the audit log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Maximum number of events that wait to be written, one KiB each. Beyond it, requests are denied.
    pub max_queue: usize,
    /// Requests that are denied while the log cannot be written: `deny-mutating` or `deny-all`.
    pub when_full: WhenFull,
    /// Days for which events are kept; 0 for no limit. Events that were not uploaded stay.
    pub retain_days: u32,
    /// Size of the log in bytes beyond which its oldest events are dropped; 0 for no limit. Events that were not uploaded stay.
    pub max_bytes: u64,
}

impl Default for Audit {
    /// Returns limits of a little more than a year and 4 GiB.
    fn default() -> Self {
        Self { max_queue: 65_536, when_full: WhenFull::default(), retain_days: 400, max_bytes: 4 << 30 }
    }
}

impl Audit {
    /// Returns the limits for retention.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention {
            seconds: (self.retain_days > 0).then_some(i64::from(self.retain_days) * 86_400),
            bytes: (self.max_bytes > 0).then_some(self.max_bytes),
        }
    }
}

/// Users that may use the admin socket, besides root and the daemon's own user.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Numeric ids of the allowed users.
    #[serde(default)]
    pub allow_uids: Vec<u32>,
}

/// Environment variables of deployments.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentConfig {
    /// Directory of the files that systemd reads. The default is `environment` in the state directory.
    pub directory: Option<PathBuf>,
}

/// Code of deployments.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodeConfig {
    /// Directory of the archives and of what is unpacked. The default is `code` in the state directory.
    pub directory: Option<PathBuf>,
    /// Number of archives that are kept unpacked for each deployment.
    pub keep: u8,
}

impl Default for CodeConfig {
    fn default() -> Self {
        Self { directory: None, keep: 3 }
    }
}

/// Sessions of browsers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsConfig {
    /// Seconds after sign-in at which a session ends.
    pub max_seconds: i64,
    /// Seconds without a request after which a session ends.
    pub idle_seconds: i64,
    /// File of the keys that seal cookies. The default is `session.key` in the state directory, which the first start
    /// creates.
    pub key_file: Option<PathBuf>,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        Self { max_seconds: 8 * 3600, idle_seconds: 3600, key_file: None }
    }
}

impl SessionsConfig {
    /// Returns how long sessions last.
    #[must_use]
    pub fn durations(&self) -> Durations {
        Durations { max: self.max_seconds, idle: self.idle_seconds }
    }
}

fn one() -> u32 {
    1
}

impl Configuration for Config {
    const BOUNDS: &'static [Bound] = &BOUNDS;

    fn check(&self) -> Result<(), Wrong> {
        self.staleness.check()?;
        let wrong = |key: &str, what: String| Err(Wrong { key: key.into(), what });
        let urls = &self.control_plane.urls;
        if urls.is_empty() {
            return wrong(
                "control_plane.urls",
                "name at least one; this host could neither enrol nor follow its replica".into(),
            );
        }
        // The node sends its proofs, and tokens for introspection, to these URLs, and appends paths to them.
        if let Some(url) = urls.iter().find(|url| !keeps_secrets(url) || url.contains(['?', '#'])) {
            let what = "write https://HOST:PORT, or http:// on loopback, with a port from 1 to 65535 and without a query; tokens would \
                        go elsewhere, or in the clear";
            return wrong("control_plane.urls", format!("{url:?}: {what}"));
        }
        if let Some(name) = self.node.name.as_ref().filter(|name| !is_name(name)) {
            return wrong("node.name", format!("{name:?}: {NAME_RULE}"));
        }
        let mut seen = BTreeMap::new();
        let behind = self.gateway.iter().flat_map(|gateway| &gateway.deployments);
        for (id, deployment) in behind {
            check_hosts(&deployment.hosts, &format!("gateway.deployments.{id}.hosts"), &mut seen)?;
        }
        let gateway = self.gateway.as_ref().map_or(&[][..], |gateway| &gateway.listen);
        check_listeners(&[
            ("listen.http", &self.listen.http),
            ("listen.grpc", &self.listen.grpc),
            ("peers.listen", &self.peers.listen),
            ("gateway.listen", gateway),
        ])?;
        self.check_files_are_apart()
    }
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = configuration::read(path)?;
        Ok(Self { file: Some(path.into()), ..config })
    }

    /// Returns the keys and values of a configuration file, unchecked.
    pub fn table(path: &Path) -> Result<toml::Table, ConfigError> {
        configuration::read(path)
    }

    /// Returns the staleness policy.
    #[must_use]
    pub fn staleness(&self) -> Staleness {
        self.staleness.policy()
    }

    /// Reads the route maps of this host.
    pub fn route_maps(&self) -> Result<RouteMaps, MapsError> {
        self.routes.directory.as_deref().map_or_else(|| Ok(RouteMaps::default()), RouteMaps::read)
    }
}
