//! The daemon's configuration file (TOML). Unknown keys are refused: a misspelt limit is no limit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::bounds::BOUNDS;

use super::audit::{Retention, WhenFull};
use super::gateway::config::GatewayConfig;
use super::glass::Hysteresis;
use super::identity::Absent;
use super::routes::{MapsError, RouteMaps};
use super::staleness::{AtLimit, Staleness};
use super::traces::config::TracingConfig;
use crate::configuration::{self, Bound, ConfigError, Configuration, Wrong, check_hosts};
use crate::net::origin::keeps_secrets;
use crate::protocol::id::{DeploymentId, is_id};
use crate::protocol::role::{built_in, is_reserved};

/// All of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the replica, the audit log, the node's key and its identity are kept.
    pub state_dir: PathBuf,
    /// What is believed.
    pub trust: Trust,
    /// Where the control plane is.
    pub control_plane: ControlPlane,
    /// What this node is called.
    #[serde(default)]
    pub node: Node,
    /// Where it listens, besides the sockets systemd hands over.
    #[serde(default)]
    pub listen: Listen,
    /// Whose headers are believed.
    #[serde(default)]
    pub proxies: Proxies,
    /// How old the replica may be.
    #[serde(default)]
    pub staleness: StalenessConfig,
    /// Route maps beside those that are built in.
    #[serde(default)]
    pub routes: Routes,
    /// The glass before deployments that are kept under it.
    #[serde(default)]
    pub glass: GlassConfig,
    /// How standard tokens are asked about.
    #[serde(default)]
    pub introspection: IntrospectionConfig,
    /// The other nodes of the data plane.
    #[serde(default)]
    pub peers: Peers,
    /// The audit log.
    #[serde(default)]
    pub audit: Audit,
    /// Who may administer.
    #[serde(default)]
    pub admin: Admin,
    /// What the node vouches for towards upstreams; without it, nothing.
    pub upstream_identity: Option<UpstreamIdentityConfig>,
    /// The daemon as the reverse proxy itself; without it, it answers the proxies of others.
    pub gateway: Option<GatewayConfig>,
    /// Where decisions are told as spans; without it, nowhere.
    pub tracing: Option<TracingConfig>,
    /// The file it was read from.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// The pinned roots.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// A directory of root public keys (`*.pem`).
    pub root_keys: PathBuf,
    /// How many of them must have signed the first keyset.
    #[serde(default = "one")]
    pub threshold: u32,
}

/// The control plane.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlPlane {
    /// Its addresses, tried in turn.
    pub urls: Vec<String>,
    /// Certificate authorities (PEM); without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// A file with the one-time enrolment token, needed while the node has no identity.
    pub enrolment_token_file: Option<PathBuf>,
}

/// The node.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name, for people.
    pub name: Option<String>,
    /// Its private key; made on first start when it is the default, `node.pem` in the state directory.
    pub key_file: Option<PathBuf>,
}

/// The listeners.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Addresses for proxies, health and metrics.
    pub http: Vec<SocketAddr>,
    /// Addresses for Envoy's ext_authz over gRPC.
    #[serde(default)]
    pub grpc: Vec<SocketAddr>,
    /// The Unix socket for administration on this host.
    pub admin_socket: PathBuf,
    /// How many threads answer at `http`; see [`Listen::workers`].
    pub workers: Option<NonZeroU16>,
}

impl Default for Listen {
    fn default() -> Self {
        let admin_socket = PathBuf::from("/run/halligan/admin.sock");
        Self { http: Vec::new(), grpc: Vec::new(), admin_socket, workers: None }
    }
}

impl Listen {
    /// How many threads answer at `http`. Unless it is said, one for every two cores: the proxy that asks works on the same
    /// host, and has at least as much to do for a request. With as many threads as cores, one that waits behind the proxy keeps
    /// its connections waiting, though another core is free.
    #[must_use]
    pub fn workers(&self) -> NonZeroU16 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let half = u16::try_from(cores / 2).ok().and_then(NonZeroU16::new);
        self.workers.or(half).unwrap_or(NonZeroU16::MIN)
    }
}

/// The proxies in front.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxies {
    /// Networks whose headers say what the original request was.
    pub trusted: Vec<IpNet>,
    /// Whether the proxy passes 429 and 503 on. nginx makes 500 of them: without this they are answered as 403.
    pub pass_status: bool,
}

impl Default for Proxies {
    fn default() -> Self {
        let loopback = [
            IpNet::new_assert([127, 0, 0, 0].into(), 8),
            IpNet::new_assert([0_u16, 0, 0, 0, 0, 0, 0, 1].into(), 128),
        ];
        Self { trusted: loopback.into(), pass_status: false }
    }
}

