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
use crate::dataplane::node::identity::{IdentityError, make_decryption_key, make_node_key};
use crate::dataplane::node::session_key::{SessionKey, make_session_key};
use crate::dataplane::node::state::Live;
use crate::platform::clock::Clock;
use crate::protocol::environment::key::DecryptionKey;
use crate::protocol::key::{PublicKey, SigningKey};
use crate::protocol::time::Time;

/// Returns the key to which environment variables are encrypted for this node. Creates it if it is missing: the node states
/// the new one, and is given the variables anew.
pub(super) fn decryption_key(
    config: &Config,
    known: Option<DecryptionKey>,
    rng: &mut dyn CryptoRng,
) -> Result<Arc<DecryptionKey>, StartError> {
    let key = match known {
        Some(key) => key,
        None => make_decryption_key(&config.encryption_key_file(), rng)?,
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

/// Returns the part that opens sessions, if any are configured. Creates a key if there is none.
pub(super) fn sessions(
    config: &Config,
    known: Option<Vec<SessionKey>>,
    live: &Arc<Live>,
    now: Time,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Arc<Sessions>>, StartError> {
    let (Some(wanted), Some((path, _))) = (&config.sessions, config.session_key_file()) else {
        return Ok(None);
    };
    let keys = match known {
        Some(keys) => keys,
        None => vec![make_session_key(&path, rng)?],
    };
    let keys = SealKeys::new(&keys).ok_or(IdentityError::SessionKeys(path))?;
    Ok(Some(Arc::new(Sessions::new(keys, wanted.durations(), live, (&config.state_dir, now), rng))))
}

/// Returns the part that mints identities for upstreams, and writes its key where they read it. Creates the key if there is
/// none.
pub(super) fn upstream_identity(
    config: &Config,
    known: Option<SigningKey>,
    airflow_keys: Vec<PublicKey>,
    clock: &Clock,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Arc<UpstreamIdentity>>, StartError> {
    let (Some(wanted), Some(key_file), Some(path)) =
        (&config.upstream_identity, config.upstream_key_file(), config.jwks_file())
    else {
        return Ok(None);
    };
    let key = match known {
        Some(key) => key,
        None => make_node_key(&key_file, rng)?,
    };
    let identity = UpstreamIdentity::new(key, wanted.clone(), Arc::clone(clock)).beside(airflow_keys);
    identity.write_jwks(&path).map_err(|source| IdentityError::File { path, source })?;
    Ok(Some(Arc::new(identity)))
}
