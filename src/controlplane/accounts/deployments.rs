//! Deployments: the Airflow instances that tokens give access to.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::environment;
use super::stored_deployments::{SELECT, Stored, find, read_row};
use crate::api::deployment::{Deployment, DeploymentFilter, DeploymentPage, DeploymentUpdate, NewDeployment};
use crate::api::id::{DataPlaneId, DeploymentId, OrganizationId, WorkspaceId};
use crate::api::page::Page;
use crate::api::settings::DeploymentOptions;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, Scope};
use crate::controlplane::access::deployment_grants;
use crate::controlplane::calls::page::listed;
use crate::controlplane::calls::precondition::{IfMatch, entity_tag};
use crate::controlplane::calls::subjects::{PROGRAM, subject, unnamed};
use crate::controlplane::code::garbage;
use crate::controlplane::error::Error;
use crate::controlplane::names::{check_description, check_name, name_conflict, sort_key};
use crate::controlplane::replica::publish;
use crate::protocol::bundle::Change;
use crate::protocol::host::host_name;
use crate::protocol::record::{DEFAULT_ROUTES, DeploymentRecord, Record, RecordKind, is_routes_name};
use crate::protocol::time::Time;

/// Type of every deployment, as the platform names it.
const TYPE: &str = "STANDARD";

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

/// Fails if an update names another value of a member that never changes.
fn check_fixed(update: &DeploymentUpdate, found: &Stored) -> Result<(), Error> {
    if update.workspace_id.as_ref().is_some_and(|id| *id != found.workspace_id) {
        return Err(Error::invalid("workspaceId", "a deployment stays in its workspace"));
    }
    if update.deployment_type.as_ref().is_some_and(|kind| kind != TYPE) {
        return Err(Error::invalid("type", format!("a deployment is always {TYPE}")));
    }
    Ok(())
}

impl Stored {
    fn record(&self) -> Result<Record, Error> {
        let record = DeploymentRecord {
            id: self.id.parse().map_err(|_| Error::NotFound("deployment"))?,
            workspace: self.workspace_id.clone(),
            name: self.name.clone(),
            hosts: self.hosts.clone(),
            routes: self.routes.clone(),
            glass: self.glass,
        };
        Ok(Record::from_value(RecordKind::Deployment, self.id.as_str(), &record))
    }

    /// Returns its representation in the API.
    fn shown(
        self,
        control: &ControlPlane,
        connection: &Connection,
        actor: &Actor,
    ) -> Result<Deployment, Error> {
        let environment_variables = control.environment_shown(connection, actor, &self)?;
        let by = |id: Option<String>| subject(connection, id.as_deref().unwrap_or(PROGRAM));
        let host = self.hosts.first().cloned().unwrap_or_default();
        let url = |path: &str| if host.is_empty() { String::new() } else { format!("https://{host}{path}") };
        Ok(Deployment {
            namespace: self.id.clone(),
            id: DeploymentId::known(self.id),
            name: self.name,
            description: self.description,
            organization_id: OrganizationId::known(self.organization),
            workspace_id: WorkspaceId::known(self.workspace_id),
            workspace_name: self.workspace_name,
            data_plane_id: DataPlaneId::known(self.data_plane_id),
            routes: self.routes,
            glass: self.glass,
            deployment_type: TYPE.into(),
            status: "UNKNOWN".into(),
            astro_runtime_version: self.settings.runtime_version.clone(),
            settings: self.settings,
            ui_url: url(""),
            api_url: url("/api/v2"),
            web_server_url: url(""),
            web_server_airflow_api_url: url("/api/v2"),
            web_server_ingress_hostname: host,
            hosts: self.hosts,
            environment_variables_version: environment_variables.as_ref().map(|_| self.environment_version),
            environment_variables,
            worker_queues: Vec::new(),
            created_at: Time::from_unix(self.created_at).into(),
            created_by: by(self.created_by)?,
            updated_at: Time::from_unix(self.updated_at.unwrap_or(self.created_at)).into(),
            updated_by: by(self.updated_by)?,
        })
    }
}

