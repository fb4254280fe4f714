//! Sync: follows the control plane's replica. It never delays a decision.

use std::sync::Arc;
use std::time::Duration;

use rand_core::CryptoRng;
use thiserror::Error;
use tokio::sync::Notify;

use super::client::{Upstream, UpstreamError};
use super::reconcile::Reconciler;
use crate::dataplane::node::connection::{Outcome, Progress};
use crate::dataplane::observe::traces::Traces;
use crate::dataplane::replica::replication::Replication;
use crate::dataplane::replica::store::{Origin, StoreError};
use crate::platform::backoff::spread;
use crate::platform::clock::Clock;
use crate::protocol::event::Connectivity;

/// Maximum number of seconds for which the control plane may hold an answer back while nothing changes.
const HOLD: u64 = 50;

/// Reasons why a round failed.
#[derive(Debug, Error)]
pub enum SyncError {
    /// The control plane cannot be reached, or rejects the request.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The answer is rejected, or the disk fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blocking thread that works on the disk ended.
    #[error("the store's thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl SyncError {
    /// Returns the outcome for the state machine. A rejected answer still counts as an answer.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Upstream(error) => error.outcome(),
            Self::Store(_) | Self::Thread(_) => Outcome::Refused,
        }
    }

    /// Returns the time after which the control plane asks to be called again.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Upstream(error) => error.retry_after(),
            Self::Store(_) | Self::Thread(_) => None,
        }
    }
}

/// Parts that sync works with.
pub struct Follower<R> {
    /// Applies downloaded bundles.
    pub replication: Arc<Replication>,
    /// Client of the control plane.
    pub upstream: Arc<Upstream>,
    /// Reports to the control plane.
    pub reconciler: Arc<Reconciler>,
    /// Clock of the node.
    pub clock: Clock,
    /// Source of randomness for pauses.
    pub rng: R,
    /// Ends a pause, or a request that the control plane holds, because there is something new to ask or report.
    pub wake: Arc<Notify>,
    /// Exports rounds as spans.
    pub traces: Traces,
    /// Nonce that the awaited answer must hold, or `None` if the request carried none.
    pub nonce: Option<String>,
    /// Version that the last request stated.
    pub stated: u64,
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
            let result = outcome.as_ref().map_or_else(SyncError::outcome, |()| Outcome::Renewed);
            let (after, next) = progress.after(result, now, live.expires());
            // Only the first failure is logged: in an outage there are several a second.
            if after.failures <= 1 {
                trace.synced(result);
            }
            let asked = outcome.as_ref().err().and_then(SyncError::retry_after).unwrap_or_default();
            let pause = spread(next.pause, self.rng.next_u32()).max(asked);
            self.replication.live().record_attempt(
                after,
                outcome.err().map(|error| error.to_string()),
                now,
                pause,
            );
            (progress, hold) = (after, next.hold);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = wake.notified() => hold = false,
            }
        }
    }

    /// Runs one exchange: the node first reports to the control plane, then downloads from it.
    async fn round(&mut self, hold: bool) -> Result<(), SyncError> {
        if self.replication.live().connectivity() != Connectivity::Online {
            self.reconciler.send_first(&self.upstream).await?;
        }
        self.receive(hold).await
    }

    /// Downloads and applies the changes since the version held.
    async fn receive(&mut self, hold: bool) -> Result<(), SyncError> {
        let replication = Arc::clone(&self.replication);
        let (version, keyset) = tokio::task::spawn_blocking(move || replication.position()).await??;
        let now = (self.clock)();
        let mut path = format!(
            "/v1/data-planes/{}/feed?since={version}&keyset={keyset}",
            self.reconciler.prover.identity.data_plane_id
        );
        // Without a nonce, a captured answer would pass for a new one until its head expires. A node without a replica
        // sends none, so that the control plane can serve one large answer to all of them.
        let trusted = self.replication.live().now(now).trusted();
        let hold = hold && may_wait(self.stated, version, trusted);
        self.stated = version;
        let wanted = version > 0 || !trusted;
        if let Some(nonce) = next_nonce(&mut self.nonce, wanted, || self.reconciler.prover.nonces.next()) {
            path.push_str("&nonce=");
            path.push_str(nonce);
        }
        let (prover, clock) = (&self.reconciler.prover, &self.clock);
        let proof = || prover.upstream(clock());
        let bundle = self.upstream.feed(&path, &proof, if hold { HOLD } else { 0 }).await?;
        // Freshness is judged at the beginning of the answer: a large answer over a slow connection is no frozen feed.
        let took = i64::try_from(bundle.took.as_secs()).unwrap_or(i64::MAX);
        let (replication, now) = (Arc::clone(&self.replication), (self.clock)().plus(-took));
        let (source, nonce) = (bundle.source, self.nonce.take());
        let taken = tokio::task::spawn_blocking(move || {
            replication.apply_answer(bundle.bytes, Origin::Feed, nonce.as_deref(), now)
        });
        let taken = taken.await?;
        if taken.is_err() {
            // Another address of the control plane may give a valid answer.
            self.upstream.distrust(source);
        }
        Ok(taken?)
    }
}

/// Returns true if the control plane may hold back its answer to a node that holds `version`, while nothing changes; `before`
/// is the version that the node's last request stated. A node whose clock is in doubt does not wait after a new version: that
/// answer may have been a snapshot, which is shared and holds no nonce, and only an answer with the nonce ends the doubt.
#[must_use]
pub const fn may_wait(before: u64, version: u64, clock_trusted: bool) -> bool {
    version > 0 && (clock_trusted || version == before)
}

/// Returns the nonce of the next request, and keeps it until the request is answered, so that an interrupted large answer
/// can be resumed. A request without a nonce deletes the kept one, since no answer can hold it.
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
    fn a_node_whose_clock_is_in_doubt_asks_again_at_once_after_a_new_version() {
        assert!(!may_wait(0, 0, true), "nothing is held");
        assert!(may_wait(7, 8, true) && may_wait(0, 8, true));
        assert!(!may_wait(7, 8, false) && may_wait(8, 8, false));
    }

    #[test]
    fn the_nonce_of_a_request_that_failed_is_asked_for_again_or_forgotten() {
        let mut kept = None;
        assert_eq!(next_nonce(&mut kept, true, || "a".into()), Some("a"));
        assert_eq!(next_nonce(&mut kept, true, || "b".into()), Some("a"), "the request failed");
        // The next request is for a snapshot, which is the same for every node.
        assert_eq!(next_nonce(&mut kept, false, || "c".into()), None);
        assert_eq!(kept, None, "its answer is not compared with another request's nonce");
        assert_eq!(next_nonce(&mut kept, true, || "d".into()), Some("d"));
    }
}
