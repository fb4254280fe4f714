//! Statements of the node to its control plane: what it holds, and what it saw of other hosts. The answer says what the
//! control plane knows of the node's membership.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use tokio::sync::watch;

use super::client::Upstream;
use super::environment::Follower;
use super::error::StatementError;
use super::reconcile::Reconciler;
use crate::dataplane::audit::arrived_checkpoint;
use crate::dataplane::environment::Environments;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::state::{Damage, Live};
use crate::dataplane::replica::replication::Replication;
use crate::platform::clock::Clock;
use crate::platform::failing::Failing;
use crate::protocol::environment::key::sign_encryption_key;
use crate::protocol::event::Connectivity;
use crate::protocol::head::SignedHead;
use crate::protocol::json::object;
use crate::protocol::membership::{MAX_HEADS, NodeStanding, NodeStatement};
use crate::protocol::time::Time;

/// Interval at which the node checks for something new to state.
const LOOK: Duration = Duration::from_secs(1);
/// Maximum number of faults of the log that are taken from one answer.
const MAX_FAULTS: usize = 16;
/// Seconds between two statements while there is nothing new. The answer carries messages for the node.
const INTERVAL: i64 = 15;

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
    environments: Arc<Environments>,
    environment: Follower,
    /// Number of changes of code, for the part that follows them.
    code_changes: watch::Sender<Option<u64>>,
    stated: Stated,
    /// Faults of the log that the control plane reported last.
    faults: Vec<String>,
    /// Reason for which the control plane last rejected the name.
    name_refused: Option<String>,
    checking: Failing,
    stating: Failing,
    evidence: Failing,
    checkpoint: Failing,
}

impl Statements {
    /// Returns the statements of a node that its configuration calls `name`.
    #[must_use]
    pub fn new(
        reconciler: &Reconciler,
        replication: &Arc<Replication>,
        name: Option<String>,
        environments: &Arc<Environments>,
        code_changes: watch::Sender<Option<u64>>,
    ) -> Self {
        let (prover, live) = (Arc::clone(&reconciler.prover), Arc::clone(&reconciler.live));
        let environment = Follower::new(Arc::clone(environments), prover, live);
        Self {
            environments: Arc::clone(environments),
            environment,
            code_changes,
            prover: Arc::clone(&reconciler.prover),
            live: Arc::clone(&reconciler.live),
            replication: Arc::clone(replication),
            clock: Arc::clone(&reconciler.clock),
            name,
            audit_path: reconciler.audit_path.clone(),
            stated: Stated::default(),
            faults: Vec::new(),
            name_refused: None,
            checking: Failing::default(),
            stating: Failing::default(),
            evidence: Failing::default(),
            checkpoint: Failing::default(),
        }
    }

    /// Runs until the task is dropped.
    pub async fn run(mut self, upstream: Arc<Upstream>) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.observe();
            let checked = self.environment.check((self.clock)()).await;
            self.checking.log(&checked, "the environments of deployments could not be checked");
            if self.live.connectivity() != Connectivity::Online {
                continue;
            }
            // A look without a statement is no success: it must not end the failure of the statement before it.
            if let Some(stated) = self.state(&upstream).await.transpose() {
                self.stating.log(&stated, "the node's statement could not be sent to the control plane");
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

    /// States new facts at once, and repeats old ones after a while. Returns `None` if there is nothing to state yet.
    async fn state(&mut self, upstream: &Upstream) -> Result<Option<()>, StatementError> {
        let now = (self.clock)();
        let (version, head) = {
            let snapshot = self.live.snapshot();
            let head = snapshot.head();
            (head.map_or(0, |head| head.head().version), head.map(|head| SignedHead::as_str(head).to_owned()))
        };
        // Read before the evidence, so that a fork that arrives meanwhile is stated next.
        let alarms = self.live.alarms.count(AlarmKind::Fork);
        if !self.stated.may_be_old(version, alarms, now) {
            return Ok(None);
        }
        let replication = Arc::clone(&self.replication);
        let forks = tokio::task::spawn_blocking(move || replication.forks()).await?;
        self.evidence.log(&forks, "the evidence of forks can't be read; the statement goes without it");
        let forks = forks.unwrap_or_default();
        self.stated.alarms = alarms;
        if !self.stated.due(now) && version == self.stated.version && forks.len() == self.stated.forks {
            return Ok(None);
        }
        let audit = self.audit_path.clone();
        let checkpoint = tokio::task::spawn_blocking(move || arrived_checkpoint(&audit)).await?;
        self.checkpoint.log(&checkpoint, "the last checkpoint can't be read");
        let checkpoint = checkpoint.unwrap_or_default();
        let count = forks.len();
        let heads = forks.into_iter().rev().filter(|fork| fork.what == "head");
        let evidence = heads.take(MAX_HEADS - 1).map(|fork| fork.head);
        let heads = head.into_iter().chain(evidence).collect();
        let (node, key) = (&self.prover.identity.node_id, &self.prover.key);
        let encryption_key = Some(sign_encryption_key(node, self.environments.key().public(), now, key));
        let statement = NodeStatement { name: self.name.clone(), heads, checkpoint, encryption_key };
        // After a failure too: a control plane that rejects the statement is not called every second.
        self.stated = Stated { at: now, version, alarms, forks: count };
        let path = format!("/v1/data-planes/{}/statement", self.prover.identity.data_plane_id);
        let proof = || self.prover.upstream(now);
        let answer =
            upstream.send(Method::POST, &path, Some(&proof), serde_json::to_vec(&statement)?).await?;
        let standing: NodeStanding = object(&answer)?;
        if let Some(why) = news(&mut self.name_refused, standing.name_refused) {
            tracing::warn!(name = self.name, why, "the control plane does not take this node's name");
        }
        self.live.membership.record_shared(standing.shared_identity, &self.live.alarms, now);
        self.told_faults(standing.log_faults, now);
        // First, because a failure of the other does not concern it.
        self.code_changes.send_replace(standing.deploy_changes);
        if let Some(changes) = standing.environment_changes {
            self.environment.follow(changes, upstream, now).await?;
        }
        Ok(Some(()))
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
}
