//! Membership of the node in its data plane: its retirement, other hosts with its identity, and its statements to the control plane.
//!
//! This module decides no request. A retired node continues like one that is cut off, from its verified replica, until the
//! staleness policy ends it. Otherwise one unsigned answer could end a host's work.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Method;
use thiserror::Error;

use super::Clock;
use super::alarm::{AlarmKind, Alarms};
use super::audit::arrived_checkpoint;
use super::live::{Damage, Live};
use super::proof::Prover;
use super::reconcile::Reconciler;
use super::replication::Replication;
use super::upstream::{Upstream, UpstreamError};
use crate::protocol::event::Connectivity;
use crate::protocol::head::SignedHead;
use crate::protocol::membership::{MAX_HEADS, NodeStanding, NodeStatement};
use crate::protocol::time::Time;

/// Interval at which the node checks for something new to state.
const LOOK: Duration = Duration::from_secs(1);
/// Maximum number of faults of the log that are taken from one answer.
const MAX_FAULTS: usize = 16;
/// Seconds between two statements while there is nothing new. The answer carries messages for the node.
const INTERVAL: i64 = 15;

/// Seconds for which another host under this identity counts as present.
const SEEN: i64 = 3600;

/// Facts about the node's membership: retired or not, and the only host of its identity or not.
#[derive(Debug, Default)]
pub struct Membership(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Answer of the control plane to a retired node.
    told_retired: Option<String>,
    /// Time at which the node was retired, by its own record in the replica.
    recorded_retired: Option<Time>,
    /// True if the control plane receives calls of two daemons under this identity.
    told_shared: bool,
    /// Time at which another host last answered or called under this identity.
    seen_shared: Option<Time>,
}

impl Known {
    fn retired(&self) -> Option<String> {
        self.told_retired.clone().or_else(|| self.recorded_retired.map(recorded))
    }

    fn shared(&self, now: Time) -> bool {
        self.told_shared || self.seen_shared.is_some_and(|at| now.since(at) < SEEN)
    }
}

impl Membership {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // Every change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the control plane accepts this node.
    pub fn accepted(&self) {
        self.lock().told_retired = None;
    }

    /// Records that the control plane states this node's retirement.
    pub fn refused(&self, detail: &str, alarms: &Alarms, now: Time) {
        self.change_retired(alarms, now, |known| known.told_retired = Some(detail.to_owned()));
    }

    /// Records the retirement time in the replica's record of this node.
    pub fn record_says(&self, retired_at: Option<Time>, alarms: &Alarms, now: Time) {
        self.change_retired(alarms, now, |known| known.recorded_retired = retired_at);
    }

    fn change_retired(&self, alarms: &Alarms, now: Time, change: impl FnOnce(&mut Known)) {
        let (before, after) = {
            let mut known = self.lock();
            let before = known.retired();
            change(&mut known);
            (before, known.retired())
        };
        if let (None, Some(why)) = (before, after) {
            raise_retired(alarms, &why, now);
        }
    }

    /// Returns the reason why the node counts as retired, or `None` if it does not.
    #[must_use]
    pub fn retired(&self) -> Option<String> {
        self.lock().retired()
    }

    /// Records whether the control plane receives calls of two daemons under this identity.
    pub fn told_shared(&self, shared: bool, alarms: &Alarms, now: Time) {
        let who = "the control plane hears two daemons under this node's identity";
        self.change_shared(who, alarms, now, |known| known.told_shared = shared);
    }

    /// Records that another daemon proved to hold this node's key. `who` describes it in the alarm.
    pub fn met_itself(&self, who: &str, alarms: &Alarms, now: Time) {
        let what = format!("{who} has this node's key, and is another daemon");
        self.change_shared(&what, alarms, now, |known| known.seen_shared = Some(now));
    }

    fn change_shared(&self, who: &str, alarms: &Alarms, now: Time, change: impl FnOnce(&mut Known)) {
        let (before, after) = {
            let mut known = self.lock();
            let before = known.shared(now);
            change(&mut known);
            (before, known.shared(now))
        };
        if after && !before {
            let what = format!(
                "{who}: another host has the identity of this one, since its state directory was copied; run \
                 `halligand new-identity` on the copy"
            );
            alarms.raise(AlarmKind::SharedIdentity, &what, now);
        }
    }

    /// Returns true if another host has this identity.
    #[must_use]
    pub fn shared(&self, now: Time) -> bool {
        self.lock().shared(now)
    }
}

fn recorded(at: Time) -> String {
    format!("its record in the replica says that it was retired at {at}")
}

