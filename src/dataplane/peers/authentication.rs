//! Authenticates a peer: a node of this data plane, by a JWT that is signed with its key and valid for one call.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::protocol::id::NodeId;
use crate::protocol::jws::{JwsError, Typ, Unverified};
use crate::protocol::node_proof::{Instance, MAX_PROOF, timely};
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;

/// Reasons to reject a peer's proof.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PeerRefusal {
    /// The proof is missing, or no node of this data plane signed it.
    #[error("the peer's proof does not hold: {0}")]
    Proof(#[from] JwsError),
    /// The proof has another audience.
    #[error("the peer's proof is for {0}")]
    Audience(String),
    /// The proof is too old, valid for too long, or from the future.
    #[error("the peer's proof is out of its time; check the clocks of both nodes")]
    Time,
    /// The node was retired.
    #[error("the peer, {0}, was retired")]
    Retired(NodeId),
    /// The proof names no call: its `jti` is empty.
    #[error("the peer's proof has no jti; a proof is made for one call")]
    NoCall,
    /// The proof was used before.
    #[error("the peer's proof was used before")]
    Again,
    /// Another node answered than was called.
    #[error("{0} answered, and another node was asked")]
    Another(NodeId),
    /// The answer differs from the signed one, or belongs to another question.
    #[error("the answer of {0} was changed on its way, or belongs to another question")]
    Altered(NodeId),
    /// The replica holds no record of the node.
    #[error("the peer claims to be {0}, which is no node of the replica held here")]
    Unknown(NodeId),
    /// The issuer is another node than the one with the key.
    #[error("the peer claims to be {0}, which has another key")]
    Issuer(NodeId),
}

#[derive(Deserialize)]
struct Claims {
    iss: NodeId,
    sub: NodeId,
    aud: String,
    iat: Time,
    exp: Time,
    jti: String,
    /// `None` from a daemon of an older version.
    instance: Option<Instance>,
}

/// Authenticated peer, and the identifiers of its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Node that called.
    pub node: NodeId,
    /// `jti` of the call.
    pub call: String,
    /// Expiry of the proof.
    pub until: Time,
    /// Identifies the start of the daemon that called, or `None` if it does not state one.
    pub instance: Option<Instance>,
}

/// Verifies that `proof` is an object of kind `typ`, signed by the node that `issuer` finds in its claims. Returns the claims,
/// and the refusal of the node if it was retired.
pub(super) fn prove_issuer<C: DeserializeOwned>(
    proof: &[u8],
    typ: Typ,
    signers: &Signers,
    issuer: impl Fn(&C) -> &NodeId,
) -> Result<(C, Result<(), PeerRefusal>), PeerRefusal> {
    let verified = Unverified::parse(proof, MAX_PROOF)?.verify_by(typ, |kid| signers.key(kid))?;
    let claims: C = verified.claims()?;
    let issuer = issuer(&claims);
    match signers.get(issuer).filter(|_| signers.is_by(issuer, &verified)) {
        None => Err(PeerRefusal::Issuer(issuer.clone())),
        Some(signer) => {
            let retired = signer.retired_at.map(|_| PeerRefusal::Retired(issuer.clone()));
            Ok((claims, retired.map_or(Ok(()), Err)))
        }
    }
}

/// Authenticates a call of `audience`: `proof` must be signed by a node in `signers` that was not retired. Only a proof that
/// holds tells that its node was retired.
pub fn authenticate(proof: &[u8], signers: &Signers, audience: &str, now: Time) -> Result<Peer, PeerRefusal> {
    let (claims, retired): (Claims, _) =
        prove_issuer(proof, Typ::NodeAuth, signers, |claims: &Claims| &claims.iss)?;
    if claims.sub != claims.iss {
        return Err(PeerRefusal::Issuer(claims.iss));
    }
    if claims.jti.is_empty() {
        return Err(PeerRefusal::NoCall);
    }
    if claims.aud != audience {
        return Err(PeerRefusal::Audience(claims.aud));
    }
    if !timely(claims.iat, claims.exp, now) {
        return Err(PeerRefusal::Time);
    }
    retired?;
    Ok(Peer { node: claims.iss, call: claims.jti, until: claims.exp, instance: claims.instance })
}
