//! Publishing: a change to a replica, in the transaction of the change that caused it.

use rusqlite::{OptionalExtension, Transaction, params};

use super::error::Error;
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::record::{Record, RecordKind};

/// Puts records into the replica of a data plane: together they are one new version of it.
pub(super) fn put(transaction: &Transaction<'_>, data_plane: &str, records: &[Record]) -> Result<(), Error> {
    let (version, mut count, lanes): (u64, u64, Vec<u8>) = transaction.query_row(
        "SELECT version, count, digest FROM data_plane WHERE id = ?1",
        [data_plane],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let mut digest = ReplicaDigest::from_bytes(&lanes).ok_or(rusqlite::Error::InvalidQuery)?;
    let mut changed = false;
    for record in records {
        match body(transaction, data_plane, record.kind, &record.key)? {
            Some(before) if *before == *record.body => continue,
            Some(before) => digest.remove(&Record::new(record.kind, record.key.clone(), before)),
            None => count += 1,
        }
        digest.add(record);
        changed = true;
        transaction
            .prepare_cached("INSERT OR REPLACE INTO record VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![data_plane, record.kind.as_str(), &*record.key, &*record.body])?;
        transaction
            .prepare_cached("INSERT OR REPLACE INTO change VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![data_plane, version + 1, record.kind.as_str(), &*record.key])?;
    }
    if changed {
        transaction.execute(
            "UPDATE data_plane SET version = ?2, count = ?3, digest = ?4 WHERE id = ?1",
            params![data_plane, version + 1, count, digest.to_bytes().as_slice()],
        )?;
    }
    Ok(())
}

fn body(
    transaction: &Transaction<'_>,
    data_plane: &str,
    kind: RecordKind,
    key: &str,
) -> Result<Option<String>, Error> {
    Ok(transaction
        .prepare_cached("SELECT body FROM record WHERE data_plane = ?1 AND kind = ?2 AND key = ?3")?
        .query_row(params![data_plane, kind.as_str(), key], |row| row.get(0))
        .optional()?)
}
