//! Reconciliation: the node sends the data that its control plane does not have yet, in this order: revocations, statements of
//! outages that are over, events. Each can be sent twice, and is stored once.
//!
//! The choice of calls and the handling of answers need no network: a [`Round`] returns a [`Call`] and takes its answer.
//! [`Reconciler::send`] does the I/O.

mod round;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use thiserror::Error;

pub use round::{Call, Round};

use crate::dataplane::audit::{AuditError, readable};
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::inventory::{AUDIT, Inventory, REVOCATIONS};
use crate::dataplane::node::schema::Unfit;
use crate::dataplane::node::state::Live;
use crate::dataplane::observe::traces::Traces;
use crate::dataplane::revocations::{LedgerError, Revocations};
use crate::dataplane::uplink::client::{Upstream, UpstreamError};
use crate::dataplane::uplink::outage::{OutageError, Outages};
use crate::platform::clock::Clock;
use crate::platform::failing::Failing;
use crate::protocol::event::{Connectivity, Event};
use crate::protocol::reconciliation::MAX_LINES;
use crate::protocol::time::Time;

/// Interval at which events are sent while the control plane answers.
const INTERVAL: Duration = Duration::from_secs(2);
/// Interval at which the node checks the state of the connection.
const LOOK: Duration = Duration::from_millis(500);
/// Number of calls before the first download after an outage: revocations, the outage, and the first events. The rest is
/// sent once the node is in sync again, since a revocation made at the control plane must not wait for a long log.
const FIRST_CALLS: usize = 3;
/// Total time for which the first download waits for these calls. After an outage the control plane is busy with the calls of all
/// nodes, and a token revoked there must still end within a second on this node.
const FIRST: Duration = Duration::from_millis(500);

