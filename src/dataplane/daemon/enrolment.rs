//! Identity of the node: read from the disk, or created by enrolment.

use std::sync::Arc;

use rand_core::CryptoRng;
use serde::Serialize;
use zeroize::Zeroizing;

use super::StartError;
use crate::api::node::{Enrolled, Enrolment};
use crate::dataplane::config::Config;
use crate::dataplane::node::credential::{Nonces, Prover};
use crate::dataplane::node::identity::{Identity, IdentityError, make_node_key};
use crate::dataplane::uplink::client::Upstream;
use crate::protocol::id::random_id;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::time::Time;

/// Claims of the `node-auth+jwt` that proves possession of the node's key. The node has no id yet, so it names none.
#[derive(Serialize)]
struct ProofClaims {
    aud: &'static str,
    iat: Time,
    exp: Time,
    jti: String,
}

/// Returns the node's identity and key. Creates a key and enrols the node if it has no identity yet.
pub(super) async fn identify(
    config: &Config,
    (known, key): (Option<Identity>, Option<SigningKey>),
    upstream: &Upstream,
    now: Time,
    rng: &mut (dyn CryptoRng + Send),
) -> Result<Prover, StartError> {
    let key = if let Some(key) = key { key } else { make_node_key(&config.key_file(), rng)? };
    let identity = if let Some(identity) = known {
        identity
    } else {
        let identity = enrol(config, upstream, &key, now, rng).await?;
        identity.write(&config.identity_file())?;
        identity
    };
    Ok(Prover { identity, key: Arc::new(key), nonces: Nonces::new(rng) })
}

async fn enrol(
    config: &Config,
    upstream: &Upstream,
    key: &SigningKey,
    now: Time,
    rng: &mut dyn CryptoRng,
) -> Result<Identity, StartError> {
    let file = config.control_plane.enrolment_token_file.as_ref().ok_or(StartError::NotEnrolled)?;
    let token =
        std::fs::read_to_string(file).map_err(|source| IdentityError::File { path: file.clone(), source })?;
    let token = Zeroizing::new(token);
    let claims =
        ProofClaims { aud: "halligan-control", iat: now, exp: now.plus(300), jti: random_id("", rng) };
    let body = Enrolment {
        enrolment_token: Zeroizing::new(token.trim().to_owned()),
        name: config.node.name.clone().unwrap_or_else(host_name),
        key: key.public().jwk(),
        proof: sign(Typ::NodeAuth, &serde_json::to_vec(&claims).map_err(StartError::Answer)?, key),
    };
    let answer = upstream.post("/v1/enrol", serde_json::to_vec(&body).map_err(StartError::Answer)?).await?;
    let enrolled: Enrolled = serde_json::from_slice(&answer).map_err(StartError::Answer)?;
    Ok(enrolled.into())
}

/// Returns the name of this host. A sandbox may hide the kernel's value.
fn host_name() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map_or_else(String::new, |name| name.trim().to_owned())
}
