//! Code of deployments on this host: for each deployment the archives of its deploys, and a link to the unpacked one that
//! it runs.
//!
//! Signed objects decide which one that is: the control plane's deploy, or in an outage one that a host took from a client
//! ([order](crate::protocol::deploy::order)). They are verified when they arrive, at every start and every minute. An archive is
//! unpacked beside the others before the link moves, by one rename; going back to an older deploy takes no download.
//! Without the control plane everything stays. It is removed only when the verified replica no longer has the deployment.

mod admit;
mod deployment_code;
mod incoming;
mod observe;
mod outgoing;
mod place;
mod push;
mod report;
mod settle;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use self::deployment_code::DeploymentCode;
pub use self::incoming::{Incoming, ReceiveError};
pub use self::observe::{CodeMetrics, CodeState};
pub use self::outgoing::body_of;
use self::place::Place;
pub use self::push::{PushError, Pushed, Source};
pub use self::report::Report;
pub use self::settle::Wanted;
use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::state::Live;
use crate::protocol::id::{DeployId, DeploymentId};

/// Maximum number of host deploys that are kept for one deployment. The least of them go first.
const MAX_HOST_DEPLOYS: usize = 32;

/// Effect of a deploy that the control plane sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is held. Its archive may still be missing.
    Held,
    /// It was refused. The same one would be refused again.
    Refused,
    /// It may be taken later: its deployment is not in the replica yet, or the disk failed.
    Later,
}

/// Number of switches and of superseded host deploys since the start.
#[derive(Debug, Default)]
struct Counts {
    from_control_plane: AtomicU64,
    from_host: AtomicU64,
    superseded: AtomicU64,
}

/// Code of the deployments of this host.
pub struct Code {
    directory: PathBuf,
    /// Number of archives that are kept unpacked for each deployment.
    keep: usize,
    prover: Arc<Prover>,
    live: Arc<Live>,
    /// Random bits and a counter, from which the ids of deploys are made.
    seed: [u8; 16],
    pushes: AtomicU64,
    held: Mutex<BTreeMap<DeploymentId, DeploymentCode>>,
    busy: Arc<Mutex<BTreeSet<DeploymentId>>>,
    /// True once the objects on the disk were read.
    checked: AtomicBool,
    changes: watch::Sender<()>,
    counts: Counts,
    /// State for operators and metrics, as of the last change.
    states: ArcSwap<Vec<CodeState>>,
}

/// Exclusive use of the files of one deployment. Two archives never arrive for one deployment at a time.
pub struct Claim {
    deployment: DeploymentId,
    busy: Arc<Mutex<BTreeSet<DeploymentId>>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.deployment);
    }
}

impl Claim {
    /// Returns the deployment.
    #[must_use]
    pub fn deployment(&self) -> &DeploymentId {
        &self.deployment
    }
}

impl Code {
    /// Returns the code in `directory`, which is not trusted before [`Self::check`] has verified it. `keep` archives are
    /// kept for each deployment. `seed` is random.
    #[must_use]
    pub fn new(
        directory: PathBuf,
        keep: usize,
        prover: Arc<Prover>,
        live: Arc<Live>,
        seed: [u8; 16],
    ) -> Self {
        Self {
            directory,
            keep,
            prover,
            live,
            seed,
            pushes: AtomicU64::default(),
            held: Mutex::default(),
            busy: Arc::default(),
            checked: AtomicBool::default(),
            changes: watch::Sender::new(()),
            counts: Counts::default(),
            states: ArcSwap::default(),
        }
    }

    /// Returns a receiver that is told of each new host deploy.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Claims the files of a deployment, unless an archive arrives for it or is unpacked.
    #[must_use]
    pub fn claim(&self, deployment: &DeploymentId) -> Option<Claim> {
        let free = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(deployment.clone());
        free.then(|| Claim { deployment: deployment.clone(), busy: Arc::clone(&self.busy) })
    }

    /// Returns the versions of the signed deploys held, for the question to the control plane.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<String, u64> {
        let held = self.held();
        // A deploy whose object is gone is requested anew. Its version still rejects an older deploy.
        let there = held.iter().filter(|(deployment, _)| self.place(deployment).signed().exists());
        let version = |held: &DeploymentCode| held.signed.as_ref().map(|signed| signed.deploy().version);
        there.filter_map(|(deployment, held)| Some((deployment.to_string(), version(held)?))).collect()
    }

    /// Returns the host deploys that peers may need: those that no signed deploy held here has ended.
    #[must_use]
    pub fn host_deploys(&self, most: usize) -> Vec<String> {
        let held = self.held();
        let texts =
            held.values().flat_map(|held| held.open_hosts().map(|known| known.signed.as_str().to_owned()));
        texts.take(most).collect()
    }

    /// Opens the archive of a deploy, for a peer. Returns the file and its size.
    #[must_use]
    pub fn archive(&self, deployment: &DeploymentId, deploy: &DeployId) -> Option<(std::fs::File, u64)> {
        let names = self.held().get(deployment)?.names();
        let name = names.into_iter().find(|name| name.deploy == *deploy)?;
        let file = std::fs::File::open(self.place(deployment).archive(&name)).ok()?;
        let size = file.metadata().ok()?.len();
        Some((file, size))
    }

    fn place(&self, deployment: &DeploymentId) -> Place {
        Place::new(&self.directory, deployment)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<DeploymentId, DeploymentCode>> {
        // Each change is one insertion or removal, complete even after a panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the snapshot if it is verified.
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let snapshot = Arc::clone(&self.live.snapshot());
        snapshot.keyset().is_some().then_some(snapshot)
    }
}

#[cfg(test)]
mod tests;