/// Reasons why a round ended early. It is tried again.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// The control plane cannot be reached or rejects the call.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The local revocations cannot be read or written.
    #[error(transparent)]
    Revocations(#[from] LedgerError),
    /// The outages cannot be read or written.
    #[error(transparent)]
    Outages(#[from] OutageError),
    /// The audit log cannot be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The answer cannot be parsed.
    #[error("the control plane's answer is not understood: {0}")]
    Answer(#[from] serde_json::Error),
    /// The control plane asked for earlier events more often than a round permits.
    #[error("the control plane asks for earlier events in every answer; reconciliation is tried again")]
    Rewinds,
    /// A blocking thread ended.
    #[error("the thread of the databases ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl ReconcileError {
    /// Returns the time after which the control plane asks to be called again.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Upstream(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// State that reconciliation works with.
pub struct Reconciler {
    /// Local revocations.
    pub revocations: Arc<Revocations>,
    /// Outages of this node.
    pub outages: Arc<Outages>,
    /// Path of the audit log's database.
    pub audit_path: PathBuf,
    /// Signer of this node's proofs.
    pub prover: Arc<Prover>,
    /// State of the node.
    pub live: Arc<Live>,
    /// Clock of the node.
    pub clock: Clock,
    /// Version of the replica at which answers about revocations were last compared with its records.
    compared: AtomicU64,
    /// Ensures that one round runs at a time.
    sending: tokio::sync::Mutex<()>,
    /// Outcome of the last attempt to send, by [`Self::send_first`] or [`Self::run`].
    waiting: Failing,
    /// Outcome of the last attempt to record the state of the connection.
    noting: Failing,
    /// True while the control plane sends this node back to earlier events.
    resending: Failing,
    /// Text of the last alarm about events that can't be read. It is kept because each round finds them again.
    unreadable: Mutex<String>,
}

impl Reconciler {
    /// Opens the databases in the state directory `state`, in which the audit log must exist. Local revocations are in
    /// force on return.
    pub fn open(
        state: &Path,
        prover: Arc<Prover>,
        live: &Arc<Live>,
        clock: &Clock,
    ) -> Result<Arc<Self>, OutageError> {
        let audit_path = state.join(AUDIT);
        let counted =
            Inventory::new(state).counted().map_err(|error| LedgerError::from(Unfit::from(error)))?;
        // Without a count, only the audit log shows which tokens were revoked on this host.
        let told = if counted { Vec::new() } else { revocations_told(&audit_path)? };
        let told: Vec<_> = told.into_iter().filter_map(|event| event.token).collect();
        let path = state.join(REVOCATIONS);
        let revocations = Revocations::open_told(&path, Arc::clone(live), Arc::clone(&prover), &told)?;
        let revocations = Arc::new(revocations);
        revocations.alarm(clock());
        let outages = Outages::open(
            &state.join("outages.db"),
            Arc::clone(live),
            Arc::clone(&prover),
            Arc::clone(&revocations),
            audit_path.clone(),
        )?;
        Ok(Arc::new(Self {
            revocations,
            outages: Arc::new(outages),
            audit_path,
            prover,
            live: Arc::clone(live),
            clock: Arc::clone(clock),
            compared: AtomicU64::default(),
            sending: tokio::sync::Mutex::default(),
            waiting: Failing::default(),
            noting: Failing::default(),
            resending: Failing::default(),
            unreadable: Mutex::default(),
        }))
    }

    /// Deletes answers that the replica contradicts: the control plane acknowledged a revocation, but a later head has the token
    /// as active. This happens after the control plane was restored from a backup. The revocation is sent again, since hosts
    /// that do not hold it would accept the token.
    fn doubt_answers(&self) -> Result<(), ReconcileError> {
        let snapshot = self.live.snapshot();
        let Some(version) = snapshot.head().map(|head| head.head().version) else { return Ok(()) };
        // Once for each version: a revocation sent just now is in the next one.
        if self.compared.load(Ordering::Relaxed) == version {
            return Ok(());
        }
        let forgotten = self.revocations.forget_answers(snapshot.alive_above())?;
        // Stored last, so that the next round compares again after a failure.
        self.compared.store(version, Ordering::Relaxed);
        if forgotten > 0 {
            tracing::info!(
                revocations = forgotten,
                "the control plane's records lack revocations that it had acknowledged; sending them again"
            );
        }
        Ok(())
    }

    /// Sends the waiting data, with at most `calls` calls. Returns the number of calls made.
    pub async fn send(self: &Arc<Self>, upstream: &Upstream, calls: usize) -> Result<usize, ReconcileError> {
        let _one = self.sending.lock().await;
        let mut round = Round::default();
        for sent in 0..calls {
            let (this, now) = (Arc::clone(self), (self.clock)());
            let (back, call) = tokio::task::spawn_blocking(move || {
                let call = round.next(&this, now);
                (round, call)
            })
            .await?;
            round = back;
            let Some(call) = call? else {
                if sent > 0 && !round.was_sent_back() && self.resending.end() {
                    tracing::info!("the control plane no longer asks for earlier events");
                }
                return Ok(sent);
            };
            let proof = || self.prover.upstream((self.clock)());
            let received = upstream.send(Method::POST, &call.path, Some(&proof), call.body.clone()).await?;
            let (this, now) = (Arc::clone(self), (self.clock)());
            round = tokio::task::spawn_blocking(move || {
                round.answered(&this, &call, &received, now).map(|()| round)
            })
            .await??;
        }
        Ok(calls)
    }

    /// Reports to the control plane before the first download after an outage. An error or a delay does not prevent the
    /// download, unless the control plane cannot be reached at all. A call that is given up is sent again later.
    pub async fn send_first(self: &Arc<Self>, upstream: &Upstream) -> Result<(), UpstreamError> {
        match tokio::time::timeout(FIRST, self.send(upstream, FIRST_CALLS)).await {
            Ok(Err(ReconcileError::Upstream(error))) if error.nobody_there() => return Err(error),
            Ok(sent) => drop(self.waiting.log(&sent, "reconciliation waits, and is tried again")),
            Err(_) => tracing::debug!(
                "the control plane answers slowly; reconciliation continues after the download"
            ),
        }
        Ok(())
    }

    /// Raises an alarm about events that can't be read, unless it is the last one that was raised.
    fn alarm_unreadable(&self, what: &str, now: Time) {
        let mut last = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != what {
            self.live.alarms.raise(AlarmKind::Damaged, what, now);
            what.clone_into(&mut last);
        }
    }

    /// Records the state of the connection.
    async fn observe(self: &Arc<Self>) {
        let (outages, now) = (Arc::clone(&self.outages), (self.clock)());
        let observed = tokio::task::spawn_blocking(move || outages.observe(now)).await;
        if let Ok(observed) = observed {
            self.noting.log(&observed, "the state of the connection can't be written to outages.db");
        }
    }

    /// Runs until the task is dropped. Sends revocations at once, and events every two seconds.
    pub async fn run(self: Arc<Self>, upstream: Arc<Upstream>, traces: Traces) {
        let mut changes = self.revocations.changes();
        let mut due = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                told = changes.changed() => {
                    if told.is_err() {
                        return;
                    }
                    due = tokio::time::Instant::now();
                }
            }
            self.observe().await;
            if self.live.connectivity() != Connectivity::Online || tokio::time::Instant::now() < due {
                continue;
            }
            let trace = traces.round("reconcile");
            let mut pause = INTERVAL;
            let sent = self.send(&upstream, usize::MAX).await;
            let fails = self.waiting.log(&sent, "reconciliation waits, and is tried again");
            match sent {
                Ok(0) => {}
                Ok(calls) => trace.reconciled(Some(calls)),
                Err(error) => {
                    pause = pause.max(error.retry_after().unwrap_or_default());
                    if fails {
                        trace.reconciled(None);
                    }
                }
            }
            due = tokio::time::Instant::now() + pause;
        }
    }
}

/// Returns the events of the audit log at `path` that record a revocation on this host. Unreadable events are
/// skipped: verification of the log reports them.
pub(in crate::dataplane) fn revocations_told(path: &Path) -> Result<Vec<Event>, AuditError> {
    let (mut after, mut told) = (0, Vec::new());
    loop {
        let stretch = match readable(path, after, MAX_LINES) {
            Ok(stretch) if stretch.lines.is_empty() => return Ok(told),
            Ok(stretch) => stretch,
            Err(error) if error.is_damage() => return Ok(told),
            Err(error) => return Err(error),
        };
        after = stretch.after + stretch.lines.len() as u64;
        let revoked = stretch.lines.iter().filter(|line| line.contains(r#""kind":"revocation""#));
        told.extend(revoked.filter_map(|line| serde_json::from_str::<Event>(line).ok()));
    }
}