/// Returns the entity tag of a deployment's representation. New names of its workspace and of those who changed it do not
/// change the tag. Its variables are in the tag by their version, since values can be unreadable.
pub(in crate::controlplane) fn etag(deployment: &Deployment) -> Result<String, Error> {
    entity_tag(&Deployment {
        workspace_name: String::new(),
        environment_variables: None,
        created_by: unnamed(&deployment.created_by),
        updated_by: unnamed(&deployment.updated_by),
        ..deployment.clone()
    })
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
        check_description(&new.description)?;
        let routes = check_routes(new.routes.unwrap_or_else(|| DEFAULT_ROUTES.into()))?;
        let id = self.new_id();
        self.store.write(|transaction| {
            for (table, what, field, id) in [
                ("workspace", "workspace", "workspaceId", &new.workspace_id),
                ("data_plane", "data plane", "dataPlaneId", &new.data_plane_id),
            ] {
                let query = format!("SELECT 1 FROM {table} WHERE id = ?1 AND organization = ?2");
                let known = transaction.query_row(&query, [id, organization], |_| Ok(())).optional()?;
                known.ok_or(Error::NoSuch { field, what })?;
            }
            let hosts = check_hosts(transaction, &id, &new.data_plane_id, &new.hosts)?;
            let row = params![
                id,
                organization,
                new.workspace_id,
                new.data_plane_id,
                new.name,
                serde_json::to_string(&hosts).map_err(std::io::Error::from)?,
                self.now().unix(),
                routes,
                new.glass.as_str(),
                new.description,
                actor.id
            ];
            transaction
                .execute(
                    "INSERT INTO deployment (id, organization, workspace, data_plane, name, hosts, created_at, routes, glass,
                         description, created_by, updated_at, updated_by)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?7, ?11)",
                    row,
                )
                .map_err(name_conflict)?;
            let deployment = find(transaction, organization, &id)?;
            publish::put(transaction, &deployment.data_plane_id, &[deployment.record()?])?;
            deployment.shown(self, transaction, actor)
        })
    }

    /// Lists the deployments that the caller may read, by name.
    pub fn list_deployments(
        &self,
        actor: &Actor,
        organization: &str,
        filter: &DeploymentFilter,
        page: Page,
    ) -> Result<DeploymentPage, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        let DeploymentFilter { deployment_ids: ids, names, workspace_ids: workspaces, sorts } = filter;
        let seen = |found: &Stored| {
            (ids.is_empty() || ids.contains(&found.id))
                && (names.is_empty() || names.contains(&found.name))
                && (workspaces.is_empty() || workspaces.contains(&found.workspace_id))
                && actor.may(Operation::ReadDeployments, found.scope(organization)).is_ok()
        };
        self.store.read(|connection| {
            let mut rows = connection.prepare_cached(SELECT)?;
            let mut deployments = Vec::new();
            for found in rows.query_map(params![organization, None::<String>], read_row)? {
                let found = found?;
                if seen(&found) {
                    deployments.push(found.shown(self, connection, actor)?);
                }
            }
            let (deployments, extent) = listed(
                page,
                "deployments",
                sorts,
                deployments,
                // Two workspaces can have deployments of one name.
                |item| format!("{}\u{0}{}", item.name, item.id),
                |field, item| sort_key(field, &item.name, item.created_at, item.updated_at),
            )?;
            Ok(DeploymentPage { deployments, extent })
        })
    }

    /// Shows a deployment.
    pub fn show_deployment(&self, actor: &Actor, organization: &str, id: &str) -> Result<Deployment, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store.read(|connection| {
            let found = find(connection, organization, id)?;
            actor.may(Operation::ReadDeployments, found.scope(organization))?;
            found.shown(self, connection, actor)
        })
    }

    /// Returns the choices for the settings of deployments.
    pub fn deployment_options(&self, actor: &Actor, organization: &str) -> Result<DeploymentOptions, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        Ok(DeploymentOptions::default())
    }

    /// Updates a deployment's name, description, hosts, route map, glass mode, environment variables and the settings of its
    /// Airflow, and publishes its record. Environment variables alone need no more than their own permissions.
    pub fn update_deployment(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        mut update: DeploymentUpdate,
        seen: &IfMatch,
    ) -> Result<Deployment, Error> {
        self.store.write(|transaction| {
            actor.may(Operation::SeeOrganization, organization)?;
            let mut found = find(transaction, organization, id)?;
            let variables = update.environment_variables.take();
            let other = variables.is_none() || update != DeploymentUpdate::default();
            let operation = if other { Operation::UpdateDeployments } else { Operation::ReadDeployments };
            actor.may(operation, found.scope(organization))?;
            seen.check(|| etag(&found.clone().shown(self, transaction, actor)?))?;
            check_fixed(&update, &found)?;
            if let Some(variables) = variables {
                self.set_environment(transaction, actor, &found, variables)?;
            }
            found.settings = update.settings(found.settings);
            if let Some(name) = update.name {
                check_name("name", &name)?;
                found.name = name;
            }
            if let Some(description) = update.description {
                check_description(&description)?;
                found.description = description;
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
            found.settings.check().map_err(|(member, detail)| Error::invalid(member, detail))?;
            let hosts = serde_json::to_string(&found.hosts).map_err(std::io::Error::from)?;
            let settings = serde_json::to_string(&found.settings).map_err(std::io::Error::from)?;
            transaction
                .execute(
                    "UPDATE deployment SET name = ?2, hosts = ?3, routes = ?4, glass = ?5, description = ?6, updated_at = ?7,
                         updated_by = ?8, settings = ?9 WHERE id = ?1",
                    params![
                        id,
                        found.name,
                        hosts,
                        found.routes,
                        found.glass.as_str(),
                        found.description,
                        self.now().unix(),
                        actor.id,
                        settings
                    ],
                )
                .map_err(name_conflict)?;
            publish::put(transaction, &found.data_plane_id, &[found.record()?])?;
            find(transaction, organization, id)?.shown(self, transaction, actor)
        })
    }

    /// Deletes a deployment and all of its tokens. Its data plane then rejects those tokens.
    pub fn delete_deployment(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        seen: &IfMatch,
    ) -> Result<(), Error> {
        self.store.write(|transaction| {
            actor.may(Operation::SeeOrganization, organization)?;
            let found = find(transaction, organization, id)?;
            actor.may(Operation::DeleteDeployments, found.scope(organization))?;
            seen.check(|| etag(&found.clone().shown(self, transaction, actor)?))?;
            self.delete_tokens_of(transaction, organization, id, actor)?;
            deployment_grants::remove_deployment(transaction, id)?;
            environment::remove_deployment(transaction, id)?;
            garbage::remove_deployment(transaction, id)?;
            transaction.execute("DELETE FROM dag_tags WHERE deployment = ?1", [id])?;
            let gone = [RecordKind::Deployment, RecordKind::DagTags]
                .map(|kind| Change::Remove { kind, key: id.to_owned() });
            publish::change(transaction, &found.data_plane_id, gone)?;
            transaction.execute("DELETE FROM deployment WHERE id = ?1", [id])?;
            Ok(())
        })
    }
}
