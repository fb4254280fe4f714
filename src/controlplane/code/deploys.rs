//! Deploys as they are stored.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::api::deploy::{Deploy, DeployGit, DeployStatus, DeployType};
use crate::api::id::{DeployId, DeploymentId, NodeId};
use crate::controlplane::calls::subjects::subject;
use crate::controlplane::error::Error;
use crate::controlplane::replica::versions::DeploymentPart;
use crate::controlplane::store::Transaction;
use crate::protocol::deploy::digest_text;
use crate::protocol::time::Time;

/// Archive of a deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controlplane) struct Archive {
    /// Name in the object store; none once it was deleted.
    pub(in crate::controlplane) name: Option<String>,
    pub(in crate::controlplane) digest: [u8; 32],
    pub(in crate::controlplane) size: u64,
}

/// Deploy as it is stored.
#[derive(Clone, Debug)]
pub(in crate::controlplane) struct Stored {
    pub(in crate::controlplane) id: String,
    pub(in crate::controlplane) deployment: String,
    pub(in crate::controlplane) status: DeployStatus,
    pub(in crate::controlplane) description: String,
    pub(in crate::controlplane) git: Option<DeployGit>,
    pub(in crate::controlplane) version: Option<u64>,
    pub(in crate::controlplane) archive: Option<Archive>,
    pub(in crate::controlplane) rollback_from: Option<String>,
    /// Compact JWS that the node signed; `None` for a deploy that no host took.
    pub(in crate::controlplane) host_deploy: Option<String>,
    pub(in crate::controlplane) node: Option<String>,
    pub(in crate::controlplane) superseded_by: Option<String>,
    pub(in crate::controlplane) created_at: i64,
    created_by: String,
    updated_at: i64,
    updated_by: String,
    pub(in crate::controlplane) in_force: bool,
}

/// Members of a new deploy. The others are empty.
pub(in crate::controlplane) struct New<'a> {
    pub(in crate::controlplane) id: &'a str,
    pub(in crate::controlplane) deployment: &'a str,
    pub(in crate::controlplane) status: DeployStatus,
    pub(in crate::controlplane) description: &'a str,
    pub(in crate::controlplane) by: &'a str,
    pub(in crate::controlplane) at: Time,
}

/// Columns that [`read_row`] reads, of `deploy` and its `deployment`.
pub(in crate::controlplane) const SELECT: &str = "SELECT deploy.id, deploy.deployment, deploy.status, deploy.description,
        deploy.git, deploy.version, deploy.archive, deploy.digest, deploy.size, deploy.rollback_from, deploy.host_deploy,
        deploy.node, deploy.superseded_by, deploy.created_at, deploy.created_by, deploy.updated_at,
        deploy.updated_by, deployment.deploy IS deploy.id
    FROM deploy JOIN deployment ON deployment.id = deploy.deployment";

const fn status_name(status: DeployStatus) -> &'static str {
    match status {
        DeployStatus::Initialized => "INITIALIZED",
        DeployStatus::Deployed => "DEPLOYED",
        DeployStatus::Failed => "FAILED",
    }
}

/// Reads a row of [`SELECT`].
pub(in crate::controlplane) fn read_row(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let status = match &*row.get::<_, String>(2)? {
        "INITIALIZED" => DeployStatus::Initialized,
        "DEPLOYED" => DeployStatus::Deployed,
        _ => DeployStatus::Failed,
    };
    let git: Option<String> = row.get(4)?;
    let digest: Option<[u8; 32]> = row.get(7)?;
    let archive = match digest {
        Some(digest) => Some(Archive { name: row.get(6)?, digest, size: row.get(8)? }),
        None => None,
    };
    Ok(Stored {
        id: row.get(0)?,
        deployment: row.get(1)?,
        status,
        description: row.get(3)?,
        git: git.and_then(|git| serde_json::from_str(&git).ok()),
        version: row.get(5)?,
        archive,
        rollback_from: row.get(9)?,
        host_deploy: row.get(10)?,
        node: row.get(11)?,
        superseded_by: row.get(12)?,
        created_at: row.get(13)?,
        created_by: row.get(14)?,
        updated_at: row.get(15)?,
        updated_by: row.get(16)?,
        in_force: row.get(17)?,
    })
}

/// Finds a deploy by its id, whichever deployment it is of.
pub(in crate::controlplane) fn by_id(connection: &Connection, id: &str) -> Result<Option<Stored>, Error> {
    let query = format!("{SELECT} WHERE deploy.id = ?1");
    Ok(connection.prepare_cached(&query)?.query_row([id], read_row).optional()?)
}