/// Limits of age, in seconds since the head was signed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StalenessConfig {
    /// For roles that are not named.
    pub default_seconds: i64,
    /// By the name of a built-in role; `DEPLOYMENT_ADMIN` has a day, if it is not named.
    pub roles: BTreeMap<String, i64>,
    /// By the name of a custom role, which only the control plane knows.
    pub custom_roles: BTreeMap<String, i64>,
    /// What happens at the limit: `deny`, or `allow` with an alarm.
    pub at_limit: AtLimit,
}

impl Default for StalenessConfig {
    fn default() -> Self {
        let Staleness { default, roles, at_limit } = Staleness::default();
        Self { default_seconds: default, roles, custom_roles: BTreeMap::new(), at_limit }
    }
}

impl StalenessConfig {
    /// The policy.
    #[must_use]
    pub fn policy(&self) -> Staleness {
        let named = self.roles.iter().chain(&self.custom_roles);
        let roles = named.map(|(role, seconds)| (role.clone(), *seconds)).collect();
        Staleness { default: self.default_seconds, roles, at_limit: self.at_limit }
    }

    /// Checks the names of roles: one that no role has limits nothing, and its author believes that it does.
    fn check(&self) -> Result<(), Wrong> {
        let known: Vec<String> = built_in().into_iter().map(|role| role.name).collect();
        let wrong =
            |table: &str, role: &str, what: String| Wrong { key: format!("staleness.{table}.{role}"), what };
        if let Some(role) = self.roles.keys().find(|role| !known.contains(role)) {
            let what = format!(
                "no built-in role has this name; those are {}. The limit of a custom role stands in staleness.custom_roles",
                known.join(", ")
            );
            return Err(wrong("roles", role, what));
        }
        for role in self.custom_roles.keys() {
            if known.iter().any(|known| known.eq_ignore_ascii_case(role)) {
                return Err(wrong(
                    "custom_roles",
                    role,
                    "this is a built-in role; name it in staleness.roles".into(),
                ));
            }
            if !is_id(role) || is_reserved(role) {
                return Err(wrong("custom_roles", role, "no custom role can have this name".into()));
            }
        }
        Ok(())
    }
}

/// Route maps.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Routes {
    /// A directory of them: `NAME.toml` is the map of the deployments that name it.
    pub directory: Option<PathBuf>,
}

/// Glass: how an outage is judged, and how long a break may last.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GlassConfig {
    /// How long the control plane must be gone, without a break, until that counts as an outage.
    pub outage_after_seconds: u32,
    /// How long it must be back, without a break, until the outage counts as over.
    pub restored_after_seconds: u32,
    /// For how long an operator may break glass at most.
    pub max_break_seconds: u32,
}

impl Default for GlassConfig {
    fn default() -> Self {
        Self { outage_after_seconds: 30, restored_after_seconds: 60, max_break_seconds: 24 * 3600 }
    }
}

impl GlassConfig {
    /// How an outage is judged.
    #[must_use]
    pub fn limits(&self) -> Hysteresis {
        let seconds = |seconds| Duration::from_secs(u64::from(seconds));
        Hysteresis { down: seconds(self.outage_after_seconds), up: seconds(self.restored_after_seconds) }
    }
}

/// How standard tokens are asked about.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntrospectionConfig {
    /// How long an answer is good for at most, in seconds; 0: every request is asked about.
    pub cache_seconds: u64,
    /// How long an answer is waited for, in milliseconds.
    pub timeout_milliseconds: u64,
}

impl Default for IntrospectionConfig {
    fn default() -> Self {
        Self { cache_seconds: 30, timeout_milliseconds: 2000 }
    }
}

/// The audit log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Events that may wait to be written, a KiB for each; above it, requests are denied.
    pub max_queue: usize,
    /// What is denied while the log can't be written: `deny-mutating` or `deny-all`.
    pub when_full: WhenFull,
    /// For how many days events are kept; 0: without end. What the control plane has not taken in stays.
    pub retain_days: u32,
    /// How large the log may grow before its oldest events are dropped, in bytes; 0: without end. What the control plane
    /// has not taken in stays.
    pub max_bytes: u64,
}

impl Default for Audit {
    /// A little more than a year, and 4 GiB.
    fn default() -> Self {
        Self { max_queue: 65_536, when_full: WhenFull::default(), retain_days: 400, max_bytes: 4 << 30 }
    }
}

impl Audit {
    /// How much of the log is kept.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention {
            seconds: (self.retain_days > 0).then_some(i64::from(self.retain_days) * 86_400),
            bytes: (self.max_bytes > 0).then_some(self.max_bytes),
        }
    }
}

/// The other nodes, for when the control plane can't be reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peers {
    /// Addresses this node answers its peers on; without one, it only asks.
    pub listen: Vec<SocketAddr>,
    /// Where its peers answer, at most 64. What is revoked here goes to them at once.
    #[serde(deserialize_with = "peer_urls")]
    pub urls: Vec<String>,
    /// Seconds between two comparisons with each peer.
    pub interval_seconds: u64,
}

impl Default for Peers {
    fn default() -> Self {
        Self { listen: Vec::new(), urls: Vec::new(), interval_seconds: 5 }
    }
}

