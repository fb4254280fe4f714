//! Verifies a bundle of the version that is already held: it must agree with the stored records, and changes nothing.

use std::collections::HashSet;
use std::io::Read;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::StoreError;
use crate::protocol::bundle::{BundleReader, Change};
use crate::protocol::head::Head;
use crate::protocol::record::RecordKind;

/// Verifies that the changes lead to the stored records, which were verified against `held`. The changes begin at nothing,
/// or at an earlier version.
pub(super) fn prove<R: Read>(
    connection: &Connection,
    reader: &mut BundleReader<R>,
    held: &Head,
) -> Result<(), StoreError> {
    let base = reader.base();
    if base > held.version {
        return Err(StoreError::Base { have: held.version, got: base });
    }
    let mut seen: HashSet<(RecordKind, String)> = HashSet::new();
    let mut records = 0_u64;
    let mut find = connection.prepare_cached("SELECT body FROM record WHERE kind = ?1 AND key = ?2")?;
    for change in reader {
        let (kind, key, body) = match change? {
            Change::Put(record) => (record.kind, record.key.to_string(), Some(record.body)),
            Change::Remove { kind, key } => (kind, key, None),
        };
        let stored: Option<String> =
            find.query_row(params![kind.as_str(), key], |row| row.get(0)).optional()?;
        if stored.as_deref() != body.as_deref() {
            return Err(StoreError::Digest(held.version));
        }
        // The removal of a record that is not stored changes nothing. Such removals are not remembered, since only the size
        // of the bundle bounds their number; the number of stored records bounds the puts.
        if body.is_none() {
            continue;
        }
        records += 1;
        if let Some((kind, key)) = seen.replace((kind, key)) {
            return Err(StoreError::Twice(kind, key));
        }
    }
    if base == 0 && records != held.count { Err(StoreError::Digest(held.version)) } else { Ok(()) }
}
