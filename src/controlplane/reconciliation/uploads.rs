//! Bounds on the bodies that nodes send: how much memory they take, and how many logs are stored at a time. After an outage all
//! nodes send at once.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;

/// Maximum size of all bodies in memory, in KiB.
const ROOM: usize = 64 << 10;
/// Uploads of events that are read or stored at a time: while one is written to the database, another is parsed.
const TURNS: usize = 2;
/// Time that a call waits for room. A node waits longer for its answer.
const QUEUED: Duration = Duration::from_secs(10);

/// Memory and turns for uploads.
pub(in crate::controlplane) struct Uploads {
    room: Arc<Semaphore>,
    turns: Semaphore,
    storing: Mutex<()>,
}

impl Uploads {
    /// Waits `patience` at most for memory for a body of `bytes`. A body that is larger than all of it waits for all of it.
    pub(super) async fn room_for(&self, bytes: usize, patience: Duration) -> Option<Room> {
        let kib = u32::try_from(bytes.div_ceil(1024).clamp(1, ROOM)).ok()?;
        let permit = timeout(patience, Arc::clone(&self.room).acquire_many_owned(kib)).await.ok()?.ok()?;
        Some(Room { _permit: permit })
    }

    /// Waits until no other upload is stored. Whoever else writes to the database then waits for one transaction of an upload,
    /// not for one of each.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.storing.lock()
    }
}

impl Default for Uploads {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(ROOM)), turns: Semaphore::new(TURNS), storing: Mutex::default() }
    }
}

/// Memory reserved for the body of one call.
pub(in crate::controlplane) struct Room {
    _permit: OwnedSemaphorePermit,
}

impl ControlPlane {
    /// Reserves memory for a body of `bytes`. Fails with [`Error::Busy`] if bodies of other nodes take all of it for too long.
    pub(in crate::controlplane) async fn room_for(&self, bytes: usize) -> Result<Room, Error> {
        self.uploads.room_for(bytes, QUEUED).await.ok_or_else(|| self.busy())
    }

    /// Waits for the turn to store events. Others wait here and not on a blocking thread, so that those stay free for
    /// calls of people.
    pub(in crate::controlplane) async fn turn_to_store(&self) -> Option<SemaphorePermit<'_>> {
        self.uploads.turns.acquire().await.ok()
    }
}
