//! States of a replica: digest and number of records of each recent version, by which heads that contradict each other
//! are found.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;

/// Number of latest versions whose replica state is stored.
pub(in crate::controlplane) const REMEMBERED: u64 = 10_000;

/// Returns the digest and count that were first stored for a version.
pub(in crate::controlplane) fn stated(
    connection: &Connection,
    data_plane: &str,
    version: u64,
) -> Result<Option<(Vec<u8>, u64)>, Error> {
    Ok(connection
        .prepare_cached("SELECT digest, count FROM replica_state WHERE data_plane = ?1 AND version = ?2")?
        .query_row(params![data_plane, version], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Stores the replica state of a version, unless one is stored already.
pub(in crate::controlplane) fn note_state(
    transaction: &Transaction<'_>,
    data_plane: &str,
    version: u64,
    digest: &[u8],
    count: u64,
) -> Result<(), Error> {
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO replica_state (data_plane, version, digest, count) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![data_plane, version, digest, count])?;
    transaction
        .prepare_cached(
            "DELETE FROM replica_state WHERE data_plane = ?1
                 AND version <= (SELECT max(version) FROM replica_state WHERE data_plane = ?1) - ?2",
        )?
        .execute(params![data_plane, REMEMBERED])?;
    Ok(())
}
