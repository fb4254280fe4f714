//! Deployments: the Airflow instances that tokens give access to.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, Scope};
use crate::controlplane::error::Error;
use crate::controlplane::names::{Name, check_name, taken};
use crate::controlplane::replica::publish;
use crate::protocol::bundle::Change;
use crate::protocol::glass::GlassMode;
use crate::protocol::host::host_name;
use crate::protocol::record::{DEFAULT_ROUTES, DeploymentRecord, Record, RecordKind, is_routes_name};
use crate::protocol::time::Time;

/// Deployment of Airflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Id of the deployment.
    pub id: String,
    /// Name of the deployment.
    pub name: String,
    /// Id of its workspace.
    pub workspace_id: String,
    /// Id of its data plane.
    pub data_plane_id: String,
    /// Host names under which clients reach it.
    pub hosts: Vec<String>,
    /// Name of its route map.
    pub routes: String,
    /// Condition under which direct-access tokens open it.
    pub glass: GlassMode,
    /// Time of creation.
    pub created_at: Time,
}

/// Properties of a new deployment.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDeployment {
    /// Name of the deployment.
    #[schema(value_type = Name)]
    pub name: String,
    /// Id of its workspace.
    pub workspace_id: String,
    /// Id of its data plane.
    pub data_plane_id: String,
    /// Host names under which clients reach it.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Name of its route map; by default that of the Airflow REST API v2.
    pub routes: Option<String>,
    /// Condition under which direct-access tokens open it; `always` by default.
    #[serde(default)]
    pub glass: GlassMode,
}

/// Changes to a deployment. Absent members keep their values.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploymentUpdate {
    /// New name of the deployment.
    #[schema(value_type = Option<Name>)]
    pub name: Option<String>,
    /// New host names, in place of all earlier ones.
    pub hosts: Option<Vec<String>>,
    /// Name of another route map.
    pub routes: Option<String>,
    /// New condition under which direct-access tokens open it.
    pub glass: Option<GlassMode>,
}

const COLUMNS: &str = "id, name, workspace, data_plane, hosts, created_at, routes, glass";

fn read_row(row: &Row<'_>) -> rusqlite::Result<Deployment> {
    Ok(Deployment {
        id: row.get(0)?,
        name: row.get(1)?,
        workspace_id: row.get(2)?,
        data_plane_id: row.get(3)?,
        hosts: serde_json::from_str(&row.get::<_, String>(4)?).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, error.into())
        })?,
        created_at: Time::from_unix(row.get(5)?),
        routes: row.get(6)?,
        glass: GlassMode::parse(&row.get::<_, String>(7)?).ok_or(rusqlite::Error::InvalidQuery)?,
    })
}

/// Finds a deployment, without a check of the caller's permissions.
pub(in crate::controlplane) fn find(
    connection: &Connection,
    organization: &str,
    id: &str,
) -> Result<Deployment, Error> {
    let query = format!("SELECT {COLUMNS} FROM deployment WHERE organization = ?1 AND id = ?2");
    let found = connection.query_row(&query, [organization, id], read_row).optional()?;
    found.ok_or(Error::NotFound("deployment"))
}

/// Normalizes host names for comparison. Fails if another deployment of the data plane has one of them.
fn check_hosts(
    connection: &Connection,
    id: &str,
    data_plane: &str,
    hosts: &[String],
) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = Vec::new();
    for host in hosts {
        // A port is not part of a host name: it stays in the text, and the check below rejects it.
        let name = if host.contains(':') { host.clone() } else { host_name(host).into_owned() };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for host in &names {
        let well_formed = (1..=253).contains(&host.len())
            && host.split('.').all(|label| !label.is_empty())
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !well_formed {
            return Err(Error::invalid(
                "hosts",
                format!("{host:?} is no host name; leave scheme and port out"),
            ));
        }
        let taken: bool = connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM deployment, json_each(hosts) WHERE data_plane = ?1 AND deployment.id <> ?2 AND rtrim(lower(value), '.') = ?3)",
            [data_plane, id, host],
            |row| row.get(0),
        )?;
        if taken {
            let detail = format!("{host} is the host of another deployment on this data plane");
            return Err(Error::Conflict { code: "host_taken", detail });
        }
    }
    Ok(names)
}

/// Checks the form of a route map's name, which becomes a file name. Only the hosts know which maps exist.
fn check_routes(name: String) -> Result<String, Error> {
    if is_routes_name(&name) {
        return Ok(name);
    }
    let detail = format!("{name:?} is no name of a route map; use small letters, digits, '-' and '_'");
    Err(Error::invalid("routes", detail))
}

impl Deployment {
    fn record(&self) -> Result<Record, Error> {
        let record = DeploymentRecord {
            id: self.id.parse().map_err(|_| Error::NotFound("deployment"))?,
            workspace: self.workspace_id.clone(),
            name: self.name.clone(),
            hosts: self.hosts.clone(),
            routes: self.routes.clone(),
            glass: self.glass,
        };
        Ok(Record::of(RecordKind::Deployment, self.id.as_str(), &record))
    }

    /// Returns the scope for [`Actor::may`].
    pub(in crate::controlplane) fn scope<'a>(&'a self, organization: &'a str) -> Scope<'a> {
        Scope { organization, workspace: Some(&self.workspace_id), deployment: Some(&self.id) }
    }
}

