//! Deployments as the database stores them.

use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::api::settings::Settings;
use crate::controlplane::access::authorization::Scope;
use crate::controlplane::error::Error;
use crate::controlplane::store::columns::json;
use crate::protocol::glass::GlassMode;

/// Deployment as it is stored.
#[derive(Clone, Debug)]
pub(in crate::controlplane) struct Stored {
    pub(in crate::controlplane) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) organization: String,
    pub(in crate::controlplane) workspace_id: String,
    pub(super) workspace_name: String,
    pub(in crate::controlplane) data_plane_id: String,
    pub(super) hosts: Vec<String>,
    pub(super) routes: String,
    pub(super) glass: GlassMode,
    pub(super) settings: Settings,
    pub(super) environment_version: u64,
    pub(super) created_at: i64,
    pub(super) created_by: Option<String>,
    pub(super) updated_at: Option<i64>,
    pub(super) updated_by: Option<String>,
}

/// Query for one deployment of an organization, or for all of them if the id is null. [`read_row`] reads its rows.
pub(super) const SELECT: &str = "SELECT deployment.id, deployment.name, workspace, data_plane, hosts, deployment.created_at, routes, glass,
        deployment.description, deployment.organization, workspace.name, deployment.created_by, deployment.updated_at,
        deployment.updated_by, settings, environment_version
    FROM deployment JOIN workspace ON workspace.id = deployment.workspace
    WHERE deployment.organization = ?1 AND (?2 IS NULL OR deployment.id = ?2)";

/// Reads a row of [`SELECT`].
pub(super) fn read_row(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        id: row.get(0)?,
        name: row.get(1)?,
        workspace_id: row.get(2)?,
        data_plane_id: row.get(3)?,
        hosts: json(row, 4)?,
        created_at: row.get(5)?,
        routes: row.get(6)?,
        glass: GlassMode::parse(&row.get::<_, String>(7)?).ok_or(rusqlite::Error::InvalidQuery)?,
        description: row.get(8)?,
        organization: row.get(9)?,
        workspace_name: row.get(10)?,
        created_by: row.get(11)?,
        updated_at: row.get(12)?,
        updated_by: row.get(13)?,
        settings: json(row, 14)?,
        environment_version: row.get(15)?,
    })
}

/// Finds a deployment, without a check of the caller's permissions.
pub(in crate::controlplane) fn find(
    connection: &Connection,
    organization: &str,
    id: &str,
) -> Result<Stored, Error> {
    let found = connection.prepare_cached(SELECT)?.query_row([organization, id], read_row).optional()?;
    found.ok_or(Error::NotFound("deployment"))
}

impl Stored {
    /// Returns true if Dags can be deployed to it.
    pub(in crate::controlplane) fn takes_dags(&self) -> bool {
        self.settings.is_dag_deploy_enabled
    }

    /// Returns the scope of the permissions on it.
    pub(in crate::controlplane) fn scope<'a>(&'a self, organization: &'a str) -> Scope<'a> {
        Scope { organization, workspace: Some(&self.workspace_id), deployment: Some(&self.id) }
    }
}
