//! Proofs of the node's identity: JWTs signed with its key (RFC 7523), valid for five minutes and for one call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand_core::CryptoRng;
use serde::Serialize;

use super::identity::Identity;
use crate::protocol::id::NodeId;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::node_proof::{Instance, LIFETIME};
use crate::protocol::time::Time;

/// Source of unique identifiers: random bits of this start, and a counter. It needs no randomness later.
#[derive(Debug)]
pub struct Nonces {
    start: Instance,
    count: AtomicU64,
}

impl Nonces {
    /// Draws the random bits, and begins to count.
    pub fn new(rng: &mut dyn CryptoRng) -> Self {
        Self { start: Instance::random(rng), count: AtomicU64::new(0) }
    }

    /// Returns the identifier of this start of the daemon.
    #[must_use]
    pub fn start(&self) -> &Instance {
        &self.start
    }

    /// Returns the next identifier, which is unique among all nodes.
    #[must_use]
    pub fn next(&self) -> String {
        format!("{}-{}", self.start.as_str(), self.count.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a NodeId,
    sub: &'a NodeId,
    aud: &'a str,
    iat: Time,
    exp: Time,
    jti: &'a str,
    /// Distinguishes two hosts with one identity: each start of a daemon has another value.
    instance: &'a Instance,
}

/// Signs the node's proofs.
#[derive(Debug)]
pub struct Prover {
    /// Identity of the node.
    pub identity: Identity,
    /// Key of the node.
    pub key: Arc<SigningKey>,
    /// Source of the `jti` of each proof.
    pub nonces: Nonces,
}

impl Prover {
    /// Signs a proof for `audience` with the identifier `jti`.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
    pub fn jwt(&self, audience: &str, jti: &str, now: Time) -> String {
        let node = &self.identity.node_id;
        let instance = self.nonces.start();
        let claims =
            Claims { iss: node, sub: node, aud: audience, iat: now, exp: now.plus(LIFETIME), jti, instance };
        sign(Typ::NodeAuth, &serde_json::to_vec(&claims).expect("claims serialize"), &self.key)
    }

    /// Signs a proof for the control plane.
    #[must_use]
    pub fn upstream(&self, now: Time) -> String {
        self.jwt(&self.identity.issuer, &self.nonces.next(), now)
    }
}
