//! Archives to be deleted. Each is recorded before its upload to the object store, or when the last deploy stops using it,
//! so that no archive is left over if the program stops at any moment.

use rusqlite::params;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;

/// Time after which an unfinished upload of an archive counts as abandoned, in seconds. It is longer than the largest jump of the
/// clock that is trusted at once, so that no archive is deleted during its upload.
const ABANDONED: i64 = 36 * 3600;
/// Maximum number of archives deleted in one call of `delete_garbage`.
const BATCH: usize = 100;
/// Number of newest archives of a deployment that are kept, besides the one in force.
const KEPT: usize = 10;
/// Time after which a deploy that was not finalized fails, in seconds.
const AWAITED: i64 = 24 * 3600;
/// Maximum number of deploys of a deployment that wait to be finalized. The oldest fail.
const MAX_AWAITED: usize = 10;

/// Records an archive before its upload starts, so that the archive is deleted if the upload never ends.
pub(in crate::controlplane) fn expect(
    transaction: &Transaction<'_>,
    archive: &str,
    now: Time,
) -> Result<(), Error> {
    let insert = "INSERT OR REPLACE INTO archive_garbage (archive, after) VALUES (?1, ?2)";
    transaction.execute(insert, params![archive, now.plus(ABANDONED).unix()])?;
    Ok(())
}

/// Removes an archive from the archives to delete, because a deploy uses it or it has been deleted.
pub(in crate::controlplane) fn keep(transaction: &Transaction<'_>, archive: &str) -> Result<(), Error> {
    transaction.execute("DELETE FROM archive_garbage WHERE archive = ?1", [archive])?;
    Ok(())
}

/// Marks the archive of a deploy for deletion, unless another deploy uses it.
pub(in crate::controlplane) fn discard_of(transaction: &Transaction<'_>, deploy: &str) -> Result<(), Error> {
    transaction.execute(
        "INSERT OR REPLACE INTO archive_garbage (archive, after)
         SELECT archive, 0 FROM deploy WHERE id = ?1 AND archive IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM deploy AS other WHERE other.archive = deploy.archive AND other.id <> ?1)",
        [deploy],
    )?;
    transaction.execute("UPDATE deploy SET archive = NULL WHERE id = ?1", [deploy])?;
    Ok(())
}

/// Marks the blocks of an archive that was uploaded in parts for deletion.
pub(in crate::controlplane) fn discard_blocks(
    transaction: &Transaction<'_>,
    deploy: &str,
) -> Result<(), Error> {
    transaction.execute(
        "INSERT OR REPLACE INTO archive_garbage (archive, after)
         SELECT archive, 0 FROM deploy_block WHERE deploy = ?1",
        [deploy],
    )?;
    transaction.execute("DELETE FROM deploy_block WHERE deploy = ?1", [deploy])?;
    Ok(())
}

/// Marks an archive that no deploy uses for deletion.
pub(in crate::controlplane) fn discard(transaction: &Transaction<'_>, archive: &str) -> Result<(), Error> {
    transaction
        .execute("INSERT OR REPLACE INTO archive_garbage (archive, after) VALUES (?1, 0)", [archive])?;
    Ok(())
}

/// Deletes all deploys of a deployment that is being deleted.
pub(in crate::controlplane) fn remove_deployment(
    transaction: &Transaction<'_>,
    deployment: &str,
) -> Result<(), Error> {
    transaction.execute(
        "INSERT OR REPLACE INTO archive_garbage (archive, after)
         SELECT DISTINCT archive, 0 FROM deploy WHERE deployment = ?1 AND archive IS NOT NULL",
        [deployment],
    )?;
    let blocks = "FROM deploy_block WHERE deploy IN (SELECT id FROM deploy WHERE deployment = ?1)";
    let insert =
        format!("INSERT OR REPLACE INTO archive_garbage (archive, after) SELECT archive, 0 {blocks}");
    transaction.execute(&insert, [deployment])?;
    transaction.execute(&format!("DELETE {blocks}"), [deployment])?;
    transaction.execute("DELETE FROM deploy WHERE deployment = ?1", [deployment])?;
    Ok(())
}

