//! Sync: keeps the replica up with the control plane, and never stands in the way of serving.

pub mod state;

use std::sync::Arc;
use std::time::Duration;

use rand_core::CryptoRng;
use thiserror::Error;
use tokio::sync::Notify;

use self::state::{Outcome, Progress};
use super::Clock;
use super::reconcile::Reconciler;
use super::replication::Replication;
use super::store::{Origin, StoreError};
use super::traces::Traces;
use super::upstream::{Upstream, UpstreamError};
use crate::protocol::event::Connectivity;

/// How long the control plane may hold an answer back while nothing changes, in seconds.
const HOLD: u64 = 50;

/// Why a round came to nothing.
#[derive(Debug, Error)]
pub enum SyncError {
    /// The network, or what answered.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The answer, or the disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that works on the disk ended.
    #[error("the store's thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl SyncError {
    /// What it means for the state: what can't be taken in was an answer all the same.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Upstream(error) => error.outcome(),
            Self::Store(_) | Self::Thread(_) => Outcome::Refused,
        }
    }
}

/// Everything sync needs.
pub struct Follower<R> {
    /// Takes bundles in.
    pub replication: Arc<Replication>,
    /// The way to the control plane.
    pub upstream: Arc<Upstream>,
    /// What tells the control plane what it does not know.
    pub reconciler: Arc<Reconciler>,
    /// The clock.
    pub clock: Clock,
    /// Randomness.
    pub rng: R,
    /// Ends a wait, or an answer that is held back: there is something new to ask or to tell.
    pub wake: Arc<Notify>,
    /// Where rounds are told as spans.
    pub traces: Traces,
    /// What the answer that is waited for must hold, while this node's clock is in doubt; none at the start.
    pub nonce: Option<String>,
}

impl<R: CryptoRng + Send + 'static> Follower<R> {
    /// Runs until the task is dropped.
    pub async fn run(mut self) {
        let wake = Arc::clone(&self.wake);
        let mut progress = Progress::new((self.clock)());
        let mut hold = false;
        loop {
            let trace = self.traces.round("sync");
            let outcome = tokio::select! {
                outcome = self.round(hold) => outcome,
                () = wake.notified() => {
                    hold = false;
                    continue;
                }
            };
            let now = (self.clock)();
            let live = self.replication.live();
            match &outcome {
                Ok(()) => live.membership.accepted(),
                Err(SyncError::Upstream(error)) => {
                    if let Some(detail) = error.retired() {
                        live.membership.refused(detail, &live.alarms, now);
                    }
                }
                Err(_) => {}
            }
            let of = outcome.as_ref().map_or_else(SyncError::outcome, |()| Outcome::Renewed);
            let (after, next) = progress.after(of, now, live.expires());
            // The first failure says it all; in an outage there are several a second.
            if after.failures <= 1 {
                trace.synced(of);
            }
            let pause = self.jitter(next.pause);
            self.replication.live().stand(after, outcome.err().map(|error| error.to_string()), now, pause);
            (progress, hold) = (after, next.hold);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = wake.notified() => hold = false,
            }
        }
    }

    /// Between half of a pause and all of it: a thousand nodes that lost the same control plane must not come back as one.
    fn jitter(&mut self, pause: Duration) -> Duration {
        let half = pause / 2;
        let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        half + Duration::from_millis(self.rng.next_u64() % spread)
    }

    /// One exchange: the node sends first what the control plane does not know, then takes what it does not know itself.
    async fn round(&mut self, hold: bool) -> Result<(), SyncError> {
        if self.replication.live().connectivity() != Connectivity::Online {
            self.reconciler.send_first(&self.upstream).await?;
        }
        self.receive(hold).await
    }

    /// Takes what has changed since the version held.
    async fn receive(&mut self, hold: bool) -> Result<(), SyncError> {
        let replication = Arc::clone(&self.replication);
        let (version, keyset) = tokio::task::spawn_blocking(move || replication.position()).await??;
        let now = (self.clock)();
        let mut path = format!(
            "/v1/data-planes/{}/feed?since={version}&keyset={keyset}",
            self.reconciler.prover.identity.data_plane_id
        );
        // Without a nonce, an answer that was captured would pass for a new one until its head ends. A node without a replica
        // sends none: the control plane then serves one large answer to all of them.
        let wanted = version > 0 || !self.replication.live().now(now).trusted();
        if let Some(nonce) = next_nonce(&mut self.nonce, wanted, || self.reconciler.prover.nonces.next()) {
            path.push_str("&nonce=");
            path.push_str(nonce);
        }
        let (prover, clock) = (&self.reconciler.prover, &self.clock);
        let proof = || prover.upstream(clock());
        let bundle = self.upstream.feed(&path, &proof, if hold && version > 0 { HOLD } else { 0 }).await?;
        // It has to be fresh as of when it began to come: a large one on a thin line is no frozen feed.
        let took = i64::try_from(bundle.took.as_secs()).unwrap_or(i64::MAX);
        let (replication, now) = (Arc::clone(&self.replication), (self.clock)().plus(-took));
        let (source, nonce) = (bundle.source, self.nonce.take());
        let taken = tokio::task::spawn_blocking(move || {
            replication.take_answer(bundle.bytes, Origin::Feed, nonce.as_deref(), now)
        });
        let taken = taken.await?;
        if taken.is_err() {
            // Of several addresses another may tell the truth.
            self.upstream.distrust(source);
        }
        Ok(taken?)
    }
}

/// Returns the nonce of the next request, and keeps it: it stays the same until it is answered, so that a large answer that breaks
/// off can be taken up again. A request that carries none forgets the nonce of one that failed, since no answer can hold it.
fn next_nonce(kept: &mut Option<String>, wanted: bool, make: impl FnOnce() -> String) -> Option<&str> {
    if wanted {
        kept.get_or_insert_with(make);
    } else {
        *kept = None;
    }
    kept.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nonce_of_a_request_that_failed_is_asked_for_again_or_forgotten() {
        let mut kept = None;
        assert_eq!(next_nonce(&mut kept, true, || "a".into()), Some("a"));
        assert_eq!(next_nonce(&mut kept, true, || "b".into()), Some("a"), "the request failed");
        // What is asked for next is a snapshot, which every node is given alike.
        assert_eq!(next_nonce(&mut kept, false, || "c".into()), None);
        assert_eq!(kept, None, "its answer is not compared with another request's nonce");
        assert_eq!(next_nonce(&mut kept, true, || "d".into()), Some("d"));
    }
}
