//! Versions of all replicas as of the last commit, in memory. Thousands of nodes wait for the next version of their replica;
//! waiting costs no read of the database.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rusqlite::{Connection, OptionalExtension as _, Row};
use tokio::sync::watch;

use crate::protocol::digest::ReplicaDigest;

/// State of a data plane's replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Version of the replica.
    pub version: u64,
    /// Number of its records.
    pub count: u64,
    /// Checksum of their digest.
    pub digest: [u8; 32],
}

const COLUMNS: &str = "SELECT rowid, id, version, count, digest FROM data_plane";

/// Rows that the current transaction has touched.
#[derive(Debug, Default)]
struct Touched {
    planes: HashSet<i64>,
    nodes: bool,
}

/// Replicas by data plane. Each has a channel of its own, so that a change wakes only the nodes that have to receive it.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    channels: RwLock<HashMap<String, (i64, watch::Sender<Published>)>>,
    touched: Arc<Mutex<Touched>>,
    /// Number of changes of the nodes' rows.
    nodes: AtomicU64,
    /// `PRAGMA data_version` as of the last commit: it moves when another process has written.
    seen: Mutex<Option<i64>>,
}

fn touched(of: &Mutex<Touched>) -> MutexGuard<'_, Touched> {
    // A poisoned lock is safe to use: the set only grows within a transaction.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a replica's row: its number, its data plane, and its state unless the digest is damaged.
fn read(row: &Row<'_>) -> rusqlite::Result<(i64, String, Option<Published>)> {
    let lanes: Vec<u8> = row.get(4)?;
    let (version, count) = (row.get(2)?, row.get(3)?);
    let published = ReplicaDigest::from_bytes(&lanes).map(|digest| Published {
        version,
        count,
        digest: digest.checksum(),
    });
    Ok((row.get(0)?, row.get(1)?, published))
}

impl Replicas {
    /// Reads all replicas, and from now on records the rows that the writer's connection touches.
    pub(super) fn follow(&self, writer: &mut Connection) -> rusqlite::Result<()> {
        let rows = Arc::clone(&self.touched);
        writer.update_hook(Some(move |_, _: &str, table: &str, row| match table {
            "data_plane" => _ = touched(&rows).planes.insert(row),
            "node" => touched(&rows).nodes = true,
            _ => {}
        }))?;
        self.refresh(writer)
    }

    /// Clears the record of touched rows, which may be left of a transaction that was rolled back.
    pub(super) fn begin(&self) {
        std::mem::take(&mut *touched(&self.touched));
    }

    /// Publishes the changes of a committed transaction, and wakes the nodes that wait for them.
    pub(super) fn committed(&self, writer: &Connection) {
        let Touched { planes, nodes } = std::mem::take(&mut *touched(&self.touched));
        if nodes {
            self.nodes.fetch_add(1, Ordering::Release);
        }
        for row in planes {
            let found = writer
                .prepare_cached(&format!("{COLUMNS} WHERE rowid = ?1"))
                .and_then(|mut query| query.query_row([row], read).optional());
            match found {
                Ok(Some((row, id, published))) => self.publish(row, id, published),
                Ok(None) => self.channels().retain(|_, (known, _)| *known != row),
                // The change is committed, and the next refresh reads its version again.
                Err(error) => {
                    tracing::error!(%error, "the version of a replica can't be read after a commit");
                    *self.seen() = None;
                }
            }
        }
    }

    /// Reads all replicas again if another process, such as `halligan-control recover`, has written since the last time.
    pub(super) fn refresh(&self, writer: &Connection) -> rusqlite::Result<()> {
        let now: i64 = writer.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        if *self.seen() == Some(now) {
            return Ok(());
        }
        let mut query = writer.prepare(COLUMNS)?;
        let rows = query.query_map([], read)?.collect::<Result<Vec<_>, _>>()?;
        self.channels().retain(|known, _| rows.iter().any(|(_, id, _)| id == known));
        for (row, id, published) in rows {
            self.publish(row, id, published);
        }
        self.nodes.fetch_add(1, Ordering::Release);
        *self.seen() = Some(now);
        Ok(())
    }

    fn publish(&self, row: i64, id: String, published: Option<Published>) {
        // No head can be signed for this data plane. The others are served.
        let Some(published) = published else {
            tracing::error!(data_plane = id, "the digest of this replica is damaged in the database");
            self.channels().remove(&id);
            return;
        };
        let known = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, channel)) = known.get(&id) {
            channel.send_if_modified(|before| std::mem::replace(before, published) != published);
            return;
        }
        drop(known);
        self.channels().insert(id, (row, watch::Sender::new(published)));
    }

    /// Wakes all waiting nodes, although no replica has changed.
    pub(super) fn wake(&self) {
        for (_, channel) in self.channels.read().unwrap_or_else(PoisonError::into_inner).values() {
            channel.send_modify(|_| {});
        }
    }

    /// Returns the channel of a data plane's replica, if there is one.
    pub(super) fn subscribe(&self, data_plane: &str) -> Option<watch::Receiver<Published>> {
        let known = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        known.get(data_plane).map(|(_, channel)| channel.subscribe())
    }

    /// Returns the state of a data plane's replica.
    pub(super) fn get(&self, data_plane: &str) -> Option<Published> {
        let known = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        known.get(data_plane).map(|(_, channel)| *channel.borrow())
    }

    /// Returns a number that rises whenever a node's row may have changed.
    pub(super) fn nodes_changed(&self) -> u64 {
        self.nodes.load(Ordering::Acquire)
    }

    fn channels(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, (i64, watch::Sender<Published>)>> {
        self.channels.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Option<i64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
