//! Sync: keeps the replica up with the control plane, and never stands in the way of serving.

use std::sync::Arc;
use std::time::Duration;

use rand_core::CryptoRng;
use serde::Serialize;
use thiserror::Error;

use super::Clock;
use super::identity::Identity;
use super::replication::Replication;
use super::store::{Origin, StoreError};
use super::upstream::{Upstream, UpstreamError};
use crate::protocol::event::Connectivity;
use crate::protocol::id::{NodeId, random_id};
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::SigningKey;
use crate::protocol::time::Time;

/// How long the control plane may hold an answer back while nothing changes, in seconds.
const WAIT: u64 = 50;
/// The first and the longest pause after a failure. Short, since what ends an outage is a revocation not yet known here.
const BACKOFF: (u64, u64) = (50, 400);

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
    /// Takes bundles in.
    pub replication: Arc<Replication>,
    /// The way to the control plane.
    pub upstream: Upstream,
    /// Who the node is.
    pub identity: Identity,
    /// Its key.
    pub key: Arc<SigningKey>,
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
            let outcome = self.round().await;
            let (live, now) = (self.replication.live(), (self.clock)());
            let Err(error) = outcome else {
                live.reached(now);
                pause = BACKOFF.0;
                continue;
            };
            let alarm = if let SyncError::Store(refused) = &error { refused.alarm() } else { None };
            if let Some(kind) = alarm {
                // It answers; what it says is another matter.
                live.reached(now);
                live.alarms.raise(kind, &error.to_string(), now);
            } else {
                live.lost(error.to_string(), now);
            }
            // Jitter: a thousand nodes that lost the same control plane must not come back as one.
            let jitter = pause / 2 + self.rng.next_u64() % (pause / 2 + 1);
            tokio::time::sleep(Duration::from_millis(jitter)).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    async fn round(&mut self) -> Result<(), SyncError> {
        let replication = Arc::clone(&self.replication);
        let (version, keyset) = tokio::task::spawn_blocking(move || replication.position()).await??;
        let now = (self.clock)();
        let jwt = node_jwt(&self.identity, &self.key, now, &mut self.rng);
        let online = self.replication.live().connectivity() == Connectivity::Online;
        let wait = if online && version > 0 { WAIT } else { 0 };
        let path = format!(
            "/v1/data-planes/{}/feed?since={version}&keyset={keyset}&wait={wait}",
            self.identity.data_plane_id
        );
        let bundle = self.upstream.feed(&path, &jwt, wait).await?;
        let (replication, now) = (Arc::clone(&self.replication), (self.clock)());
        Ok(tokio::task::spawn_blocking(move || replication.take(&bundle, Origin::Feed, now)).await??)
    }
}