/// Fails the oldest deploys of a deployment that wait to be finalized, if there are more than [`MAX_AWAITED`].
pub(in crate::controlplane) fn fail_surplus(
    transaction: &Transaction<'_>,
    deployment: &str,
    now: Time,
) -> Result<(), Error> {
    let query =
        "SELECT id FROM deploy WHERE deployment = ?1 AND status = 'INITIALIZED' AND host_deploy IS NULL
         ORDER BY created_at DESC, rowid DESC LIMIT -1 OFFSET ?2";
    fail(transaction, query, params![deployment, MAX_AWAITED], now)
}

fn fail(
    transaction: &Transaction<'_>,
    query: &str,
    parameters: &[&dyn rusqlite::ToSql],
    now: Time,
) -> Result<(), Error> {
    let ids: Vec<String> = transaction
        .prepare_cached(query)?
        .query_map(parameters, |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for id in ids {
        discard_of(transaction, &id)?;
        discard_blocks(transaction, &id)?;
        let update = "UPDATE deploy SET status = 'FAILED', upload_hash = NULL, updated_at = ?2 WHERE id = ?1";
        transaction.execute(update, params![id, now.unix()])?;
    }
    Ok(())
}

impl ControlPlane {
    /// Marks an archive that no deploy uses for deletion.
    pub(in crate::controlplane) fn discard_archive(&self, archive: &str) -> Result<(), Error> {
        self.store.note(|transaction| discard(transaction, archive))
    }

    /// Fails deploys that nobody finalized, and discards archives that are neither in force nor among the newest of their
    /// deployment. Ages are computed at the time `trusted_time`.
    pub(in crate::controlplane) fn prune_deploys(&self, trusted_time: Time) -> Result<(), Error> {
        let now = self.now();
        self.store.note(|transaction| {
            // Deploys that a host took are excluded, because they may be reported long after they were made.
            let query = "SELECT id FROM deploy
                 WHERE status = 'INITIALIZED' AND created_at <= ?1 AND host_deploy IS NULL";
            fail(transaction, query, params![trusted_time.plus(-AWAITED).unix()], now)?;
            let surplus: Vec<String> = transaction
                .prepare_cached(
                    "SELECT deploy.id FROM deploy JOIN deployment ON deployment.id = deploy.deployment
                     WHERE archive IS NOT NULL AND status <> 'INITIALIZED' AND deployment.deploy IS NOT deploy.id
                         AND (SELECT count(*) FROM deploy AS newer
                              WHERE newer.deployment = deploy.deployment AND newer.archive IS NOT NULL
                                  AND newer.version > coalesce(deploy.version, 0)) >= ?1",
                )?
                .query_map([KEPT], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            surplus.iter().try_for_each(|deploy| discard_of(transaction, deploy))
        })
    }

    /// Deletes the archives that no deploy needs from the object store.
    pub(in crate::controlplane) async fn delete_garbage(self: &std::sync::Arc<Self>) -> Result<(), Error> {
        let due: Vec<String> = self
            .off_reactor(|control| {
                let now = control.trusted_time()?.unix();
                control.store.read(|connection| {
                    let query = "SELECT archive FROM archive_garbage WHERE after <= ?1 LIMIT ?2";
                    let mut rows = connection.prepare_cached(query)?;
                    let rows = rows.query_map(params![now, BATCH], |row| row.get(0))?;
                    Ok(rows.collect::<Result<_, _>>()?)
                })
            })
            .await?;
        for archive in due {
            self.archives.delete(&archive).await?;
            self.off_reactor(move |control| control.store.note(|transaction| keep(transaction, &archive)))
                .await?;
        }
        Ok(())
    }
}
