//! Replication: what takes bundles in, from wherever they come, and puts what they prove in force.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;

use super::live::Live;
use super::snapshot::{Snapshot, Staleness};
use super::store::{Origin, ReplicaStore, StoreError};
use crate::protocol::jws::BASE64URL;
use crate::protocol::time::Time;

/// How often the time floor is written down, in seconds.
const FLOOR_INTERVAL: i64 = 60;

/// What a replica was proved to be.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The head's version.
    pub version: u64,
    /// When the head was signed.
    pub signed_at: Time,
    /// The keyset's version.
    pub keyset: u64,
    /// How many records there are.
    pub records: u64,
    /// Their digest.
    pub digest: String,
}

/// The replica's database and the snapshot made from it, moving together.
pub struct Replication {
    store: Mutex<ReplicaStore>,
    live: Arc<Live>,
    staleness: Staleness,
}

impl Replication {
    /// Joins a store with what the faces read.
    #[must_use]
    pub fn new(store: ReplicaStore, live: Arc<Live>, staleness: Staleness) -> Self {
        Self { store: Mutex::new(store), live, staleness }
    }

    /// What the faces read.
    #[must_use]
    pub fn live(&self) -> &Live {
        &self.live
    }

    fn store(&self) -> MutexGuard<'_, ReplicaStore> {
        // Every change is a SQLite transaction: after a panic the store is as it was before.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of the head and of the keyset held.
    pub fn position(&self) -> Result<(u64, u64), StoreError> {
        self.store().position()
    }

    /// Takes a bundle in and swaps the snapshot.
    pub fn take(&self, bundle: &[u8], origin: Origin, now: Time) -> Result<(), StoreError> {
        let mut store = self.store();
        let outcome = store.apply(bundle, origin, now);
        // Also when it was refused: a takeaway may have come of it.
        if let Some(replica) = store.load()? {
            let floor = self.live.raise_floor(replica.head.head().iat.max(now));
            if floor.since(store.floor()?) >= FLOOR_INTERVAL {
                store.raise_floor(floor)?;
            }
            self.live.replace(|previous| Snapshot::build(replica, self.staleness.clone(), Some(previous)));
        }
        outcome
    }

    /// Proves what is on the disk anew; `None` when there is nothing yet.
    pub fn prove(&self) -> Result<Option<Proof>, StoreError> {
        let replica = self.store().load()?;
        Ok(replica.map(|replica| Proof {
            version: replica.head.head().version,
            signed_at: replica.head.head().iat,
            keyset: replica.keyset.version(),
            records: replica.head.head().count,
            digest: BASE64URL.encode(replica.head.head().digest),
        }))
    }

    /// The records, and nothing that is not proved.
    pub fn records(&self) -> Result<Vec<crate::protocol::record::Record>, StoreError> {
        Ok(self.store().load()?.map_or_else(Vec::new, |replica| replica.records))
    }

    /// The replica as a bundle.
    pub fn export(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.store().export()
    }
}
