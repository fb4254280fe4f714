//! Sync: keeps the replica up with the control plane, and never stands in the way of serving.

use std::sync::Arc;
use std::time::Duration;

use rand_core::CryptoRng;
use serde::Serialize;
use thiserror::Error;

use super::identity::Identity;
use super::live::Live;
use super::snapshot::{Snapshot, Staleness};
use super::store::{ReplicaStore, StoreError};
use super::upstream::{Upstream, UpstreamError};
use crate::protocol::id::{NodeId, random_id};
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::time::Time;

/// How long the control plane may hold an answer back while nothing changes, in seconds.
const WAIT: u64 = 50;
/// The first and the longest pause after a failure. Short, since what ends an outage is a revocation not yet known here.
const BACKOFF: (u64, u64) = (100, 800);

/// Reads the wall clock.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

#[derive(Debug, Error)]
enum SyncError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store's thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

#[derive(Serialize)]
struct NodeClaims<'a> {
    iss: &'a NodeId,
    sub: &'a NodeId,
    aud: &'a str,
    iat: Time,
    exp: Time,
    jti: String,
}

/// A node's proof of itself, good for five minutes (RFC 7523).
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn node_jwt(identity: &Identity, key: &SigningKey, now: Time, rng: &mut dyn CryptoRng) -> String {
    let claims = NodeClaims {
        iss: &identity.node_id,
        sub: &identity.node_id,
        aud: &identity.issuer,
        iat: now,
        exp: now.plus(300),
        jti: random_id("", rng),
    };
    sign(Typ::NodeAuth, &serde_json::to_vec(&claims).expect("claims serialize"), key)
}

/// Everything sync needs.
pub struct Follower<R> {
    /// The replica.
    pub store: ReplicaStore,
    /// The way to the control plane.
    pub upstream: Upstream,
    /// Who the node is.
    pub identity: Identity,
    /// Its key.
    pub key: SigningKey,
    /// What the faces read.
    pub live: Arc<Live>,
    /// The staleness policy.
    pub staleness: Staleness,
    /// The clock.
    pub clock: Clock,
    /// Randomness.
    pub rng: R,
}

impl<R: CryptoRng + Send + 'static> Follower<R> {
    /// Runs until the task is dropped.
    pub async fn run(mut self) {
        let mut pause = BACKOFF.0;
        loop {
            let (back, outcome) = self.round().await;
            self = match back {
                Some(follower) => follower,
                None => return,
            };
            match outcome {
                Ok(()) => {
                    self.live.reached((self.clock)());
                    pause = BACKOFF.0;
                }
                Err(error) => {
                    match &error {
                        SyncError::Store(refused) => self.live.alarm(&refused.to_string()),
                        SyncError::Upstream(_) | SyncError::Thread(_) => {}
                    }
                    self.live.lost(error.to_string(), (self.clock)());
                    // Full jitter: a thousand nodes that lost the same control plane must not come back as one.
                    let jitter = pause / 2 + self.rng.next_u64() % (pause / 2 + 1);
                    tokio::time::sleep(Duration::from_millis(jitter)).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    }

    async fn round(mut self) -> (Option<Self>, Result<(), SyncError>) {
        let (version, keyset) = match self.store.position() {
            Ok(position) => position,
            Err(error) => return (Some(self), Err(error.into())),
        };
        let jwt = node_jwt(&self.identity, &self.key, (self.clock)(), &mut self.rng);
        let wait = if self.live.standing().last_contact.is_some() && version > 0 { WAIT } else { 0 };
        let path = format!(
            "/v1/data-planes/{}/feed?since={version}&keyset={keyset}&wait={wait}",
            self.identity.data_plane_id
        );
        let bundle = match self.upstream.feed(&path, &jwt, wait).await {
            Ok(bundle) => bundle,
            Err(error) => return (Some(self), Err(error.into())),
        };
        let applied = tokio::task::spawn_blocking(move || {
            let outcome = self.take(&bundle);
            (self, outcome)
        });
        match applied.await {
            Ok((follower, outcome)) => (Some(follower), outcome.map_err(SyncError::from)),
            Err(error) => (None, Err(error.into())),
        }
    }

    fn take(&mut self, bundle: &[u8]) -> Result<(), StoreError> {
        let outcome = self.store.apply(bundle, (self.clock)());
        // Also when it was refused: a takeaway may have come of it.
        if let Some(replica) = self.store.load()? {
            let previous = self.live.snapshot();
            let snapshot = Snapshot::build(replica, self.staleness.clone(), Some(&previous));
            drop(previous);
            self.live.replace(snapshot);
        }
        outcome
    }
}
