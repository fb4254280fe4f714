//! What the faces read while the sync writes: the snapshot in force, and how the node stands with its control plane.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;

use super::decide::Now;
use super::snapshot::Snapshot;
use crate::protocol::event::Connectivity;
use crate::protocol::time::Time;

/// The node's standing with its control plane.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Whether it can be reached.
    pub connectivity: Connectivity,
    /// Since when.
    pub since: Time,
    /// When it last answered.
    pub last_contact: Option<Time>,
    /// What went wrong last, in a sentence.
    pub last_error: Option<String>,
}

/// Shared by all parts of a daemon.
pub struct Live {
    snapshot: ArcSwap<Snapshot>,
    standing: Mutex<Standing>,
    floor: AtomicI64,
    alarms: AtomicU64,
}

impl Live {
    /// Begins with what was loaded from disk.
    #[must_use]
    pub fn new(snapshot: Snapshot, floor: Time, now: Time) -> Self {
        let standing = Standing {
            connectivity: Connectivity::Connecting,
            since: now,
            last_contact: None,
            last_error: None,
        };
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            standing: Mutex::new(standing),
            floor: AtomicI64::new(floor.unix()),
            alarms: AtomicU64::new(0),
        }
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Puts another snapshot in force, and moves the time floor up to its head.
    pub fn replace(&self, snapshot: Snapshot) {
        if let Some(head) = snapshot.head() {
            self.floor.fetch_max(head.head().iat.unix(), Ordering::Relaxed);
        }
        self.snapshot.store(Arc::new(snapshot));
    }

    /// The time by `wall`, and what is known to have passed.
    #[must_use]
    pub fn now(&self, wall: Time) -> Now {
        Now { wall, floor: Time::from_unix(self.floor.load(Ordering::Relaxed)) }
    }

    /// The node's standing.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The control plane answered.
    pub fn reached(&self, now: Time) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.connectivity != Connectivity::Online {
            tracing::info!("the control plane answers");
            (standing.connectivity, standing.since) = (Connectivity::Online, now);
        }
        (standing.last_contact, standing.last_error) = (Some(now), None);
    }

    /// The control plane did not answer.
    pub fn lost(&self, error: String, now: Time) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.connectivity != Connectivity::Offline {
            tracing::warn!(%error, "the control plane can't be reached; deciding alone");
            (standing.connectivity, standing.since) = (Connectivity::Offline, now);
        }
        standing.last_error = Some(error);
    }

    /// Something happened that must not happen.
    pub fn alarm(&self, what: &str) {
        tracing::error!(alarm = what, "alarm");
        self.alarms.fetch_add(1, Ordering::Relaxed);
    }

    /// How many alarms there were since the start.
    #[must_use]
    pub fn alarms(&self) -> u64 {
        self.alarms.load(Ordering::Relaxed)
    }
}
