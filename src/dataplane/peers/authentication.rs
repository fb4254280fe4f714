//! Who a peer is: a node of this data plane, by a JWT signed with its key, good for one call.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::protocol::id::NodeId;
use crate::protocol::jws::{JwsError, Typ, Unverified};
use crate::protocol::proof::{MAX_PROOF, timely};
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;

/// Why a peer is not listened to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PeerRefusal {
    /// No proof, or one that is not signed by a node of this data plane.
    #[error("the peer's proof does not hold: {0}")]
    Proof(#[from] JwsError),
    /// It is for another.
    #[error("the peer's proof is for {0}")]
    Audience(String),
    /// Too old, too long, or from the future.
    #[error("the peer's proof is out of its time; check the clocks of both nodes")]
    Time,
    /// The node was retired.
    #[error("the peer, {0}, was retired")]
    Retired(NodeId),
    /// It was used before.
    #[error("the peer's proof was used before")]
    Again,
    /// Another node answered than was asked.
    #[error("{0} answered, and another node was asked")]
    Another(NodeId),
    /// What came is not what was signed, or not for what was asked.
    #[error("what came is not what {0} answered to this question: it was changed on its way")]
    Altered(NodeId),
    /// No node record names it.
    #[error("the peer says to be {0}, which is no node of the replica held here")]
    Unknown(NodeId),
    /// Another node than the key's.
    #[error("the peer says to be {0}, which has another key")]
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
    /// A daemon of before names none.
    instance: Option<String>,
}

/// A node that has proved itself, and the name of its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// The call.
    pub call: String,
    /// When the proof ends.
    pub until: Time,
    /// Which start of its daemon called; none where it does not say.
    pub instance: Option<String>,
}

/// Proves that the node that `issuer` finds in the claims signed `proof` as an object of kind `typ`, and that it was not retired.
/// Returns the claims.
pub(super) fn prove_issuer<C: DeserializeOwned>(
    proof: &[u8],
    typ: Typ,
    signers: &Signers,
    issuer: impl Fn(&C) -> &NodeId,
) -> Result<C, PeerRefusal> {
    let unverified = Unverified::parse(proof, MAX_PROOF)?;
    let key = signers.key(unverified.kid()).ok_or(JwsError::KeyUnknown)?;
    let claims: C = unverified.verify(typ, key)?.claims()?;
    let issuer = issuer(&claims);
    match signers.get(issuer).filter(|signer| signer.key == *key) {
        None => Err(PeerRefusal::Issuer(issuer.clone())),
        Some(signer) if signer.retired_at.is_some() => Err(PeerRefusal::Retired(issuer.clone())),
        Some(_) => Ok(claims),
    }
}

/// Proves that `proof` was made by a node that counts for a call of `audience`.
pub fn authenticate(proof: &[u8], signers: &Signers, audience: &str, now: Time) -> Result<Peer, PeerRefusal> {
    let claims: Claims = prove_issuer(proof, Typ::NodeAuth, signers, |claims: &Claims| &claims.iss)?;
    if claims.sub != claims.iss {
        return Err(PeerRefusal::Issuer(claims.iss));
    }
    if claims.aud != audience {
        return Err(PeerRefusal::Audience(claims.aud));
    }
    if !timely(claims.iat, claims.exp, now) {
        return Err(PeerRefusal::Time);
    }
    Ok(Peer { node: claims.iss, call: claims.jti, until: claims.exp, instance: claims.instance })
}
