//! Built-in and custom roles, as the API lists and shows them.

pub mod built_in;
mod catalogue;
mod custom;
mod version;

use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

pub use catalogue::{PermissionEntry, PermissionGroup, RoleTemplate};
pub use custom::{NewRole, RoleUpdate};
pub(in crate::controlplane) use version::RoleVersion;

use self::built_in::{OrganizationRole, WorkspaceRole};
use self::version::json;
use crate::api::page::Page;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::page::{Range, check};
use crate::controlplane::error::Error;
use crate::protocol::permission::PermissionSet;
use crate::protocol::role::{RoleBody, RoleDigest, RoleScope};
use crate::protocol::time::Time;

/// Newest version of a role.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Id of the role. A built-in role's is its name.
    pub id: String,
    /// Name of the role.
    pub name: String,
    /// Description of its purpose.
    pub description: String,
    /// Kind of object that it is held on.
    pub scope_type: RoleScope,
    /// Permissions of the role.
    pub permissions: PermissionSet,
    /// Workspaces in which it can be held; empty for all.
    pub restricted_workspace_ids: Vec<String>,
    /// Number of the newest version.
    pub version: u32,
    /// Digest of the newest version.
    pub digest: RoleDigest,
    /// True for a built-in role, which cannot be changed.
    pub built_in: bool,
    /// Time of creation. A built-in role has none, nor the next three members.
    pub created_at: Option<Time>,
    /// Id of the user or token that created it.
    pub created_by: Option<String>,
    /// Time of the last change.
    pub updated_at: Option<Time>,
    /// Id of the user or token that changed it last.
    pub updated_by: Option<String>,
}

/// Page of roles.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolePage {
    /// Roles of the page.
    pub roles: Vec<Role>,
    /// Number of roles on all pages.
    pub total_count: u64,
    /// Number of roles skipped.
    pub offset: u64,
    /// Maximum number of roles on the page.
    pub limit: u64,
    /// Cursor of the next page, or none on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Version of a custom role.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleHistory {
    /// Number of the version, from 1.
    pub version: u32,
    /// Name of the role in this version.
    pub name: String,
    /// Permissions in this version.
    pub permissions: PermissionSet,
    /// Digest of its bytes.
    pub digest: RoleDigest,
    /// Time of creation.
    pub created_at: Option<Time>,
    /// Id of the user or token that created it.
    pub created_by: Option<String>,
}

fn built_in_role(body: RoleBody, description: &str) -> Role {
    Role {
        id: body.name.clone(),
        digest: RoleDigest::of(&body.to_body()),
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

const COLUMNS: &str = "role.id, role.name, description, scope, role_version.body, workspaces, role.version, \
                       role.created_at, role.created_by, updated_at, updated_by \
                       FROM role JOIN role_version ON role_version.role = role.id AND role_version.version = role.version";

fn read_row(row: &Row<'_>) -> rusqlite::Result<Role> {
    let body: RoleBody = json(row, 4)?;
    Ok(Role {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        scope_type: body.scope,
        permissions: body.permissions,
        restricted_workspace_ids: json(row, 5)?,
        version: row.get(6)?,
        digest: RoleDigest::of(&row.get::<_, String>(4)?),
        built_in: false,
        created_at: Some(Time::from_unix(row.get(7)?)),
        created_by: Some(row.get(8)?),
        updated_at: Some(Time::from_unix(row.get(9)?)),
        updated_by: Some(row.get(10)?),
    })
}

/// Finds a custom role by id or name.
fn find(connection: &Connection, organization: &str, role: &str) -> Result<Role, Error> {
    let query = format!(
        "SELECT {COLUMNS} WHERE role.organization = ?1 AND (role.id = ?2 OR role.name = ?2) AND deleted_at IS NULL"
    );
    let found = connection.prepare_cached(&query)?.query_row([organization, role], read_row).optional()?;
    found.ok_or(Error::NotFound("role"))
}

impl ControlPlane {
    /// Lists roles: the built-in ones, then the custom ones by name. With `scope`, only those held on that kind of
    /// object.
    pub fn list_roles(
        &self,
        actor: &Actor,
        organization: &str,
        scope: Option<RoleScope>,
        page: Page,
    ) -> Result<RolePage, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        let range = check(page, "roles")?;
        let mut roles = built_in_roles();
        roles.extend(self.store.read(|connection| {
            let query = format!(
                "SELECT {COLUMNS} WHERE role.organization = ?1 AND deleted_at IS NULL ORDER BY role.name"
            );
            let mut rows = connection.prepare_cached(&query)?;
            Ok(rows.query_map([organization], read_row)?.collect::<Result<Vec<_>, _>>()?)
        })?);
        roles.retain(|role| scope.is_none_or(|scope| role.scope_type == scope));
        let total_count = roles.len() as u64;
        // Built-in roles come before the others, in an order of their own.
        let place = |place: u32, role: &Role| {
            if role.built_in { format!("0 {place:04}") } else { format!("1 {}", role.name) }
        };
        let placed = (0..).zip(roles).map(|(number, role)| (place(number, &role), role)).collect();
        let (placed, next_cursor) = range.slice(placed, |(place, _): &(String, Role)| place.clone());
        let roles = placed.into_iter().map(|(_, role)| role).collect();
        let Range { offset, limit, .. } = range;
        Ok(RolePage { roles, total_count, offset, limit, next_cursor })
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
            let rows = rows.query_map([&found.id], |row| {
                let body: RoleBody = json(row, 2)?;
                Ok(RoleHistory {
                    version: row.get(0)?,
                    name: row.get(1)?,
                    permissions: body.permissions,
                    digest: RoleDigest::of(&row.get::<_, String>(2)?),
                    created_at: Some(Time::from_unix(row.get(3)?)),
                    created_by: Some(row.get(4)?),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}
