//! The node as a member of its data plane: whether it was retired, whether another host has its identity, and what it
//! states of itself to its control plane.
//!
//! Nothing here decides a request. A node that was retired goes on as one that is cut off: by what it has proved, until the
//! staleness policy ends it. Otherwise one unsigned answer could end a host's work.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Method;
use thiserror::Error;

use super::Clock;
use super::alarm::{AlarmKind, Alarms};
use super::live::Live;
use super::proof::Prover;
use super::reconcile::Reconciler;
use super::replication::Replication;
use super::upstream::{Upstream, UpstreamError};
use crate::protocol::event::Connectivity;
use crate::protocol::head::SignedHead;
use crate::protocol::membership::{MAX_HEADS, NodeStanding, NodeStatement};
use crate::protocol::time::Time;

/// How often the node looks whether there is something new to state.
const LOOK: Duration = Duration::from_secs(1);
/// Seconds between two statements while there is nothing new: what the node is told comes with the answer.
const INTERVAL: i64 = 15;

/// Whether the node is still one of its data plane, and the only host of its identity.
#[derive(Debug, Default)]
pub struct Membership {
    /// What the control plane answers to a retired node.
    told: Mutex<Option<String>>,
    /// When the node was retired, by its own record in the replica.
    recorded: Mutex<Option<Time>>,
    shared: AtomicBool,
}

impl Membership {
    /// The control plane takes this node for one.
    pub fn accepted(&self) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The control plane says that the node was retired.
    pub fn refused(&self, detail: &str, alarms: &Alarms, now: Time) {
        let before = self.told.lock().unwrap_or_else(PoisonError::into_inner).replace(detail.to_owned());
        if before.is_none() {
            raise_retired(alarms, detail, now);
        }
    }

    /// Notes what the replica's record of this node says.
    pub fn record_says(&self, retired_at: Option<Time>, alarms: &Alarms, now: Time) {
        let before =
            std::mem::replace(&mut *self.recorded.lock().unwrap_or_else(PoisonError::into_inner), retired_at);
        if let (None, Some(at)) = (before, retired_at) {
            raise_retired(alarms, &recorded(at), now);
        }
    }

    /// Why the node counts as retired; `None` while it does not.
    #[must_use]
    pub fn retired(&self) -> Option<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        told.or_else(|| self.recorded.lock().unwrap_or_else(PoisonError::into_inner).map(recorded))
    }

    /// Notes whether another host has this identity. `what` says who saw it.
    pub fn set_shared(&self, shared: bool, what: &str, alarms: &Alarms, now: Time) {
        if shared && !self.shared.swap(shared, Ordering::Relaxed) {
            let what = format!(
                "{what}: another host has the identity of this one, since its state directory was copied; run \
                 `halligand new-identity` on the copy"
            );
            alarms.raise(AlarmKind::SharedIdentity, &what, now);
        }
        self.shared.store(shared, Ordering::Relaxed);
    }

    /// Whether another host has this identity.
    #[must_use]
    pub fn shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
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

/// What the node stated last.
#[derive(Default)]
struct Stated {
    at: Time,
    version: u64,
    forks: usize,
}

/// States to the control plane what the node is called and which replica it holds.
pub struct Statements {
    prover: Arc<Prover>,
    live: Arc<Live>,
    replication: Arc<Replication>,
    clock: Clock,
    name: Option<String>,
    stated: Stated,
}

impl Statements {
    /// The statements of a node that its configuration calls `name`.
    #[must_use]
    pub fn new(reconciler: &Reconciler, replication: &Arc<Replication>, name: Option<String>) -> Self {
        Self {
            prover: Arc::clone(&reconciler.prover),
            live: Arc::clone(&reconciler.live),
            replication: Arc::clone(replication),
            clock: Arc::clone(&reconciler.clock),
            name,
            stated: Stated::default(),
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
                    tracing::debug!(%error, "the control plane could not be told how this node stands")
                }
            }
        }
    }

    /// Looks up what the replica says of this node.
    fn observe(&self) {
        let signers = self.live.snapshot().signers();
        let own = signers.get(&self.prover.identity.node_id);
        // A node that no replica names yet is not retired.
        let retired_at = own.and_then(|own| own.retired_at);
        self.live.membership.record_says(retired_at, &self.live.alarms, (self.clock)());
    }

    /// States what is new, or, after a while, what was stated before.
    async fn state(&mut self, upstream: &Upstream) -> Result<(), StatementError> {
        let now = (self.clock)();
        let (version, head) = {
            let snapshot = self.live.snapshot();
            let head = snapshot.head();
            (head.map_or(0, |head| head.head().version), head.map(|head| SignedHead::as_str(head).to_owned()))
        };
        let replication = Arc::clone(&self.replication);
        let forks = tokio::task::spawn_blocking(move || replication.forks()).await?.unwrap_or_default();
        // A clock that was set back must not end the statements.
        let due = !(0..INTERVAL).contains(&now.since(self.stated.at));
        if !due && version == self.stated.version && forks.len() == self.stated.forks {
            return Ok(());
        }
        let count = forks.len();
        let evidence = forks.into_iter().rev().take(MAX_HEADS - 1).map(|fork| fork.head);
        let statement =
            NodeStatement { name: self.name.clone(), heads: head.into_iter().chain(evidence).collect() };
        // Also when it fails: whoever refuses it is not asked every second.
        self.stated = Stated { at: now, version, forks: count };
        let path = format!("/v1/data-planes/{}/statement", self.prover.identity.data_plane_id);
        let (jwt, body) = (self.prover.upstream(now), serde_json::to_vec(&statement)?);
        let answer = upstream.send(Method::POST, &path, Some(&jwt), body).await?;
        let standing: NodeStanding = serde_json::from_slice(&answer)?;
        if let Some(why) = standing.name_refused {
            tracing::warn!(name = self.name, why, "the control plane does not take this node's name");
        }
        let who = "the control plane hears two daemons under this node's identity";
        self.live.membership.set_shared(standing.shared_identity, who, &self.live.alarms, now);
        Ok(())
    }
}
