//! Files that a start reads. `check-config` reads them with the same functions, so that it rejects every file that a start
//! rejects.

use std::io::ErrorKind;
use std::sync::Arc;

use super::{StartError, admin};
use crate::dataplane::config::Config;
use crate::dataplane::decide::routes::RouteMaps;
use crate::dataplane::faces::gateway;
use crate::dataplane::node::identity::{
    Absent, Identity, IdentityError, read_decryption_key, read_node_key, read_public_key, readable_roots,
};
use crate::dataplane::node::session_key::{SessionKey, read_session_keys};
use crate::dataplane::observe::traces;
use crate::dataplane::replica::store::seen::seen_file;
use crate::dataplane::uplink::client::{Patience, Upstream};
use crate::platform::certificate::{self, CertificateError};
use crate::platform::state_directory;
use crate::protocol::ends::{End, EndKind};
use crate::protocol::environment::key::DecryptionKey;
use crate::protocol::key::{PublicKey, SigningKey};
use crate::protocol::keyset::{Keyset, RootSet};
use crate::protocol::time::Time;

/// Content of the files outside of the state directory. They are read before the first write.
pub(super) struct ConfiguredFiles {
    /// Settings of the configuration file. A reload compares its settings with these.
    pub(super) table: toml::Table,
    /// Root keys that the node trusts.
    pub(super) roots: RootSet,
    /// Faults of unreadable root keys. They do not prevent a start as long as enough other root keys are valid.
    pub(super) unreadable_roots: Vec<IdentityError>,
    /// Route maps of the host.
    pub(super) routes: RouteMaps,
    /// Client of the control plane, with its certificate authorities.
    pub(super) upstream: Arc<Upstream>,
    /// Public keys that verify Airflow's own tokens.
    pub(super) airflow_keys: Vec<PublicKey>,
    /// Faults of unreadable keys of Airflow. Each concerns the workers of one Airflow, and must not prevent a start in an
    /// outage.
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
        // Only checks: the gateway and tracing read their files again when they start, since the files may be replaced until then.
        config.gateway.as_ref().map_or(Ok(()), gateway::check)?;
        config.tracing.as_ref().map_or(Ok(()), traces::check)?;
        let upstream = build_upstream(config)?;
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

/// Identity and keys of the node. A start creates missing keys where that is permitted.
pub(super) struct NodeFiles {
    /// Identity from the enrolment.
    pub(super) identity: Option<Identity>,
    /// Key of the node.
    pub(super) key: Option<SigningKey>,
    /// Key to which environment variables are encrypted.
    pub(super) decryption_key: Option<DecryptionKey>,
    /// Key that signs identities for upstreams, if the configuration has upstream identities.
    pub(super) upstream_key: Option<SigningKey>,
    /// Keys that seal sessions, if the configuration has sessions.
    pub(super) session_keys: Option<Vec<SessionKey>>,
}

impl NodeFiles {
    /// Reads the files. A start must hold the state directory before, since another daemon may be creating the files.
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

/// Reads every file that a start would read, but starts and writes nothing. It is stricter than a start, which must also succeed
/// in an outage: it also rejects files that a start would skip. Returns the expiry dates of the files.
pub fn check_files(config: &Config, now: Time) -> Result<ReadEnds, StartError> {
    let ConfiguredFiles { roots, unreadable_roots, unreadable_airflow_keys, .. } =
        ConfiguredFiles::read(config)?;
    state_directory::examine(&config.state_dir)?;
    NodeFiles::read(config)?;
    admin::examine(&config.listen.admin_socket).map_err(|source| StartError::Listen {
        address: config.listen.admin_socket.display().to_string(),
        source,
    })?;
    for (key, path) in [
        ("environment.directory", config.environment_directory()),
        ("code.directory", config.code_directory()),
    ] {
        if std::fs::metadata(&path).is_ok_and(|found| !found.is_dir()) {
            let what = format!("it is no directory; name another in {key}");
            let source = std::io::Error::new(ErrorKind::NotADirectory, what);
            return Err(IdentityError::File { path, source }.into());
        }
    }
    let fault = unreadable_roots.into_iter().chain(unreadable_airflow_keys).next();
    fault.map_or_else(|| Ok(ReadEnds::read(config, &roots, now)), |fault| Err(fault.into()))
}

/// Expiry dates of files.
#[derive(Debug, Default)]
pub struct ReadEnds {
    /// Expiry dates of certificates and of the newest keyset.
    pub ends: Vec<End>,
    /// Certificates whose expiry is unknown.
    pub unknown: Vec<CertificateError>,
}

impl ReadEnds {
    fn read(config: &Config, roots: &RootSet, now: Time) -> Self {
        let gateway = config.gateway.as_ref();
        let served = gateway.and_then(|gateway| gateway.tls.as_ref()).map(|tls| &tls.certificate_file);
        let authorities = [
            config.control_plane.ca_file.as_ref(),
            gateway.and_then(|gateway| gateway.ca_file.as_ref()),
            config.tracing.as_ref().and_then(|tracing| tracing.ca_file.as_ref()),
        ];
        let served = served.map(|path| certificate::end(path));
        let authorities =
            authorities.into_iter().flatten().map(|path| certificate::end_of_authorities(path, now));
        let mut read = Self::default();
        for end in served.into_iter().chain(authorities) {
            match end {
                Ok(end) => read.ends.push(end),
                Err(error) => read.unknown.push(error),
            }
        }
        // A host without a replica has no keysets yet. Keysets that the roots do not verify are not reported: a start moves them
        // aside.
        let seen =
            std::fs::read_to_string(seen_file(&config.state_dir.join("replica.db"))).unwrap_or_default();
        let chain: Vec<&str> = seen.lines().collect();
        let keyset = Keyset::verify_chain(&chain, roots).ok();
        read.ends.extend(keyset.map(|keyset| End {
            kind: EndKind::Keyset,
            name: keyset.version().to_string(),
            at: keyset.body().exp,
        }));
        read
    }
}

/// Creates the client of the control plane.
fn build_upstream(config: &Config) -> Result<Arc<Upstream>, StartError> {
    let (urls, ca_file) = (config.control_plane.urls.clone(), config.control_plane.ca_file.as_deref());
    let upstream = Upstream::new(urls, ca_file, config.state_dir.clone(), Patience::default());
    upstream.map(Arc::new).map_err(StartError::Upstream)
}
