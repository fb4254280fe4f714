//! Versions of deployments' environment variables, by which hosts tell a new state from an old one.

use rusqlite::{Transaction, params};

use crate::controlplane::error::Error;

/// Raises the version of a deployment's variables. It is at least the time in seconds, so that it also rises above what a
/// control plane published after the backup that it was restored from.
pub(in crate::controlplane) fn raise(
    transaction: &Transaction<'_>,
    deployment: &str,
    data_plane: &str,
    now: i64,
) -> Result<(), Error> {
    transaction.execute(
        "UPDATE deployment SET environment_version = max(environment_version + 1, ?2) WHERE id = ?1",
        params![deployment, now],
    )?;
    count_change(transaction, data_plane)
}

/// Does the same for each deployment of a data plane that has had variables.
pub(in crate::controlplane) fn raise_all(
    transaction: &Transaction<'_>,
    data_plane: &str,
    now: i64,
) -> Result<(), Error> {
    transaction.execute(
        "UPDATE deployment SET environment_version = max(environment_version + 1, ?2)
         WHERE data_plane = ?1 AND environment_version > 0",
        params![data_plane, now],
    )?;
    count_change(transaction, data_plane)
}

fn count_change(transaction: &Transaction<'_>, data_plane: &str) -> Result<(), Error> {
    let update = "UPDATE data_plane SET environment_changes = environment_changes + 1 WHERE id = ?1";
    transaction.execute(update, [data_plane])?;
    Ok(())
}
