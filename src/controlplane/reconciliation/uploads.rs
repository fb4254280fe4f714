//! Waiting of nodes that send bodies: for memory, and for their turn to be stored.

use std::time::Duration;

use tokio::sync::SemaphorePermit;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::memory::uploads::Room;

/// Maximum time that a call waits for memory. It is shorter than the time that a node waits for the answer.
const QUEUED: Duration = Duration::from_secs(10);

impl ControlPlane {
    /// Reserves memory for a body of `bytes`. Fails with [`Error::Busy`] if bodies of other nodes take all of it for too long.
    pub(in crate::controlplane) async fn room_for(&self, bytes: usize) -> Result<Room, Error> {
        self.uploads.room_for(bytes, QUEUED).await.ok_or_else(|| self.busy())
    }

    /// Waits for the turn to store events. Uploads wait here and not on a blocking thread, so that those threads stay free
    /// for calls of people.
    pub(in crate::controlplane) async fn turn_to_store(&self) -> Option<SemaphorePermit<'_>> {
        self.uploads.turn().await
    }
}
