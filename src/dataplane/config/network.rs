//! Sections about the network: where the daemon listens, the proxies in front of it, and its peers.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::platform::net::network;
use crate::platform::net::origin::host_of;

/// Addresses to listen on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Addresses for proxies, health checks and metrics.
    pub http: Vec<SocketAddr>,
    /// Addresses for Envoy's ext_authz over gRPC.
    #[serde(default)]
    pub grpc: Vec<SocketAddr>,
    /// Path of the Unix socket for administration on this host.
    pub admin_socket: PathBuf,
    /// Number of threads that answer at `http`; see [`Listen::workers`].
    pub workers: Option<NonZeroU16>,
    /// Maximum number of connections at a time of one client at `http`, and of one at `grpc`, except trusted proxies. The
    /// default is a quarter of the connections that others leave.
    pub connections_per_client: Option<u32>,
}

impl Default for Listen {
    fn default() -> Self {
        let admin_socket = PathBuf::from("/run/halligan/admin.sock");
        Self { http: Vec::new(), grpc: Vec::new(), admin_socket, workers: None, connections_per_client: None }
    }
}

impl Listen {
    /// Returns the number of threads that answer at `http`. The default is one for every two cores: the proxy runs on the
    /// same host and needs at least as much time for a request. With as many threads as cores, a thread that waits behind
    /// the proxy delays its connections while another core is idle.
    #[must_use]
    pub fn workers(&self) -> NonZeroU16 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let half = u16::try_from(cores / 2).ok().and_then(NonZeroU16::new);
        self.workers.or(half).unwrap_or(NonZeroU16::MIN)
    }
}

/// Proxies in front of the daemon.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxies {
    /// Networks from which headers about the original request are trusted.
    #[serde(deserialize_with = "network::list")]
    pub trusted: Vec<IpNet>,
    /// True if the proxy passes 429 and 503 on. nginx turns them into 500, so the default sends 403 instead.
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

/// Other nodes of the data plane, for outages of the control plane.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peers {
    /// Addresses on which this node answers its peers. If empty, it only calls them.
    pub listen: Vec<SocketAddr>,
    /// Base URLs of its peers, at most 64. Local revocations are pushed to them at once.
    #[serde(deserialize_with = "peer_urls")]
    pub urls: Vec<String>,
    /// Seconds between two comparisons with each peer.
    pub interval_seconds: u64,
    /// Maximum number of connections at a time of one client, except on this host. The default is a quarter of the
    /// connections that others leave.
    pub connections_per_client: Option<u32>,
}

impl Default for Peers {
    fn default() -> Self {
        Self { listen: Vec::new(), urls: Vec::new(), interval_seconds: 5, connections_per_client: None }
    }
}

fn peer_urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let urls = Vec::<String>::deserialize(deserializer)?;
    if urls.len() > 64 {
        return Err(D::Error::custom("name at most 64 peers; revocations pass on from one to the next"));
    }
    let bare = |url: &String| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        rest.is_some_and(|rest| host_of(rest.strip_suffix('/').unwrap_or(rest)).is_some())
    };
    if let Some(odd) = urls.iter().find(|url| !bare(url)) {
        let what = "is no http:// or https:// URL of a host with a port from 1 to 65535, without a path";
        return Err(D::Error::custom(format!("{odd:?} {what}")));
    }
    Ok(urls)
}
