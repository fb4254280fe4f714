//! Publishing: changes a replica in the transaction of the change that causes it.

use rusqlite::{OptionalExtension, params};

use super::states;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::bundle::Change;
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::record::{Record, RecordKind, StandardTokensRecord};
use crate::protocol::version::MAX_VERSION;

/// Puts records into the replica of a data plane, as one new version of it.
pub(in crate::controlplane) fn put(
    transaction: &Transaction<'_>,
    data_plane: &str,
    records: &[Record],
) -> Result<(), Error> {
    change(transaction, data_plane, records.iter().cloned().map(Change::Put))
}

/// Changes the replica of a data plane. All changes together make one new version; changes without effect make none.
pub(in crate::controlplane) fn change(
    transaction: &Transaction<'_>,
    data_plane: &str,
    changes: impl IntoIterator<Item = Change>,
) -> Result<(), Error> {
    let (version, mut count, lanes): (u64, u64, Vec<u8>) = transaction.query_row(
        "SELECT version, count, digest FROM data_plane WHERE id = ?1",
        [data_plane],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let mut digest = ReplicaDigest::from_bytes(&lanes).ok_or(rusqlite::Error::InvalidQuery)?;
    let next = next_version(version)?;
    let mut any = false;
    for change in changes {
        let (kind, key) = match &change {
            Change::Put(record) => (record.kind, record.key.to_string()),
            Change::Remove { kind, key } => (*kind, key.clone()),
        };
        let before = body(transaction, data_plane, kind, &key)?;
        let after = if let Change::Put(record) = change { Some(record) } else { None };
        if before.as_deref() == after.as_ref().map(|record| &*record.body) {
            continue;
        }
        any = true;
        if let Some(before) = before {
            digest.remove(&Record::new(kind, key.as_str(), before));
            count -= 1;
            transaction
                .prepare_cached("DELETE FROM record WHERE data_plane = ?1 AND kind = ?2 AND key = ?3")?
                .execute(params![data_plane, kind.as_str(), key])?;
        }
        if let Some(record) = after {
            digest.add(&record);
            count += 1;
            transaction
                .prepare_cached("INSERT INTO record (data_plane, kind, key, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![data_plane, kind.as_str(), key, &*record.body])?;
        }
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO change (data_plane, version, kind, key) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![data_plane, next, kind.as_str(), key])?;
    }
    if any {
        transaction.execute(
            "UPDATE data_plane SET version = ?2, count = ?3, digest = ?4 WHERE id = ?1",
            params![data_plane, next, count, digest.to_bytes().as_slice()],
        )?;
        states::note_state(transaction, data_plane, version + 1, &digest.checksum(), count)?;
    }
    Ok(())
}

/// Returns the version after `version`. Fails at the maximum version that nodes accept.
pub(in crate::controlplane) fn next_version(version: u64) -> Result<u64, Error> {
    if version < MAX_VERSION {
        return Ok(version + 1);
    }
    Err(Error::Conflict {
        code: "versions_exhausted",
        detail: format!("the replica is at version {version}, the last there is; make a new data plane"),
    })
}

/// Changes a record on every data plane of an organization, so that nodes discard cached answers about its standard
/// tokens.
pub(in crate::controlplane) fn standard_tokens_changed(
    transaction: &Transaction<'_>,
    organization: &str,
) -> Result<(), Error> {
    let mut planes = transaction.prepare_cached("SELECT id FROM data_plane WHERE organization = ?1")?;
    let planes: Vec<String> =
        planes.query_map([organization], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for plane in planes {
        let before = body(transaction, &plane, RecordKind::StandardTokens, &plane)?;
        let mut record: StandardTokensRecord =
            before.and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default();
        record.changes += 1;
        put(transaction, &plane, &[Record::from_value(RecordKind::StandardTokens, plane.as_str(), &record)])?;
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