/// Finds a deploy of a deployment.
pub(in crate::controlplane) fn find(
    connection: &Connection,
    deployment: &str,
    id: &str,
) -> Result<Stored, Error> {
    let found = by_id(connection, id)?.filter(|found| found.deployment == deployment);
    found.ok_or(Error::NotFound("deploy"))
}

/// Returns the deploy in force of a deployment, and the version of its code.
pub(in crate::controlplane) fn in_force(
    connection: &Connection,
    deployment: &str,
) -> Result<Option<(Stored, u64)>, Error> {
    let query = "SELECT deploy, code_version FROM deployment WHERE id = ?1";
    let found: Option<(Option<String>, u64)> = connection
        .prepare_cached(query)?
        .query_row([deployment], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((Some(id), version)) = found else { return Ok(None) };
    Ok(by_id(connection, &id)?.map(|stored| (stored, version)))
}

/// Inserts a deploy.
pub(in crate::controlplane) fn insert(transaction: &Transaction<'_>, new: &New<'_>) -> Result<(), Error> {
    transaction.execute(
        "INSERT INTO deploy (id, deployment, status, description, created_at, created_by, updated_at, updated_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?6)",
        params![new.id, new.deployment, status_name(new.status), new.description, new.at.unix(), new.by],
    )?;
    Ok(())
}

/// Notes who changed a deploy last, and its status.
pub(in crate::controlplane) fn touch(
    transaction: &Transaction<'_>,
    id: &str,
    status: DeployStatus,
    (by, at): (&str, Time),
) -> Result<(), Error> {
    transaction.execute(
        "UPDATE deploy SET status = ?2, updated_by = ?3, updated_at = ?4 WHERE id = ?1",
        params![id, status_name(status), by, at.unix()],
    )?;
    Ok(())
}

/// Gives a deploy its archive.
pub(in crate::controlplane) fn set_archive(
    transaction: &Transaction<'_>,
    id: &str,
    archive: &Archive,
) -> Result<(), Error> {
    transaction.execute(
        "UPDATE deploy SET archive = ?2, digest = ?3, size = ?4 WHERE id = ?1",
        params![id, archive.name, archive.digest.as_slice(), archive.size],
    )?;
    Ok(())
}

/// Puts a deploy in force, and returns the new version of the deployment's code.
pub(in crate::controlplane) fn put_in_force(
    transaction: &Transaction<'_>,
    (deployment, data_plane): (&str, &str),
    deploy: &str,
    now: i64,
) -> Result<u64, Error> {
    let version = DeploymentPart::Code.raise(transaction, (deployment, data_plane), now)?;
    transaction.execute("UPDATE deployment SET deploy = ?2 WHERE id = ?1", [deployment, deploy])?;
    transaction.execute("UPDATE deploy SET version = ?2 WHERE id = ?1", params![deploy, version])?;
    Ok(version)
}

impl Stored {
    /// Returns its representation in the API.
    pub(in crate::controlplane) fn shown(self, connection: &Connection) -> Result<Deploy, Error> {
        let created_by = subject(connection, &self.created_by)?;
        let updated_by = subject(connection, &self.updated_by)?;
        let archive = self.archive.as_ref();
        Ok(Deploy {
            id: DeployId::known(self.id),
            deployment_id: DeploymentId::known(self.deployment),
            deploy_type: DeployType::DagOnly,
            status: self.status,
            description: self.description,
            git: self.git,
            is_dag_deploy_enabled: true,
            dag_tarball_version: archive.map(|archive| digest_text(&archive.digest)),
            dags_upload_url: None,
            image_repository: String::new(),
            image_tag: String::new(),
            rollback_from_id: self.rollback_from.map(DeployId::known),
            is_in_force: self.in_force,
            version: self.version,
            size: archive.map(|archive| archive.size),
            is_archive_kept: archive.is_some_and(|archive| archive.name.is_some()),
            node_id: self.node.map(NodeId::known),
            superseded_by_id: self.superseded_by.map(DeployId::known),
            created_at: Time::from_unix(self.created_at).into(),
            created_by: created_by.clone(),
            created_by_subject: created_by,
            updated_at: Time::from_unix(self.updated_at).into(),
            updated_by: updated_by.clone(),
            updated_by_subject: updated_by,
        })
    }
}
