//! Feed of a data plane: the changes since a version, under a freshly signed head. Each answer also proves that the
//! control plane is reachable.
//!
//! An answer is first written to a spool file and sent from there: a slow node holds no lock, and a large answer that
//! was interrupted is resumed.

mod spool;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::protocol::bundle::{BundleWriter, Change};
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::head::{Head, is_nonce, sign_head, sign_head_for};
use crate::protocol::record::{Record, RecordKind};

pub use spool::{Answer, Spool};

/// Time for which a node may accept a head from the feed, in seconds.
const HEAD_LIFETIME: i64 = 900;
/// Maximum time that an answer is held back, in seconds.
pub const MAX_WAIT: u64 = 55;

/// Versions that a node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Version of its head, or 0 for none.
    pub version: u64,
    /// Version of its keyset, or 0 for none.
    pub keyset: u64,
}

impl ControlPlane {
    /// Waits until there is a change that a node with `held` does not have, or until `wait` seconds have passed.
    pub async fn wait_for_change(&self, data_plane: &str, held: Held, wait: u64) -> Result<(), Error> {
        let mut notices = self.store.changes();
        let changed = async {
            while self.version(data_plane)? == held.version && self.signing().keyset.version() <= held.keyset
            {
                if notices.changed().await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        // On a timeout the answer has no changes, only a fresh head.
        tokio::time::timeout(Duration::from_secs(wait.min(MAX_WAIT)), changed).await.unwrap_or(Ok(()))
    }

    pub(in crate::controlplane) fn version(&self, data_plane: &str) -> Result<u64, Error> {
        self.store.read(|connection| {
            let version =
                connection.query_row("SELECT version FROM data_plane WHERE id = ?1", [data_plane], |row| {
                    row.get(0)
                });
            version.optional()?.ok_or(Error::NotFound("data plane"))
        })
    }

    /// Returns the bundle from what a node holds to the present: a delta, or a snapshot if it holds nothing or a
    /// version of another history.
    pub fn feed(&self, data_plane: &str, held: Held) -> Result<Arc<Answer>, Error> {
        self.feed_for(data_plane, held, None)
    }

    /// Returns the same bundle. If the request carries a nonce, its head is signed for this request alone.
    pub fn feed_for(&self, data_plane: &str, held: Held, nonce: Option<&str>) -> Result<Arc<Answer>, Error> {
        check_nonce(nonce)?;
        let signing = self.signing();
        self.store.read_at_leisure(|connection| {
            let (version, count, lanes, oldest): (u64, u64, Vec<u8>, u64) = connection.query_row(
                "SELECT version, count, digest, coalesce((SELECT version FROM oldest_delta WHERE data_plane = id), 0)
                 FROM data_plane WHERE id = ?1",
                [data_plane],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )?;
            let digest = ReplicaDigest::from_bytes(&lanes).ok_or(rusqlite::Error::InvalidQuery)?;
            let now = self.now();
            let base = if (oldest..=version).contains(&held.version) { held.version } else { 0 };
            let keysets = signing.keysets_above(held.keyset);
            let known = signing.chain.len() - keysets.len();
            let what = format!("{data_plane}-{base}-{version}-{known}-{}", signing.keyset.version());
            let what = nonce.map_or_else(|| what.clone(), |nonce| format!("{what}-{nonce}"));
            if let Some(answer) = self.spool.recent(&what, now) {
                return Ok(answer);
            }
            let stated = Head {
                iss: self.issuer.clone(),
                aud: data_plane.parse().map_err(|_| Error::NotFound("data plane"))?,
                version,
                digest: digest.checksum(),
                count,
                iat: now,
                exp: now.plus(HEAD_LIFETIME),
                keyset: signing.keyset.version(),
            };
            let text = nonce.map_or_else(
                || sign_head(&stated, &signing.replica),
                |nonce| sign_head_for(&stated, nonce, &signing.replica),
            );
            let mut writer = BundleWriter::new(Spool::page(), keysets, &text, base)?;
            write_changes(connection, data_plane, base, &mut writer)?;
            Ok(self.spool.keep(what, now, writer.finish()?)?)
        })
    }

    /// Returns the answer with this entity tag, if it is still kept.
    pub fn feed_again(&self, tag: &str) -> Option<Arc<Answer>> {
        self.spool.find(tag, self.now())
    }
}

/// Rejects a nonce of invalid form.
pub(in crate::controlplane) fn check_nonce(nonce: Option<&str>) -> Result<(), Error> {
    if nonce.is_none_or(is_nonce) {
        return Ok(());
    }
    Err(Error::invalid("nonce", "must be 1 to 128 letters, digits, - and _"))
}

/// Writes all present records if `base` is 0, otherwise the changes since version `base`.
fn write_changes<W: std::io::Write>(
    connection: &Connection,
    data_plane: &str,
    base: u64,
    writer: &mut BundleWriter<W>,
) -> Result<(), Error> {
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
        writer.change(match row.get::<_, Option<String>>(2)? {
            Some(body) => Change::Put(Record::new(kind, key, body)),
            None => Change::Remove { kind, key },
        })?;
    }
    Ok(())
}
