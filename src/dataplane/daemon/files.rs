//! Files that a start reads. `check-config` reads them with the same functions, so that it refuses what a start would refuse.

use std::sync::Arc;

use super::StartError;
use crate::dataplane::config::Config;
use crate::dataplane::decide::routes::RouteMaps;
use crate::dataplane::faces::gateway;
use crate::dataplane::node::identity::{
    Absent, Identity, IdentityError, read_decryption_key, read_node_key, read_public_key, readable_roots,
};
use crate::dataplane::node::session_key::{SessionKey, read_session_keys};
use crate::dataplane::observe::traces;
use crate::dataplane::uplink::client::{Patience, Upstream};
use crate::protocol::environment::key::DecryptionKey;
use crate::protocol::key::{PublicKey, SigningKey};
use crate::protocol::keyset::RootSet;

/// Files outside of the state directory, which are read before the first write.
pub(super) struct ConfiguredFiles {
    /// Settings of the configuration file, with which those of a reload are compared.
    pub(super) table: toml::Table,
    /// Root keys that the node trusts.
    pub(super) roots: RootSet,
    /// Faults of other root keys, without which a start goes on.
    pub(super) unreadable_roots: Vec<IdentityError>,
    /// Route maps of the host.
    pub(super) routes: RouteMaps,
    /// Client of the control plane, with its certificate authorities.
    pub(super) upstream: Arc<Upstream>,
    /// Keys with which Airflow signs its own tokens.
    pub(super) airflow_keys: Vec<PublicKey>,
    /// Faults of other keys of Airflow. Each concerns one Airflow's workers, and must not prevent a start in an outage.
    pub(super) unreadable_airflow_keys: Vec<IdentityError>,
}

impl ConfiguredFiles {
    /// Reads the files that the configuration names.
    pub(super) fn read(config: &Config) -> Result<Self, StartError> {
        let (roots, unreadable_roots) = readable_roots(&config.trust.root_keys, config.trust.threshold)?;
        let routes = config.route_maps()?;
        let table = config.file.as_deref().map(Config::table).transpose()?.unwrap_or_default();
        if cfg!(not(feature = "grpc")) && !config.listen.grpc.is_empty() {
            return Err(StartError::NoGrpc);
        }
        // Both read their files again when they start, since these may have been replaced meanwhile.
        config.gateway.as_ref().map_or(Ok(()), gateway::check)?;
        config.tracing.as_ref().map_or(Ok(()), traces::check)?;
        let upstream = way_up(config)?;
        let (mut airflow_keys, mut unreadable_airflow_keys) = (Vec::new(), Vec::new());
        for path in config.upstream_identity.iter().flat_map(|identity| &identity.airflow_keys) {
            match read_public_key(path) {
                Ok(key) => airflow_keys.push(key),
                Err(fault) => unreadable_airflow_keys.push(fault),
            }
        }
        Ok(Self { table, roots, unreadable_roots, routes, upstream, airflow_keys, unreadable_airflow_keys })
    }
}

/// Identity and keys of the node. A start makes those that are missing and may be made.
pub(super) struct NodeFiles {
    /// Identity from the enrolment.
    pub(super) identity: Option<Identity>,
    /// Key of the node.
    pub(super) key: Option<SigningKey>,
    /// Key to which environment variables are encrypted.
    pub(super) decryption_key: Option<DecryptionKey>,
    /// Key that signs identities for upstreams, if upstreams get one.
    pub(super) upstream_key: Option<SigningKey>,
    /// Keys that seal sessions, if there are sessions.
    pub(super) session_keys: Option<Vec<SessionKey>>,
}

impl NodeFiles {
    /// Reads the files. A start holds the state directory by then: another daemon may be about to make them.
    pub(super) fn read(config: &Config) -> Result<Self, StartError> {
        let identity = Identity::read(&config.identity_file())?;
        let key = read_node_key(&config.key_file(), config.absent_key(identity.is_some()))?;
        let decryption_key = read_decryption_key(&config.encryption_key_file())?;
        let upstream_key =
            config.upstream_key_file().map(|path| read_node_key(&path, Absent::Make)).transpose()?.flatten();
        let session_keys =
            config.session_key_file().map(|(path, absent)| read_session_keys(&path, absent)).transpose()?;
        Ok(Self { identity, key, decryption_key, upstream_key, session_keys: session_keys.flatten() })
    }
}

/// Reads everything that a start would read, and starts and writes nothing. It is stricter than a start, which may have to
/// come in an outage: it also refuses what a start would leave out.
pub fn check_files(config: &Config) -> Result<(), StartError> {
    let ConfiguredFiles { unreadable_roots, unreadable_airflow_keys, .. } = ConfiguredFiles::read(config)?;
    NodeFiles::read(config)?;
    let fault = unreadable_roots.into_iter().chain(unreadable_airflow_keys).next();
    fault.map_or(Ok(()), |fault| Err(fault.into()))
}

/// Creates the client of the control plane.
fn way_up(config: &Config) -> Result<Arc<Upstream>, StartError> {
    let (urls, ca_file) = (config.control_plane.urls.clone(), config.control_plane.ca_file.as_deref());
    let upstream = Upstream::new(urls, ca_file, config.state_dir.clone(), Patience::default());
    upstream.map(Arc::new).map_err(StartError::Upstream)
}
