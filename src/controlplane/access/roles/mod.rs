//! Built-in and custom roles, as the API lists and shows them.

pub mod built_in;
mod catalogue;
mod custom;
mod version;

use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;

pub(in crate::controlplane) use version::RoleVersion;

use self::built_in::{OrganizationRole, WorkspaceRole};
use crate::api::id::RoleId;
use crate::api::instant::Instant;
use crate::api::page::{NamedField, Page};
use crate::api::role::{Role, RoleFilter, RoleHistory, RolePage};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::page::listed;
use crate::controlplane::calls::subjects::subject;
use crate::controlplane::error::Error;
use crate::controlplane::store::columns::json;
use crate::protocol::role::{RoleBody, RoleDigest, RoleScope};
use crate::protocol::time::Time;

fn built_in_role(body: RoleBody, description: &str) -> Role {
    Role {
        id: RoleId::known(body.name.clone()),
        digest: RoleDigest::compute(&body.to_body()),
        name: body.name,
        description: description.into(),
        scope_type: body.scope,
        permissions: body.permissions,
        restricted_workspace_ids: Vec::new(),
        version: body.version,
        built_in: true,
        created_at: None,
        created_by: None,
        updated_at: None,
        updated_by: None,
    }
}

/// Returns the built-in roles, from the organization's to the Dags'.
fn built_in_roles() -> Vec<Role> {
    let role = |name: &str, scope, permissions, description| {
        built_in_role(RoleBody { name: name.into(), version: 1, scope, permissions }, description)
    };
    let organization = OrganizationRole::ALL
        .into_iter()
        .rev()
        .map(|known| role(known.as_str(), RoleScope::Organization, known.permissions(), known.description()));
    let workspace = WorkspaceRole::ALL
        .into_iter()
        .rev()
        .map(|known| role(known.as_str(), RoleScope::Workspace, known.permissions(), known.description()));
    let below = crate::protocol::role::built_in().into_iter().map(|body| {
        let description = match body.name.as_str() {
            "DEPLOYMENT_ADMIN" => "What a Workspace Operator may do, on one deployment.",
            "DEPLOYMENT_ACCESSOR" => "Nothing by itself; everything comes from Dag roles.",
            "DAG_VIEWER" => "Reads a Dag and what belongs to it.",
            _ => "Reads, edits and deletes a Dag and what belongs to it.",
        };
        built_in_role(body, description)
    });
    organization.chain(workspace).chain(below).collect()
}

/// Returns true if this is the name of a built-in role.
fn is_built_in(role: &str) -> bool {
    built_in_roles().iter().any(|known| known.name == role)
}

const COLUMNS: &str = "role.id, role.name, description, scope, role_version.body, workspaces, role.version, \
                       role.created_at, role.created_by, updated_at, updated_by \
                       FROM role JOIN role_version ON role_version.role = role.id AND role_version.version = role.version";

/// Reads a role, and the ids of those who created it and changed it last.
fn read_row(row: &Row<'_>) -> rusqlite::Result<(Role, String, String)> {
    let body: RoleBody = json(row, 4)?;
    let role = Role {
        id: RoleId::known(row.get(0)?),
        name: row.get(1)?,
        description: row.get(2)?,
        scope_type: body.scope,
        permissions: body.permissions,
        restricted_workspace_ids: json(row, 5)?,
        version: row.get(6)?,
        digest: RoleDigest::compute(&row.get::<_, String>(4)?),
        built_in: false,
        created_at: Some(Time::from_unix(row.get(7)?).into()),
        created_by: None,
        updated_at: Some(Time::from_unix(row.get(9)?).into()),
        updated_by: None,
    };
    Ok((role, row.get(8)?, row.get(10)?))
}

/// Adds who created a role and who changed it last.
fn with_subjects(
    connection: &Connection,
    (role, created_by, updated_by): (Role, String, String),
) -> Result<Role, Error> {
    let by = |id: &str| subject(connection, id).map(Some);
    Ok(Role { created_by: by(&created_by)?, updated_by: by(&updated_by)?, ..role })
}

