//! Versions of deployments' code, by which hosts tell a new deploy from an old one.

use rusqlite::{Transaction, params};

use crate::controlplane::error::Error;

/// Puts a deploy in force and returns the new version of the deployment's code. The version is at least the time in
/// seconds, so that it also rises above what a control plane signed after the backup that it was restored from.
pub(in crate::controlplane) fn put_in_force(
    transaction: &Transaction<'_>,
    (deployment, data_plane): (&str, &str),
    deploy: &str,
    now: i64,
) -> Result<u64, Error> {
    let version = transaction.query_row(
        "UPDATE deployment SET code_version = max(code_version + 1, ?3), deploy = ?2 WHERE id = ?1
         RETURNING code_version",
        params![deployment, deploy, now],
        |row| row.get(0),
    )?;
    transaction.execute("UPDATE deploy SET version = ?2 WHERE id = ?1", params![deploy, version])?;
    count_change(transaction, data_plane)?;
    Ok(version)
}

/// Raises the version of each deployment of a data plane that has code.
pub(in crate::controlplane) fn raise_all(
    transaction: &Transaction<'_>,
    data_plane: &str,
    now: i64,
) -> Result<(), Error> {
    transaction.execute(
        "UPDATE deployment SET code_version = max(code_version + 1, ?2) WHERE data_plane = ?1 AND code_version > 0",
        params![data_plane, now],
    )?;
    count_change(transaction, data_plane)
}

fn count_change(transaction: &Transaction<'_>, data_plane: &str) -> Result<(), Error> {
    let update = "UPDATE data_plane SET deploy_changes = deploy_changes + 1 WHERE id = ?1";
    transaction.execute(update, [data_plane])?;
    Ok(())
}