fn raise_retired(alarms: &Alarms, why: &str, now: Time) {
    let what = format!(
        "this node was retired ({why}): it gets nothing more from its control plane, and denies everything once its replica \
         is older than the staleness policy allows; run `halligand new-identity` to enrol it again, or remove the daemon"
    );
    alarms.raise(AlarmKind::Retired, &what, now);
}

#[derive(Debug, Error)]
enum StatementError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the control plane's answer is not understood: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("the thread of the databases ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Last statement of the node.
#[derive(Default)]
struct Stated {
    at: Time,
    version: u64,
    /// Number of fork alarms before the evidence was read. Every new fork raises one, and so does a repeated one.
    alarms: u64,
    forks: usize,
}

impl Stated {
    /// Returns true if the last statement is old enough to repeat. A clock that was set back must not end the statements.
    fn due(&self, now: Time) -> bool {
        !(0..INTERVAL).contains(&now.since(self.at))
    }

    /// Returns true if there may be something new to state. Only then is the evidence read from the disk.
    fn may_be_old(&self, version: u64, alarms: u64, now: Time) -> bool {
        self.due(now) || (version, alarms) != (self.version, self.alarms)
    }
}

/// Sends the node's name and the version of its replica to the control plane.
pub struct Statements {
    prover: Arc<Prover>,
    live: Arc<Live>,
    replication: Arc<Replication>,
    clock: Clock,
    name: Option<String>,
    audit_path: PathBuf,
    stated: Stated,
    /// Faults of the log that the control plane reported last.
    faults: Vec<String>,
    /// Reason for which the control plane last rejected the name.
    name_refused: Option<String>,
}

impl Statements {
    /// Returns the statements of a node that its configuration calls `name`.
    #[must_use]
    pub fn new(reconciler: &Reconciler, replication: &Arc<Replication>, name: Option<String>) -> Self {
        Self {
            prover: Arc::clone(&reconciler.prover),
            live: Arc::clone(&reconciler.live),
            replication: Arc::clone(replication),
            clock: Arc::clone(&reconciler.clock),
            name,
            audit_path: reconciler.audit_path.clone(),
            stated: Stated::default(),
            faults: Vec::new(),
            name_refused: None,
        }
    }

    /// Runs until the task is dropped.
    pub async fn run(mut self, upstream: Arc<Upstream>) {
        let mut failing = false;
        loop {
            tokio::time::sleep(LOOK).await;
            self.observe();
            if self.live.connectivity() != Connectivity::Online {
                continue;
            }
            match self.state(&upstream).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    tracing::warn!(%error, "the control plane could not be told how this node stands");
                    failing = true;
                }
                Err(error) => {
                    tracing::debug!(%error, "the control plane could not be told how this node stands");
                }
            }
        }
    }

    /// Raises an alarm for each fault that the control plane reports of this host's log, once.
    fn told_faults(&mut self, faults: Vec<String>, now: Time) {
        let faults: Vec<String> = faults
            .into_iter()
            .take(MAX_FAULTS)
            .map(|fault| format!("the control plane says of this host's log: {fault}"))
            .collect();
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            self.live.alarms.raise(AlarmKind::Damaged, fault, now);
        }
        if faults != self.faults {
            let damage = |fault: &String| Damage { public: fault.clone(), full: fault.clone() };
            self.live.note_damage("log above", faults.iter().map(damage).collect());
            self.faults = faults;
        }
    }

    /// Reads this node's record in the replica.
    fn observe(&self) {
        let signers = self.live.snapshot().signers();
        let own = signers.get(&self.prover.identity.node_id);
        // A node that no replica names yet is not retired.
        let retired_at = own.and_then(|own| own.retired_at);
        self.live.membership.record_says(retired_at, &self.live.alarms, (self.clock)());
    }

    /// States new facts at once, and repeats old ones after a while.
    async fn state(&mut self, upstream: &Upstream) -> Result<(), StatementError> {
        let now = (self.clock)();
        let (version, head) = {
            let snapshot = self.live.snapshot();
            let head = snapshot.head();
            (head.map_or(0, |head| head.head().version), head.map(|head| SignedHead::as_str(head).to_owned()))
        };
        // Read before the evidence, so that a fork that arrives meanwhile is stated next.
        let alarms = self.live.alarms.count(AlarmKind::Fork);
        if !self.stated.may_be_old(version, alarms, now) {
            return Ok(());
        }
        let replication = Arc::clone(&self.replication);
        let forks = tokio::task::spawn_blocking(move || replication.forks()).await?;
        let forks = forks.unwrap_or_else(|error| {
            tracing::warn!(%error, "the evidence of forks can't be read; the statement goes without it");
            Vec::new()
        });
        self.stated.alarms = alarms;
        if !self.stated.due(now) && version == self.stated.version && forks.len() == self.stated.forks {
            return Ok(());
        }
        let audit = self.audit_path.clone();
        let checkpoint = tokio::task::spawn_blocking(move || arrived_checkpoint(&audit)).await?;
        let checkpoint = checkpoint.unwrap_or_else(|error| {
            tracing::warn!(%error, "the last checkpoint can't be read");
            None
        });
        let count = forks.len();
        let heads = forks.into_iter().rev().filter(|fork| fork.what == "head");
        let evidence = heads.take(MAX_HEADS - 1).map(|fork| fork.head);
        let heads = head.into_iter().chain(evidence).collect();
        let statement = NodeStatement { name: self.name.clone(), heads, checkpoint };
        // After a failure too: a control plane that rejects the statement is not called every second.
        self.stated = Stated { at: now, version, alarms, forks: count };
        let path = format!("/v1/data-planes/{}/statement", self.prover.identity.data_plane_id);
        let proof = || self.prover.upstream(now);
        let answer =
            upstream.send(Method::POST, &path, Some(&proof), serde_json::to_vec(&statement)?).await?;
        let standing: NodeStanding = serde_json::from_slice(&answer)?;
        if let Some(why) = news(&mut self.name_refused, standing.name_refused) {
            tracing::warn!(name = self.name, why, "the control plane does not take this node's name");
        }
        self.live.membership.told_shared(standing.shared_identity, &self.live.alarms, now);
        self.told_faults(standing.log_faults, now);
        Ok(())
    }
}

