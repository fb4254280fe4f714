//! Reconciliation: the node sends what its control plane does not have yet, in this order: revocations, the statement of an
//! outage that is over, events. Each can be sent twice, and is stored once.
//!
//! The choice of calls and the handling of answers need no network: a [`Round`] returns a [`Call`] and takes its answer.
//! [`Reconciler::send`] does the I/O.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use thiserror::Error;

use super::client::{Upstream, UpstreamError};
use super::outage::{OutageError, Outages};
use crate::dataplane::audit::{AuditError, events, extent, hash_at, readable, set_uploaded};
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::inventory::{AUDIT, Inventory, REVOCATIONS};
use crate::dataplane::node::schema::Unfit;
use crate::dataplane::node::state::Live;
use crate::dataplane::observe::traces::Traces;
use crate::dataplane::revocations::{LedgerError, Revocations};
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
    /// Events after the first place, up to the second, with the hash of the last one. Events before the first place that can't be
    /// read are lost: the first and the last of them.
    Events(u64, Position, Option<(u64, u64)>),
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
        Ok(last.map(|last| Call { path, body: body.into_bytes(), sent: Sent::Events(from, last, missing) }))
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
            Sent::Events(from, last, missing) => {
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

/// Returns the events of the audit log at `path` that record a revocation on this host.
pub(in crate::dataplane) fn revocations_told(path: &Path) -> Result<Vec<Event>, AuditError> {
    let (mut after, mut told) = (0, Vec::new());
    loop {
        let lines = match events(path, after, MAX_LINES) {
            Ok(lines) if lines.is_empty() => return Ok(told),
            Ok(lines) => lines,
            // An unreadable block is no witness. Verifying the log reports it.
            Err(AuditError::Block(_)) => return Ok(told),
            Err(error) => return Err(error),
        };
        after += i64::try_from(lines.len()).unwrap_or(i64::MAX);
        let revoked = lines.iter().filter(|line| line.contains(r#""kind":"revocation""#));
        told.extend(revoked.filter_map(|line| serde_json::from_str::<Event>(line).ok()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rusqlite::Connection;

    use super::*;
    use crate::dataplane::audit::AuditLog;
    use crate::dataplane::decide::snapshot::Snapshot;
    use crate::dataplane::node::credential::Nonces;
    use crate::dataplane::node::identity::Identity;
    use crate::protocol::event::{Draft, EventKind};
    use crate::protocol::key::SigningKey;

    const T: Time = Time::from_unix(1_800_000_000);

    /// Returns the state of a node whose log holds `events` events, each a block of its own.
    fn node(directory: &Path, events: usize) -> Arc<Reconciler> {
        let clock: Clock = Arc::new(|| T);
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), T));
        let key = Arc::new(SigningKey::from_seed(&[1; 32]));
        let identity = Identity {
            node_id: "nod_a".parse().unwrap(),
            data_plane_id: "dpl_a".parse().unwrap(),
            issuer: "https://control.example".into(),
        };
        let node = identity.node_id.clone();
        let path = directory.join(AUDIT);
        let audit = AuditLog::open(&path, node.clone(), Arc::clone(&key), Arc::clone(&clock), 100).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for _ in 0..events {
            let id = audit.next_id();
            let draft = Draft::new(EventKind::Decision, &id, T, &node, Connectivity::Online);
            runtime.block_on(audit.record_durably(&draft)).unwrap();
        }
        audit.close();
        let nonces = Nonces::new(&mut rand_core::UnwrapErr(getrandom::SysRng));
        Reconciler::open(directory, Arc::new(Prover { identity, key, nonces }), &live, &clock).unwrap()
    }

    /// Plays a round with a control plane that takes all in. Returns the path of each call, without what all have in common, and
    /// the numbers of its events.
    fn told(reconciler: &Reconciler) -> Vec<(String, Vec<u64>)> {
        let (mut round, mut calls) = (Round::default(), Vec::new());
        while let Some(call) = round.next(reconciler, T).unwrap() {
            let body = String::from_utf8(call.body.clone()).unwrap();
            let events = body.lines().map(|line| serde_json::from_str::<Event>(line).unwrap().sequence);
            calls.push((call.path.rsplit('/').next().unwrap().to_owned(), events.collect::<Vec<_>>()));
            let last = body.lines().last().unwrap();
            let sequence = *calls.last().unwrap().1.last().unwrap();
            let answer = serde_json::to_vec(&Position { sequence, hash: line_hash(last) }).unwrap();
            round.answered(reconciler, &call, &answer, T).unwrap();
        }
        calls
    }

    #[test]
    fn a_block_that_cannot_be_read_keeps_no_later_use_from_the_control_plane() {
        let directory = tempfile::tempdir().unwrap();
        let reconciler = node(directory.path(), 6);
        let damaged = "UPDATE block SET lines = x'00' WHERE first IN (3, 4)";
        assert_eq!(Connection::open(&reconciler.audit_path).unwrap().execute(damaged, []).unwrap(), 2);
        let told = told(&reconciler);
        assert_eq!(
            told,
            [("events?oldest=1".to_owned(), vec![1, 2]), ("events?oldest=5".to_owned(), vec![5, 6])],
            "it says that it no longer has what is missing"
        );
        let alarms = reconciler.live.alarms.latest();
        assert_eq!(alarms.len(), 1, "the loss is named");
        assert!(alarms[0].what.contains("events 3 to 4 "), "{}", alarms[0].what);
    }

    #[test]
    fn a_log_of_which_nothing_more_can_be_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let reconciler = node(directory.path(), 6);
        Connection::open(&reconciler.audit_path)
            .unwrap()
            .execute("UPDATE block SET lines = x'00' WHERE first > 2", [])
            .unwrap();
        assert_eq!(told(&reconciler), [("events?oldest=1".to_owned(), vec![1, 2])]);
        let alarms = reconciler.live.alarms.latest();
        assert_eq!(alarms.len(), 1);
        assert!(alarms[0].what.contains(" from 3 on "), "{}", alarms[0].what);
    }

    #[test]
    fn a_control_plane_may_send_a_node_back_to_an_event_that_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let reconciler = node(directory.path(), 6);
        let connection = Connection::open(&reconciler.audit_path).unwrap();
        connection.execute("UPDATE block SET lines = x'00' WHERE first = 3", []).unwrap();
        let hash = hash_at(&reconciler.audit_path, 5).unwrap().unwrap();
        set_uploaded(&reconciler.audit_path, &Position { sequence: 5, hash }).unwrap();
        let mut round = Round::default();
        let call = round.next(&reconciler, T).unwrap().unwrap();
        let back = Position { sequence: 3, hash: "of a backup".into() };
        round.answered(&reconciler, &call, &serde_json::to_vec(&back).unwrap(), T).unwrap();
        assert_eq!(told(&reconciler), [("events?oldest=1".to_owned(), vec![4, 5, 6])]);
    }
}