/// Finds a custom role by id or name.
fn find(connection: &Connection, organization: &str, role: &str) -> Result<Role, Error> {
    let query = format!(
        "SELECT {COLUMNS} WHERE role.organization = ?1 AND (role.id = ?2 OR role.name = ?2) AND deleted_at IS NULL"
    );
    let found = connection.prepare_cached(&query)?.query_row([organization, role], read_row).optional()?;
    with_subjects(connection, found.ok_or(Error::NotFound("role"))?)
}

impl ControlPlane {
    /// Lists the custom roles, by name, and if the filter asks for them the built-in ones beside them.
    pub fn list_roles(
        &self,
        actor: &Actor,
        organization: &str,
        filter: &RoleFilter,
        page: Page,
    ) -> Result<RolePage, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        let matches =
            |role: &Role| filter.scope_types.is_empty() || filter.scope_types.contains(&role.scope_type);
        let roles = self.store.read(|connection| {
            let query = format!("SELECT {COLUMNS} WHERE role.organization = ?1 AND deleted_at IS NULL");
            let mut rows = connection.prepare_cached(&query)?;
            let mut roles = Vec::new();
            for row in rows.query_map([organization], read_row)? {
                let row = row?;
                if matches(&row.0) {
                    roles.push(with_subjects(connection, row)?);
                }
            }
            Ok(roles)
        })?;
        // A custom role has both times.
        let seconds = |at: Option<Instant>| Value::from(at.map_or(0, |at| at.time().unix()));
        let key = |field: NamedField, role: &Role| match field {
            NamedField::Name => role.name.clone().into(),
            NamedField::CreatedAt => seconds(role.created_at),
            NamedField::UpdatedAt => seconds(role.updated_at),
        };
        let (roles, extent) = listed(page, "roles", &filter.sorts, roles, |role| role.name.clone(), key)?;
        let built_in = || built_in_roles().into_iter().filter(matches).collect();
        let default_roles = filter.include_default_roles.then(built_in);
        Ok(RolePage { roles, default_roles, extent })
    }

    /// Shows a role, by id or name.
    pub fn show_role(&self, actor: &Actor, organization: &str, role: &str) -> Result<Role, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        if let Some(found) = built_in_roles().into_iter().find(|known| known.name == role) {
            return Ok(found);
        }
        self.store.read(|connection| find(connection, organization, role))
    }

    /// Lists every version of a role, newest first.
    pub fn list_role_versions(
        &self,
        actor: &Actor,
        organization: &str,
        role: &str,
    ) -> Result<Vec<RoleHistory>, Error> {
        let found = self.show_role(actor, organization, role)?;
        if found.built_in {
            let Role { version, name, permissions, digest, .. } = found;
            let only = RoleHistory { version, name, permissions, digest, created_at: None, created_by: None };
            return Ok(vec![only]);
        }
        self.store.read(|connection| {
            let mut rows = connection.prepare_cached(
                "SELECT version, name, body, created_at, created_by FROM role_version WHERE role = ?1 ORDER BY version DESC",
            )?;
            let rows = rows.query_map([&*found.id], |row| {
                let body: RoleBody = json(row, 2)?;
                let created_by: String = row.get(4)?;
                let history = RoleHistory {
                    version: row.get(0)?,
                    name: row.get(1)?,
                    permissions: body.permissions,
                    digest: RoleDigest::compute(&row.get::<_, String>(2)?),
                    created_at: Some(Time::from_unix(row.get(3)?).into()),
                    created_by: None,
                };
                Ok((history, created_by))
            })?;
            let mut versions = Vec::new();
            for row in rows {
                let (history, created_by) = row?;
                versions.push(RoleHistory { created_by: Some(subject(connection, &created_by)?), ..history });
            }
            Ok(versions)
        })
    }
}
