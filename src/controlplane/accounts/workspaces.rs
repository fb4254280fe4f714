//! Workspaces, which group deployments.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::api::id::{OrganizationId, WorkspaceId};
use crate::api::page::Page;
use crate::api::workspace::{NewWorkspace, Workspace, WorkspaceFilter, WorkspacePage, WorkspaceUpdate};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, Scope};
use crate::controlplane::calls::page::listed;
use crate::controlplane::calls::subjects::{PROGRAM, subject};
use crate::controlplane::error::Error;
use crate::controlplane::names::{check_description, check_name, name_conflict, sort_key};
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;

/// Workspace as it is stored.
struct Stored {
    id: String,
    name: String,
    description: String,
    organization: String,
    organization_name: String,
    created_at: i64,
    created_by: Option<String>,
    updated_at: Option<i64>,
    updated_by: Option<String>,
}

const SELECT: &str =
    "SELECT workspace.id, workspace.name, workspace.description, organization.id, organization.name,
        workspace.created_at, workspace.created_by, workspace.updated_at, workspace.updated_by
    FROM workspace JOIN organization ON organization.id = workspace.organization
    WHERE workspace.organization = ?1 AND (?2 IS NULL OR workspace.id = ?2)";

fn read_row(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        organization: row.get(3)?,
        organization_name: row.get(4)?,
        created_at: row.get(5)?,
        created_by: row.get(6)?,
        updated_at: row.get(7)?,
        updated_by: row.get(8)?,
    })
}

/// Finds a workspace, without a check of the caller's permissions.
fn find(connection: &Connection, organization: &str, id: &str) -> Result<Stored, Error> {
    let found = connection.prepare_cached(SELECT)?.query_row([organization, id], read_row).optional()?;
    found.ok_or(Error::NotFound("workspace"))
}

impl Stored {
    fn shown(self, connection: &Connection) -> Result<Workspace, Error> {
        let by = |id: Option<String>| subject(connection, id.as_deref().unwrap_or(PROGRAM));
        Ok(Workspace {
            id: WorkspaceId::known(self.id),
            name: self.name,
            description: self.description,
            organization_id: OrganizationId::known(self.organization),
            organization_name: self.organization_name,
            cicd_enforced_default: false,
            created_at: Time::from_unix(self.created_at).into(),
            created_by: by(self.created_by)?,
            updated_at: Time::from_unix(self.updated_at.unwrap_or(self.created_at)).into(),
            updated_by: by(self.updated_by)?,
        })
    }
}

fn shown(transaction: &Transaction<'_>, organization: &str, id: &str) -> Result<Workspace, Error> {
    find(transaction, organization, id)?.shown(transaction)
}

impl ControlPlane {
    /// Creates a workspace.
    pub fn create_workspace(
        &self,
        actor: &Actor,
        organization: &str,
        new: &NewWorkspace,
    ) -> Result<Workspace, Error> {
        actor.may(Operation::Administer, organization)?;
        check_name("name", &new.name)?;
        check_description(&new.description)?;
        let id = self.new_id();
        self.store.write(|transaction| {
            let row = params![id, organization, new.name, new.description, self.now().unix(), actor.id];
            transaction
                .execute(
                    "INSERT INTO workspace (id, organization, name, description, created_at, created_by, updated_at, updated_by)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?6)",
                    row,
                )
                .map_err(name_conflict)?;
            shown(transaction, organization, &id)
        })
    }

    /// Updates a workspace's name and description.
    pub fn update_workspace(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        update: &WorkspaceUpdate,
    ) -> Result<Workspace, Error> {
        actor.may(Operation::Administer, organization)?;
        if let Some(name) = &update.name {
            check_name("name", name)?;
        }
        if let Some(description) = &update.description {
            check_description(description)?;
        }
        self.store.write(|transaction| {
            find(transaction, organization, id)?;
            let row = params![id, update.name, update.description, self.now().unix(), actor.id];
            transaction
                .execute(
                    "UPDATE workspace SET name = coalesce(?2, name), description = coalesce(?3, description),
                         updated_at = ?4, updated_by = ?5 WHERE id = ?1",
                    row,
                )
                .map_err(name_conflict)?;
            shown(transaction, organization, id)
        })
    }

    /// Lists the workspaces that the caller may see, by name.
    pub fn list_workspaces(
        &self,
        actor: &Actor,
        organization: &str,
        filter: &WorkspaceFilter,
        page: Page,
    ) -> Result<WorkspacePage, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        let WorkspaceFilter { workspace_ids: ids, names, sorts } = filter;
        let seen = |found: &Stored| {
            (ids.is_empty() || ids.contains(&found.id))
                && (names.is_empty() || names.contains(&found.name))
                && actor.may(Operation::SeeWorkspace, Scope::workspace(organization, &found.id)).is_ok()
        };
        self.store.read(|connection| {
            let mut rows = connection.prepare_cached(SELECT)?;
            let mut workspaces = Vec::new();
            for found in rows.query_map(params![organization, None::<String>], read_row)? {
                let found = found?;
                if seen(&found) {
                    workspaces.push(found.shown(connection)?);
                }
            }
            let (workspaces, extent) = listed(
                page,
                "workspaces",
                sorts,
                workspaces,
                |item| item.name.clone(),
                |field, item| sort_key(field, &item.name, item.created_at, item.updated_at),
            )?;
            Ok(WorkspacePage { workspaces, extent })
        })
    }

    /// Shows a workspace.
    pub fn show_workspace(&self, actor: &Actor, organization: &str, id: &str) -> Result<Workspace, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store.read(|connection| {
            let found = find(connection, organization, id)?;
            // A workspace that the caller may not see looks like one that does not exist.
            actor
                .may(Operation::SeeWorkspace, Scope::workspace(organization, &found.id))
                .map_err(|_| Error::NotFound("workspace"))?;
            found.shown(connection)
        })
    }

    /// Deletes a workspace without deployments and tokens.
    pub fn delete_workspace(&self, actor: &Actor, organization: &str, id: &str) -> Result<(), Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.write(|transaction| {
            let known = transaction.query_row(
                "SELECT 1 FROM workspace WHERE id = ?1 AND organization = ?2",
                [id, organization],
                |_| Ok(()),
            );
            known.optional()?.ok_or(Error::NotFound("workspace"))?;
            let used: bool = transaction.query_row(
                "SELECT EXISTS (SELECT 1 FROM deployment WHERE workspace = ?1)
                     OR EXISTS (SELECT 1 FROM token WHERE workspace = ?1 AND deleted_at IS NULL)",
                [id],
                |row| row.get(0),
            )?;
            if used {
                return Err(Error::Conflict {
                    code: "not_empty",
                    detail: "the workspace still has deployments or tokens; delete them first".into(),
                });
            }
            for table in ["workspace_role", "team_role", "token_workspace_role"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE workspace = ?1"), [id])?;
            }
            transaction.execute("DELETE FROM workspace WHERE id = ?1", [id])?;
            Ok(())
        })
    }
}
