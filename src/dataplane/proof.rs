//! How a node proves itself to others: JWTs signed with its key (RFC 7523), each good for five minutes and for one call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand_core::CryptoRng;
use serde::Serialize;

use super::identity::Identity;
use crate::protocol::id::{NodeId, random_id};
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::proof::LIFETIME;
use crate::protocol::time::Time;

/// Identifiers that are used once: random bits of this start, and a count. They need no randomness after it.
#[derive(Debug)]
pub struct Nonces {
    start: String,
    count: AtomicU64,
}

impl Nonces {
    /// Begins to count.
    pub fn new(rng: &mut dyn CryptoRng) -> Self {
        Self { start: random_id("", rng), count: AtomicU64::new(0) }
    }

    /// Names this start of the daemon.
    #[must_use]
    pub fn start(&self) -> &str {
        &self.start
    }

    /// The next one, unlike any before it on any node.
    #[must_use]
    pub fn next(&self) -> String {
        format!("{}-{}", self.start, self.count.fetch_add(1, Ordering::Relaxed) + 1)
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
    /// Tells two hosts with one identity apart: each start of a daemon has another.
    instance: &'a str,
}

/// Who this node is, and the key it proves that with.
#[derive(Debug)]
pub struct Prover {
    /// Who it is.
    pub identity: Identity,
    /// Its key.
    pub key: Arc<SigningKey>,
    /// For each proof another.
    pub nonces: Nonces,
}

impl Prover {
    /// A proof for `audience`, named `jti`.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
    pub fn jwt(&self, audience: &str, jti: &str, now: Time) -> String {
        let node = &self.identity.node_id;
        let instance = self.nonces.start();
        let claims =
            Claims { iss: node, sub: node, aud: audience, iat: now, exp: now.plus(LIFETIME), jti, instance };
        sign(Typ::NodeAuth, &serde_json::to_vec(&claims).expect("claims serialize"), &self.key)
    }

    /// A proof for the control plane.
    #[must_use]
    pub fn upstream(&self, now: Time) -> String {
        self.jwt(&self.identity.issuer, &self.nonces.next(), now)
    }
}
