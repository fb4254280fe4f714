//! Reconciliation: the node sends what its control plane does not have yet, in this order: revocations, the statement of an
//! outage that is over, events. Each can be sent twice, and is stored once.
//!
//! The choice of calls and the handling of answers need no network: a [`Round`] returns a [`Call`] and takes its answer.
//! [`Reconciler::send`] does the I/O.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use thiserror::Error;

use crate::dataplane::audit::{AuditError, extent, hash_at, readable, set_uploaded};
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
use crate::protocol::event::{Connectivity, Event, line_hash};
use crate::protocol::json::object;
use crate::protocol::reconciliation::{MAX_BYTES, MAX_LINES, OutageStatement, Position, RevocationAnswer};
use crate::protocol::time::Time;

/// Interval at which events are sent while the control plane answers.
const INTERVAL: Duration = Duration::from_secs(2);
/// Interval at which the node checks the state of the connection.
const LOOK: Duration = Duration::from_millis(500);
/// Number of calls before the first download after an outage: revocations, the outage, and the first events. The rest is
/// sent once the node is in sync again, since a revocation made at the control plane must not wait for a long log.
const FIRST_CALLS: usize = 3;
/// Total time for which the first download waits for these calls. A control plane that returns is busy with the reports of
/// every node, and a token revoked there must still end within a second on this node.
const FIRST: Duration = Duration::from_millis(500);
/// Maximum number of times in a round that the control plane may send the node back to an earlier event.
const MAX_REWINDS: usize = 3;

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
    /// The control plane sends the node back and forth.
    #[error("the control plane asks for the same events again and again")]
    Rewinds,
    /// A blocking thread ended.
    #[error("the thread of the databases ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Content of a call.
#[derive(Clone, Debug)]
enum Sent {
    /// Revocations up to this number.
    Revocations(u64),
    /// Statement of an outage.
    Outage(OutageStatement),
    /// Events of the audit log.
    Events {
        /// Sequence number of the event before the first one that was sent.
        from: u64,
        /// Position of the last one.
        last: Position,
        /// Sequence numbers of the first and the last event before them that can't be read, if there are such events.
        missing: Option<(u64, u64)>,
    },
}

/// Call to the control plane.
#[derive(Clone, Debug)]
pub struct Call {
    /// Path, from `/v1` on.
    pub path: String,
    /// Body of the POST request.
    pub body: Vec<u8>,
    sent: Sent,
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
}

/// Round: sends everything that waits, once.
#[derive(Debug, Default)]
pub struct Round {
    revocations_after: u64,
    rewinds: usize,
}

impl Round {
    /// Returns the next call, or `None` if nothing is left to send.
    pub fn next(&self, reconciler: &Reconciler, now: Time) -> Result<Option<Call>, ReconcileError> {
        let path =
            |what: &str| format!("/v1/data-planes/{}/{what}", reconciler.prover.identity.data_plane_id);
        if self.revocations_after == 0 {
            reconciler.doubt_answers()?;
        }
        reconciler.revocations.vouch(now)?;
        let revocations = reconciler.revocations.unanswered(self.revocations_after, MAX_LINES / 4)?;
        if let Some(last) = revocations.last() {
            let lines = revocations.iter().flat_map(|held| [held.text.as_str(), "\n"]);
            let body = lines.collect::<String>().into_bytes();
            return Ok(Some(Call { path: path("revocations"), body, sent: Sent::Revocations(last.number) }));
        }
        if let Some(statement) = reconciler.outages.to_report(now)? {
            let body = serde_json::to_vec(&statement)?;
            return Ok(Some(Call { path: path("outages"), body, sent: Sent::Outage(statement) }));
        }
        let log = extent(&reconciler.audit_path)?;
        if log.uploaded >= log.last {
            return Ok(None);
        }
        let mut body = String::new();
        let mut last = None;
        let expected = log.uploaded.max(log.oldest.saturating_sub(1));
        let stretch = readable(&reconciler.audit_path, expected, MAX_LINES);
        let nothing_left = match &stretch {
            Ok(stretch) => stretch.lines.is_empty(),
            Err(error) => error.is_damage(),
        };
        if nothing_left {
            let what = format!(
                "no event of the audit log from {} on can be read, and none is told to the control plane; run halligan audit verify, \
                 and keep a copy of audit.db",
                expected + 1
            );
            reconciler.live.alarms.raise(AlarmKind::Damaged, &what, now);
        }
        let stretch = stretch?;
        let from = stretch.after;
        // One unreadable block must not keep later events from the control plane. It notes the gap, and does not ask for
        // events that the node says it no longer has.
        let missing = (from > expected).then_some((expected + 1, from));
        let oldest = if missing.is_some() { from + 1 } else { log.oldest };
        for (sequence, line) in (from + 1..).zip(stretch.lines) {
            if last.is_some() && body.len() + line.len() >= MAX_BYTES {
                break;
            }
            last = Some(Position { sequence, hash: line_hash(&line) });
            body.push_str(&line);
            body.push('\n');
        }
        let path = path(&format!("events?oldest={oldest}"));
        Ok(last.map(|last| Call {
            path,
            body: body.into_bytes(),
            sent: Sent::Events { from, last, missing },
        }))
    }