/// Stores `told`, and returns it if it differs from the stored one.
fn news(kept: &mut Option<String>, told: Option<String>) -> Option<&str> {
    if *kept == told {
        return None;
    }
    *kept = told;
    kept.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_unix(1_000);

    #[test]
    fn the_evidence_is_read_only_where_there_may_be_something_to_state() {
        let stated = Stated { at: NOW, version: 7, alarms: 2, forks: 3 };
        for second in 0..INTERVAL {
            assert!(!stated.may_be_old(7, 2, NOW.plus(second)), "{second}");
        }
        for (version, alarms, second) in [(8, 2, 1), (7, 3, 1), (7, 2, INTERVAL), (7, 2, -1)] {
            assert!(stated.may_be_old(version, alarms, NOW.plus(second)), "{version} {alarms} {second}");
        }
    }

    #[test]
    fn a_name_that_is_refused_is_told_once_until_the_reason_changes() {
        let mut kept = None;
        let mut told = |why: Option<&str>| news(&mut kept, why.map(str::to_owned)).map(str::to_owned);
        assert_eq!(told(Some("taken")).as_deref(), Some("taken"));
        assert_eq!(told(Some("taken")), None);
        assert_eq!(told(Some("too long")).as_deref(), Some("too long"));
        assert_eq!(told(None), None);
        assert_eq!(told(Some("too long")).as_deref(), Some("too long"));
    }

    #[test]
    fn one_retirement_is_one_alarm_whoever_tells_of_it_and_ends_when_the_node_is_taken_again() {
        let (membership, alarms) = (Membership::default(), Alarms::default());
        let count = || alarms.count(AlarmKind::Retired);
        membership.record_says(None, &alarms, NOW);
        assert_eq!((membership.retired(), count()), (None, 0));
        for _ in 0..3 {
            membership.refused("node nod_a was retired", &alarms, NOW);
            membership.record_says(Some(NOW), &alarms, NOW);
        }
        assert_eq!(count(), 1);
        membership.accepted();
        assert!(membership.retired().is_some(), "its record says so still");
        membership.record_says(None, &alarms, NOW);
        assert_eq!(membership.retired(), None);
        membership.refused("node nod_a was retired", &alarms, NOW);
        assert_eq!(count(), 2);
    }

    #[test]
    fn one_copy_is_one_alarm_while_it_is_heard_of() {
        let (membership, alarms) = (Membership::default(), Alarms::default());
        for second in 0..3 {
            membership.told_shared(true, &alarms, NOW);
            membership.met_itself("http://10.0.0.7:8182", &alarms, NOW.plus(second));
        }
        membership.told_shared(false, &alarms, NOW.plus(3));
        assert!(membership.shared(NOW.plus(4)), "a peer still is this node");
        assert_eq!(alarms.count(AlarmKind::SharedIdentity), 1);
        assert!(!membership.shared(NOW.plus(SEEN + 3)));
    }
}
