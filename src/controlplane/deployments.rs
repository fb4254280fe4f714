//! Deployments: what tokens open.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::ControlPlane;
use super::authorization::{Actor, Operation, Scope};
use super::error::Error;
use super::organizations::{Name, check_name, taken};
use super::publish;
use crate::protocol::bundle::Change;
use crate::protocol::glass::GlassMode;
use crate::protocol::host::host_name;
use crate::protocol::record::{DEFAULT_ROUTES, DeploymentRecord, Record, RecordKind, is_routes_name};
use crate::protocol::time::Time;

/// A deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its workspace.
    pub workspace_id: String,
    /// The data plane it lives on.
    pub data_plane_id: String,
    /// The host names it is reached by.
    pub hosts: Vec<String>,
    /// The name of its route map.
    pub routes: String,
    /// How its glass is kept.
    pub glass: GlassMode,
    /// When it was made.
    pub created_at: Time,
}

/// What a new deployment needs.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDeployment {
    /// Its name.
    #[schema(value_type = Name)]
    pub name: String,
    /// Its workspace.
    pub workspace_id: String,
    /// The data plane it lives on.
    pub data_plane_id: String,
    /// The host names it is reached by.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The name of its route map; without it, that of the Airflow REST API v2.
    pub routes: Option<String>,
    /// How its glass is kept; without it, `always`.
    #[serde(default)]
    pub glass: GlassMode,
}

/// What of a deployment can be updated; what is left out stays.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploymentUpdate {
    /// The new name.
    #[schema(value_type = Option<Name>)]
    pub name: Option<String>,
    /// All host names.
    pub hosts: Option<Vec<String>>,
    /// The name of another route map.
    pub routes: Option<String>,
    /// How its glass is kept from now on.
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

/// Finds a deployment, whoever asks.
pub(super) fn find(connection: &Connection, organization: &str, id: &str) -> Result<Deployment, Error> {
    let query = format!("SELECT {COLUMNS} FROM deployment WHERE organization = ?1 AND id = ?2");
    let found = connection.query_row(&query, [organization, id], read_row).optional()?;
    found.ok_or(Error::NotFound("deployment"))
}

/// Brings host names into the form in which they are compared. Two deployments of a data plane can't share one.
fn check_hosts(
    connection: &Connection,
    id: &str,
    data_plane: &str,
    hosts: &[String],
) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = Vec::new();
    for host in hosts {
        // A port is no part of a name: it is left for the check to refuse.
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

/// Which maps there are only the hosts know: a name is checked for its form, so that it can be that of a file.
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

    /// Where it is, for [`Actor::may`].
    pub(super) fn scope<'a>(&'a self, organization: &'a str) -> Scope<'a> {
        Scope { organization, workspace: Some(&self.workspace_id), deployment: Some(&self.id) }
    }
}

impl ControlPlane {
    /// Makes a deployment and tells its data plane.
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
        let id = self.new_id("dep_");
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

    /// Lists the deployments the caller may read.
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

    /// Updates a deployment's name, hosts, route map and glass, and tells its data plane.
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
                // What opens a deployment wider to direct access is for whom direct access is for to give.
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

    /// Deletes a deployment and every token of it. What opened it is dead on its data plane from then on.
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
