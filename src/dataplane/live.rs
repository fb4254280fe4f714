//! What the faces read while the sync writes: the snapshot in force, and how the node stands with its control plane.

use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;

use super::alarm::Alarms;
use super::decide::Now;
use super::snapshot::{Local, Snapshot};
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
    /// Held by whoever makes a new snapshot from the one in force, so that none is lost between two.
    replacing: Mutex<()>,
    online: AtomicU8,
    /// What must not happen, and did.
    pub alarms: Alarms,
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
            replacing: Mutex::default(),
            online: AtomicU8::new(Connectivity::Connecting as u8),
            alarms: Alarms::default(),
        }
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Puts another replica in force, and moves the time floor up to its head. What is this node's own stays.
    pub fn replace(&self, make: impl FnOnce(&Snapshot) -> Snapshot) {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = make(&self.snapshot.load());
        if let Some(head) = snapshot.head() {
            self.floor.fetch_max(head.head().iat.unix(), Ordering::Relaxed);
        }
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Changes what is this node's own.
    pub fn change_local(&self, change: impl FnOnce(&mut Local)) {
        self.replace(|snapshot| {
            let mut local = snapshot.local().clone();
            change(&mut local);
            snapshot.with_local(local)
        });
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
            self.online.store(Connectivity::Online as u8, Ordering::Relaxed);
        }
        (standing.last_contact, standing.last_error) = (Some(now), None);
    }

    /// The control plane did not answer.
    pub fn lost(&self, error: String, now: Time) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.connectivity != Connectivity::Offline {
            tracing::warn!(%error, "the control plane can't be reached; deciding alone");
            (standing.connectivity, standing.since) = (Connectivity::Offline, now);
            self.online.store(Connectivity::Offline as u8, Ordering::Relaxed);
        }
        standing.last_error = Some(error);
    }

    /// Whether the control plane can be reached, without waiting for whoever finds out.
    #[must_use]
    pub fn connectivity(&self) -> Connectivity {
        let known = [Connectivity::Connecting, Connectivity::Online, Connectivity::Offline];
        let now = self.online.load(Ordering::Relaxed);
        known.into_iter().find(|state| *state as u8 == now).unwrap_or(Connectivity::Connecting)
    }

    /// Moves the time floor up; returns where it stands.
    pub fn raise_floor(&self, time: Time) -> Time {
        Time::from_unix(self.floor.fetch_max(time.unix(), Ordering::Relaxed).max(time.unix()))
    }
}
