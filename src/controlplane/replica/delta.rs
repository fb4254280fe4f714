//! Changes between two versions as lines of a bundle. Thousands of nodes ask for the same ones at once, so they are read
//! from the database once, and the others wait for that.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};
use tokio::sync::OnceCell;

use crate::controlplane::error::Error;
use crate::controlplane::store::Published;
use crate::protocol::bundle::{Change, write_change};
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::record::{Record, RecordKind};

/// Maximum length of the lines that are kept in memory, in bytes. Longer ones are sent from a file.
const SMALL: usize = 256 << 10;
/// Number of deltas kept.
const KEPT: usize = 64;

/// State of a replica, and how a node gets there.
pub(in crate::controlplane) struct Delta {
    /// State that the changes lead to.
    pub(in crate::controlplane) published: Published,
    /// Version that they start from, or 0 for a snapshot.
    pub(in crate::controlplane) base: u64,
    /// The changes as lines, or none if they are many.
    pub(in crate::controlplane) lines: Option<Vec<u8>>,
}

impl Delta {
    /// Returns the empty delta of a node that holds the newest version.
    pub(in crate::controlplane) fn none(published: Published) -> Self {
        Self { published, base: published.version, lines: Some(Vec::new()) }
    }

    /// Reads the changes since version `since`.
    pub(in crate::controlplane) fn read(
        connection: &Connection,
        data_plane: &str,
        since: u64,
    ) -> Result<Self, Error> {
        let (version, count, digest, oldest): (u64, u64, Vec<u8>, u64) = connection
            .prepare_cached(
                "SELECT version, count, digest, coalesce((SELECT version FROM oldest_delta WHERE data_plane = id), 0)
                 FROM data_plane WHERE id = ?1",
            )?
            .query_row([data_plane], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let digest = ReplicaDigest::from_bytes(&digest).ok_or(rusqlite::Error::InvalidQuery)?.checksum();
        let base = if (oldest..=version).contains(&since) { since } else { 0 };
        let published = Published { version, count, digest };
        // A snapshot goes through the spool in any case, so that nodes share it and downloads can be resumed.
        let lines = if base == 0 { None } else { small(connection, data_plane, base)? };
        Ok(Self { published, base, lines })
    }

    /// Returns the nonce for the head of an answer with these changes, to a node that holds version `held`.
    ///
    /// A snapshot for nodes that hold a version, as after a restore, is shared, so its head has no nonce: its version is
    /// above the one held, which shows that it is no earlier answer. A node without a replica sends a nonce only while its
    /// clock is in doubt, and nothing else shows it that an answer is new.
    pub(in crate::controlplane) fn nonce<'n>(&self, held: u64, nonce: Option<&'n str>) -> Option<&'n str> {
        nonce.filter(|_| self.base > 0 || held == 0)
    }
}

/// Returns the lines of the changes since version `base`, unless they exceed [`SMALL`].
fn small(connection: &Connection, data_plane: &str, base: u64) -> Result<Option<Vec<u8>>, Error> {
    let mut lines = Vec::new();
    let whole = each_change(connection, data_plane, base, |change| {
        write_change(&mut lines, change)?;
        Ok(lines.len() <= SMALL)
    })?;
    Ok(whole.then_some(lines))
}

/// Calls `with` for all present records if `base` is 0, otherwise for the changes since version `base`. Stops when it
/// returns false, and then returns false.
pub(in crate::controlplane) fn each_change(
    connection: &Connection,
    data_plane: &str,
    base: u64,
    mut with: impl FnMut(Change) -> Result<bool, Error>,
) -> Result<bool, Error> {
    // A snapshot is for a node that holds nothing: only records that exist, never a removal. `change` also lists what is
    // gone, and may be compacted.
    let query = if base == 0 {
        "SELECT kind, key, body FROM record WHERE data_plane = ?1 AND ?2 = 0"
    } else {
        "SELECT kind, key, body FROM change LEFT JOIN record USING (data_plane, kind, key)
         WHERE data_plane = ?1 AND version > ?2"
    };
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(params![data_plane, base])?;
    while let Some(row) = rows.next()? {
        let kind: RecordKind = row.get::<_, String>(0)?.parse().map_err(|_| rusqlite::Error::InvalidQuery)?;
        let key: String = row.get(1)?;
        let change = match row.get::<_, Option<String>>(2)? {
            Some(body) => Change::Put(Record::new(kind, key, body)),
            None => Change::Remove { kind, key },
        };
        if !with(change)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A delta that is being read, or was.
pub(in crate::controlplane) type Cell = Arc<OnceCell<Arc<Delta>>>;

struct Entry {
    data_plane: String,
    since: u64,
    version: u64,
    cell: Cell,
}

/// The latest deltas.
#[derive(Default)]
pub(in crate::controlplane) struct Deltas(Mutex<VecDeque<Entry>>);

impl Deltas {
    /// Returns the place of the delta from version `since` to `version`. The first caller that finds it empty fills it.
    pub(in crate::controlplane) fn cell(&self, data_plane: &str, since: u64, version: u64) -> Cell {
        let mut entries = self.entries();
        let same = |entry: &&Entry| {
            entry.version == version && entry.since == since && entry.data_plane == data_plane
        };
        if let Some(found) = entries.iter().find(same) {
            return Arc::clone(&found.cell);
        }
        if entries.len() >= KEPT {
            entries.pop_front();
        }
        let cell = Cell::default();
        entries.push_back(Entry {
            data_plane: data_plane.to_owned(),
            since,
            version,
            cell: Arc::clone(&cell),
        });
        cell
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        // A poisoned lock is safe to use: an entry is whole or absent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
