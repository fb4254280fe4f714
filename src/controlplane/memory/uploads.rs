//! Bounds on the bodies that nodes send: how much memory they take, and how many logs are stored at a time. After an outage all
//! nodes send at once.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Maximum size of all bodies in memory, in KiB.
const ROOM: usize = 64 << 10;
/// Maximum number of uploads of events that are parsed or stored at a time: while one is written to the database, another is
/// parsed.
const TURNS: usize = 2;

/// Limits of memory and of concurrent uploads.
pub(in crate::controlplane) struct Uploads {
    room: Arc<Semaphore>,
    turns: Semaphore,
    storing: Mutex<()>,
}

impl Uploads {
    /// Waits `patience` at most for memory for a body of `bytes`. A body that exceeds the maximum of all bodies waits for
    /// all of it.
    pub(in crate::controlplane) async fn room_for(&self, bytes: usize, patience: Duration) -> Option<Room> {
        let kib = u32::try_from(bytes.div_ceil(1024).clamp(1, ROOM)).ok()?;
        let permit = timeout(patience, Arc::clone(&self.room).acquire_many_owned(kib)).await.ok()?.ok()?;
        Some(Room { _permit: permit })
    }

    /// Waits for the turn to read and store events. Returns none if the turns were closed, which nothing does.
    pub(in crate::controlplane) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// Waits until no other upload is being stored. Other writers to the database then wait for one transaction of one upload, not
    /// for one of each upload.
    pub(in crate::controlplane) fn alone(&self) -> MutexGuard<'_, ()> {
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