impl ControlPlane {
    /// Creates a deployment and publishes its record to its data plane.
    pub fn create_deployment(
        &self,
        actor: &Actor,
        organization: &str,
        new: NewDeployment,
    ) -> Result<Deployment, Error> {
        let scope = Scope::workspace(organization, &new.workspace_id);
        actor.may(Operation::CreateDeployments, scope)?;
        check_name("name", &new.name)?;
        let routes = check_routes(new.routes.unwrap_or_else(|| DEFAULT_ROUTES.into()))?;
        let id = self.new_id();
        self.store.write(|transaction| {
            for (table, what, id) in [
                ("workspace", "workspace", &new.workspace_id),
                ("data_plane", "data plane", &new.data_plane_id),
            ] {
                let query = format!("SELECT 1 FROM {table} WHERE id = ?1 AND organization = ?2");
                let known = transaction.query_row(&query, [id, organization], |_| Ok(())).optional()?;
                known.ok_or(Error::NotFound(what))?;
            }
            let deployment = Deployment {
                hosts: check_hosts(transaction, &id, &new.data_plane_id, &new.hosts)?,
                id,
                name: new.name,
                workspace_id: new.workspace_id,
                data_plane_id: new.data_plane_id,
                routes,
                glass: new.glass,
                created_at: self.now(),
            };
            let row = params![
                deployment.id,
                organization,
                deployment.workspace_id,
                deployment.data_plane_id,
                deployment.name,
                serde_json::to_string(&deployment.hosts).map_err(std::io::Error::from)?,
                deployment.created_at.unix(),
                deployment.routes,
                deployment.glass.as_str()
            ];
            transaction
                .execute(
                    "INSERT INTO deployment (id, organization, workspace, data_plane, name, hosts, created_at, routes, glass)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    row,
                )
                .map_err(taken)?;
            publish::put(transaction, &deployment.data_plane_id, &[deployment.record()?])?;
            Ok(deployment)
        })
    }

    /// Lists the deployments that the caller may read.
    pub fn list_deployments(&self, actor: &Actor, organization: &str) -> Result<Vec<Deployment>, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        let mut found: Vec<Deployment> = self.store.read(|connection| {
            let query = format!("SELECT {COLUMNS} FROM deployment WHERE organization = ?1 ORDER BY name");
            let mut rows = connection.prepare_cached(&query)?;
            Ok(rows.query_map([organization], read_row)?.collect::<Result<_, _>>()?)
        })?;
        found.retain(|deployment| {
            actor.may(Operation::ReadDeployments, deployment.scope(organization)).is_ok()
        });
        Ok(found)
    }

    /// Shows a deployment.
    pub fn show_deployment(&self, actor: &Actor, organization: &str, id: &str) -> Result<Deployment, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        let found = self.store.read(|connection| find(connection, organization, id))?;
        actor.may(Operation::ReadDeployments, found.scope(organization))?;
        Ok(found)
    }

    /// Updates a deployment's name, hosts, route map and glass mode, and publishes its record.
    pub fn update_deployment(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        update: DeploymentUpdate,
    ) -> Result<Deployment, Error> {
        self.store.write(|transaction| {
            actor.may(Operation::SeeOrganization, organization)?;
            let mut found = find(transaction, organization, id)?;
            actor.may(Operation::UpdateDeployments, found.scope(organization))?;
            if let Some(name) = update.name {
                check_name("name", &name)?;
                found.name = name;
            }
            if let Some(hosts) = update.hosts {
                found.hosts = check_hosts(transaction, id, &found.data_plane_id, &hosts)?;
            }
            if let Some(routes) = update.routes {
                found.routes = check_routes(routes)?;
            }
            if let Some(glass) = update.glass.filter(|glass| *glass != found.glass) {
                // Opening a deployment wider to direct access needs the right to manage direct-access tokens.
                actor.may(Operation::ManageDirectAccess, organization)?;
                found.glass = glass;
            }
            let hosts = serde_json::to_string(&found.hosts).map_err(std::io::Error::from)?;
            transaction
                .execute(
                    "UPDATE deployment SET name = ?2, hosts = ?3, routes = ?4, glass = ?5 WHERE id = ?1",
                    params![id, found.name, hosts, found.routes, found.glass.as_str()],
                )
                .map_err(taken)?;
            publish::put(transaction, &found.data_plane_id, &[found.record()?])?;
            Ok(found)
        })
    }

    /// Deletes a deployment and all of its tokens. Its data plane then rejects those tokens.
    pub fn delete_deployment(&self, actor: &Actor, organization: &str, id: &str) -> Result<(), Error> {
        self.store.write(|transaction| {
            actor.may(Operation::SeeOrganization, organization)?;
            let found = find(transaction, organization, id)?;
            actor.may(Operation::DeleteDeployments, found.scope(organization))?;
            self.delete_tokens_of(transaction, organization, id, actor)?;
            transaction.execute("DELETE FROM dag_tags WHERE deployment = ?1", [id])?;
            let gone = [RecordKind::Deployment, RecordKind::DagTags]
                .map(|kind| Change::Remove { kind, key: id.to_owned() });
            publish::change(transaction, &found.data_plane_id, gone)?;
            transaction.execute("DELETE FROM deployment WHERE id = ?1", [id])?;
            Ok(())
        })
    }
}
