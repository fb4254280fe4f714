//! Parts of the daemon that are made of the configuration and of files in the state directory.

use std::sync::Arc;

use rand_core::CryptoRng;

use super::StartError;
use crate::dataplane::authorize::sessions::Sessions;
use crate::dataplane::code::Code;
use crate::dataplane::config::Config;
use crate::dataplane::decide::session::seal::SealKeys;
use crate::dataplane::faces::upstream_identity::UpstreamIdentity;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::identity::{
    Absent, IdentityError, make_decryption_key, make_node_key, read_decryption_key, read_node_key,
    read_public_key,
};
use crate::dataplane::node::session_key::{make_session_key, read_session_keys};
use crate::dataplane::node::state::Live;
use crate::platform::clock::Clock;
use crate::protocol::environment::key::DecryptionKey;
use crate::protocol::time::Time;

/// Returns the key to which environment variables are encrypted for this node. Creates it if it is missing: the node states
/// the new one, and is given the variables anew.
pub(super) fn decryption_key(
    config: &Config,
    rng: &mut dyn CryptoRng,
) -> Result<Arc<DecryptionKey>, StartError> {
    let path = config.encryption_key_file();
    let key = match read_decryption_key(&path)? {
        Some(key) => key,
        None => make_decryption_key(&path, rng)?,
    };
    Ok(Arc::new(key))
}

/// Returns the code of deployments on this host.
pub(super) fn code_of(
    config: &Config,
    prover: &Arc<Prover>,
    live: &Arc<Live>,
    rng: &mut dyn CryptoRng,
) -> Code {
    let mut seed = [0; 16];
    rng.fill_bytes(&mut seed);
    Code::new(config.code_directory(), config.code.keep.into(), Arc::clone(prover), Arc::clone(live), seed)
}

/// Returns the part that opens sessions, if any are configured.
pub(super) fn sessions(
    config: &Config,
    live: &Arc<Live>,
    now: Time,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Arc<Sessions>>, StartError> {
    let (Some(wanted), Some((path, absent))) = (&config.sessions, config.session_key_file()) else {
        return Ok(None);
    };
    let keys = match read_session_keys(&path, absent)? {
        Some(keys) => keys,
        None => vec![make_session_key(&path, rng)?],
    };
    let keys = SealKeys::new(&keys).ok_or(IdentityError::SessionKeys(path))?;
    Ok(Some(Arc::new(Sessions::new(keys, wanted.durations(), live, (&config.state_dir, now), rng))))
}

/// Returns the part that mints identities for upstreams, and writes its key where they read it.
pub(super) fn upstream_identity(
    config: &Config,
    clock: &Clock,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Arc<UpstreamIdentity>>, StartError> {
    let (Some(wanted), Some(key_file)) = (&config.upstream_identity, config.upstream_key_file()) else {
        return Ok(None);
    };
    let key = match read_node_key(&key_file, Absent::Make)? {
        Some(key) => key,
        None => make_node_key(&key_file, rng)?,
    };
    // A key that can't be read concerns one Airflow's workers. It must not prevent a start in an outage; check-config refuses it.
    let airflow_keys = wanted.airflow_keys.iter().filter_map(|path| {
        let read = read_public_key(path);
        read.inspect_err(|error| tracing::error!(%error, "an Airflow's key is missing in the JWK set")).ok()
    });
    let airflow_keys = airflow_keys.collect();
    let identity = UpstreamIdentity::new(key, wanted.clone(), Arc::clone(clock)).beside(airflow_keys);
    let path = wanted.jwks_file.clone().unwrap_or_else(|| config.state_dir.join("jwks.json"));
    identity.write_jwks(&path).map_err(|source| IdentityError::File { path, source })?;
    Ok(Some(Arc::new(identity)))
}