    /// Processes the answer to a call.
    pub fn answered(
        &mut self,
        reconciler: &Reconciler,
        call: &Call,
        answer: &[u8],
        now: Time,
    ) -> Result<(), ReconcileError> {
        match &call.sent {
            Sent::Revocations(last) => {
                let answers: Vec<RevocationAnswer> = serde_json::from_slice(answer)?;
                reconciler.revocations.answered(&answers)?;
                self.revocations_after = *last;
            }
            Sent::Outage(statement) => reconciler.outages.reported(statement, now)?,
            Sent::Events { from, last, missing } => {
                let above: Position = object(answer)?;
                // The usual answer names the last event of this call, whose hash is known.
                let own = if above.sequence == last.sequence {
                    Some(last.hash.clone())
                } else {
                    match hash_at(&reconciler.audit_path, above.sequence) {
                        Err(error) if error.is_damage() => None,
                        found => found?,
                    }
                };
                if let Some((first, through)) = missing {
                    let what = format!(
                        "events {first} to {through} of the audit log can't be read, and were not told to the control plane; run \
                         halligan audit verify, and keep a copy of audit.db"
                    );
                    reconciler.live.alarms.raise(AlarmKind::Damaged, &what, now);
                }
                if let Some(own) = own.as_ref().filter(|own| **own != above.hash) {
                    let what = format!(
                        "the control plane holds another event {} of this host's log than this host: {} there, {own} here; one of \
                         the two logs was rewritten, two hosts share this identity, or this log began anew before the control \
                         plane was restored from an older backup",
                        above.sequence, above.hash
                    );
                    reconciler.live.alarms.raise(AlarmKind::Damaged, &what, now);
                }
                // A later position at the control plane is not of this log: only the sent events are known to have arrived.
                let reached = if above.sequence >= last.sequence {
                    last.clone()
                } else {
                    Position { hash: own.unwrap_or(above.hash), ..above }
                };
                if reached.sequence <= *from {
                    self.rewinds += 1;
                    if self.rewinds > MAX_REWINDS {
                        return Err(ReconcileError::Rewinds);
                    }
                    tracing::warn!(
                        from,
                        to = reached.sequence,
                        "the control plane lacks events; they are sent again"
                    );
                }
                set_uploaded(&reconciler.audit_path, &reached)?;
            }
        }
        Ok(())
    }
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
        }))
    }

    /// Deletes answers that the replica contradicts: the control plane acknowledged a revocation, and calls the token
    /// active in a later head. This happens after a restore from a backup. The revocation is sent again, since the control
    /// plane gives its replica to hosts without proof of the revocation.
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
                "tells the control plane again of revocations that its records do not hold"
            );
        }
        Ok(())
    }

    /// Sends what waits, with at most `calls` calls. Returns the number of calls made.
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
            let Some(call) = call? else { return Ok(sent) };
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
            Ok(Err(error)) => tracing::warn!(%error, "reconciliation waits"),
            Err(_) => tracing::debug!("the control plane is slow to listen; reconciliation waits"),
            Ok(Ok(_)) => {}
        }
        Ok(())
    }

    /// Records the state of the connection.
    async fn observe(self: &Arc<Self>) {
        let (outages, now) = (Arc::clone(&self.outages), (self.clock)());
        let observed = tokio::task::spawn_blocking(move || outages.observe(now)).await;
        if let Ok(Err(error)) = observed {
            tracing::error!(%error, "the outage can't be noted");
        }
    }

    /// Runs until the task is dropped. Sends revocations at once, and events every two seconds.
    pub async fn run(self: Arc<Self>, upstream: Arc<Upstream>, traces: Traces) {
        let mut changes = self.revocations.changes();
        let mut due = tokio::time::Instant::now();
        let mut waiting = false;
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
            match self.send(&upstream, usize::MAX).await {
                Ok(0) => waiting = false,
                Ok(calls) => {
                    trace.reconciled(Some(calls));
                    waiting = false;
                }
                Err(error) if !waiting => {
                    tracing::warn!(%error, "reconciliation waits");
                    trace.reconciled(None);
                    waiting = true;
                }
                Err(error) => tracing::debug!(%error, "reconciliation waits"),
            }
            due = tokio::time::Instant::now() + INTERVAL;
        }
    }
}

/// Returns the events of the audit log at `path` that record a revocation on this host. Events that can't be read are passed
/// over: verifying the log reports them.
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
