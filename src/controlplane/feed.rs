//! The feed: what has changed since a version, under a freshly signed head. Every answer is a heartbeat.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::ControlPlane;
use super::error::Error;
use crate::protocol::bundle::{BundleWriter, Change};
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::head::{Head, sign_head};
use crate::protocol::record::{Record, RecordKind};

/// How long a head may be taken from a feed, in seconds.
const HEAD_LIFETIME: i64 = 900;
/// The longest an answer is held back, in seconds.
pub const MAX_WAIT: u64 = 55;

impl ControlPlane {
    /// Waits until the replica of `data_plane` is past `since`, or `wait` seconds have gone.
    pub async fn wait_for_change(&self, data_plane: &str, since: u64, wait: u64) -> Result<(), Error> {
        let mut notices = self.store.changes();
        let changed = async {
            while self.version(data_plane)? == since {
                if notices.changed().await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        // Nothing changed in time: the answer is a heartbeat.
        tokio::time::timeout(Duration::from_secs(wait.min(MAX_WAIT)), changed).await.unwrap_or(Ok(()))
    }

    fn version(&self, data_plane: &str) -> Result<u64, Error> {
        self.store.read(|connection| {
            let version =
                connection.query_row("SELECT version FROM data_plane WHERE id = ?1", [data_plane], |row| {
                    row.get(0)
                });
            version.optional()?.ok_or(Error::NotFound("data plane"))
        })
    }

    /// The bundle from version `since` to now; a snapshot when `since` is 0 or none of ours.
    pub fn feed(&self, data_plane: &str, since: u64, keyset: u64) -> Result<Vec<u8>, Error> {
        self.store.read(|connection| {
            let (version, count, lanes): (u64, u64, Vec<u8>) = connection.query_row(
                "SELECT version, count, digest FROM data_plane WHERE id = ?1",
                [data_plane],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
            let digest = ReplicaDigest::from_bytes(&lanes).ok_or(rusqlite::Error::InvalidQuery)?;
            let now = self.now();
            let head = Head {
                iss: self.issuer.clone(),
                aud: data_plane.parse().map_err(|_| Error::NotFound("data plane"))?,
                version,
                digest: digest.checksum(),
                count,
                iat: now,
                exp: now.plus(HEAD_LIFETIME),
                keyset: self.signing.keyset.version(),
            };
            let base = if since <= version { since } else { 0 };
            let known = usize::try_from(keyset).unwrap_or(0).min(self.signing.chain.len());
            let keysets = &self.signing.chain[known..];
            let mut writer =
                BundleWriter::new(Vec::new(), keysets, &sign_head(&head, &self.signing.replica), base)?;
            write_changes(connection, data_plane, base, &mut writer)?;
            Ok(writer.finish()?)
        })
    }
}

fn write_changes(
    connection: &Connection,
    data_plane: &str,
    base: u64,
    writer: &mut BundleWriter<Vec<u8>>,
) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, key, body FROM change LEFT JOIN record USING (data_plane, kind, key) WHERE data_plane = ?1 AND version > ?2",
    )?;
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