fn peer_urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let urls = Vec::<String>::deserialize(deserializer)?;
    if urls.len() > 64 {
        return Err(D::Error::custom("name at most 64 peers; revocations pass on from one to the next"));
    }
    let odd = urls.iter().find(|url| !url.starts_with("http://") && !url.starts_with("https://"));
    odd.map_or(Ok(()), |url| Err(D::Error::custom(format!("{url:?} is no http:// or https:// URL"))))?;
    Ok(urls)
}

/// Who may use the admin socket, besides root and the daemon's own user.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// User ids.
    #[serde(default)]
    pub allow_uids: Vec<u32>,
}

/// The identity an upstream gets in place of the caller's token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamIdentityConfig {
    /// Whom it is for: Airflow's `[api_auth] jwt_audience`.
    pub audience: String,
    /// How long it holds, in seconds: more than the minute it is used again for, and an hour at most.
    pub lifetime_seconds: i64,
    /// Its private key; made on first start when it is the default, `airflow.pem` in the state directory.
    pub key_file: Option<PathBuf>,
    /// Where the JWK set is written for the upstream; `jwks.json` in the state directory when it is not named.
    pub jwks_file: Option<PathBuf>,
    /// The deployments that get one; all of them when none is named.
    pub deployments: BTreeMap<DeploymentId, DeploymentIdentity>,
}

/// What is different for one deployment.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct DeploymentIdentity {
    /// An audience of its own, so that what one upstream got is worth nothing at another.
    pub audience: Option<String>,
}

impl Default for UpstreamIdentityConfig {
    fn default() -> Self {
        Self {
            audience: "apache-airflow".into(),
            lifetime_seconds: 120,
            key_file: None,
            jwks_file: None,
            deployments: BTreeMap::new(),
        }
    }
}

impl UpstreamIdentityConfig {
    /// Whom an identity for this deployment is for; `None` when it gets none.
    #[must_use]
    pub fn audience(&self, deployment: &DeploymentId) -> Option<&str> {
        if self.deployments.is_empty() {
            return Some(&self.audience);
        }
        let named = self.deployments.get(deployment)?;
        Some(named.audience.as_ref().unwrap_or(&self.audience))
    }
}

fn one() -> u32 {
    1
}

impl Configuration for Config {
    const BOUNDS: &'static [Bound] = &BOUNDS;

    fn check(&self) -> Result<(), Wrong> {
        self.staleness.check()?;
        // The node's proofs, and the tokens it asks about, go there.
        if let Some(url) = self.control_plane.urls.iter().find(|url| !keeps_secrets(url)) {
            let what = format!(
                "{url:?} is not https:// (or http:// on loopback): tokens would go there in the clear"
            );
            return Err(Wrong { key: "control_plane.urls".into(), what });
        }
        let mut seen = BTreeMap::new();
        let behind = self.gateway.iter().flat_map(|gateway| &gateway.deployments);
        for (id, deployment) in behind {
            check_hosts(&deployment.hosts, &format!("gateway.deployments.{id}.hosts"), &mut seen)?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = configuration::read(path)?;
        Ok(Self { file: Some(path.into()), ..config })
    }

    /// The keys and values of a configuration file, without what they mean.
    pub fn table(path: &Path) -> Result<toml::Table, ConfigError> {
        configuration::read(path)
    }

    /// How old the replica may be.
    #[must_use]
    pub fn staleness(&self) -> Staleness {
        self.staleness.policy()
    }

    /// What to do where the node's key is not there.
    #[must_use]
    pub fn absent_key(&self, enrolled: bool) -> Absent {
        if enrolled || self.node.key_file.is_some() { Absent::Refuse } else { Absent::Make }
    }

    /// The route maps of this host.
    pub fn route_maps(&self) -> Result<RouteMaps, MapsError> {
        self.routes.directory.as_deref().map_or_else(|| Ok(RouteMaps::default()), RouteMaps::read)
    }

    /// Takes what the service manager hands over as a credential where the file names nothing itself.
    #[must_use]
    pub fn with_credentials(mut self, credential: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let fill = |named: &mut Option<PathBuf>, name| *named = named.take().or_else(|| credential(name));
        fill(&mut self.control_plane.enrolment_token_file, "halligan.enrolment-token");
        fill(&mut self.control_plane.ca_file, "halligan.ca");
        fill(&mut self.node.key_file, "halligan.node-key");
        self
    }

    /// The node's key file.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.node.key_file.clone().unwrap_or_else(|| self.state_dir.join("node.pem"))
    }

    /// The key file of the upstream identity, where there is to be one.
    #[must_use]
    pub fn upstream_key_file(&self) -> Option<PathBuf> {
        let identity = self.upstream_identity.as_ref()?;
        Some(identity.key_file.clone().unwrap_or_else(|| self.state_dir.join("airflow.pem")))
    }
}
