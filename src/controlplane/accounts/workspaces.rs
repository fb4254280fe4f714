//! Workspaces, which group deployments.

use rusqlite::{OptionalExtension, params};

use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, Scope};
use crate::controlplane::error::Error;
use crate::controlplane::names::{Named, check_name, taken};

fn in_workspace<'a>(organization: &'a str, workspace: &'a str) -> Scope<'a> {
    Scope::workspace(organization, workspace)
}

impl ControlPlane {
    /// Creates a workspace.
    pub fn create_workspace(&self, actor: &Actor, organization: &str, name: &str) -> Result<Named, Error> {
        actor.may(Operation::Administer, organization)?;
        check_name("name", name)?;
        let named = Named { id: self.new_id(), name: name.into(), created_at: self.now() };
        self.store.write(|transaction| {
            let row = params![named.id, organization, name, named.created_at.unix()];
            let insert = "INSERT INTO workspace (id, organization, name, created_at) VALUES (?1, ?2, ?3, ?4)";
            transaction.execute(insert, row).map_err(taken)?;
            Ok(())
        })?;
        Ok(named)
    }

    /// Lists the workspaces that the caller may see.
    pub fn list_workspaces(&self, actor: &Actor, organization: &str) -> Result<Vec<Named>, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        let mut workspaces: Vec<Named> = self.store.read(|connection| {
            let mut rows = connection.prepare_cached(
                "SELECT id, name, created_at FROM workspace WHERE organization = ?1 ORDER BY name",
            )?;
            Ok(rows.query_map([organization], Named::read)?.collect::<Result<_, _>>()?)
        })?;
        workspaces.retain(|found| {
            actor.may(Operation::SeeWorkspace, in_workspace(organization, &found.id)).is_ok()
        });
        Ok(workspaces)
    }

    /// Shows a workspace.
    pub fn show_workspace(&self, actor: &Actor, organization: &str, id: &str) -> Result<Named, Error> {
        let found = self.list_workspaces(actor, organization)?.into_iter().find(|found| found.id == id);
        found.ok_or(Error::NotFound("workspace"))
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
            for table in ["workspace_role", "team_role"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE workspace = ?1"), [id])?;
            }
            transaction.execute("DELETE FROM workspace WHERE id = ?1", [id])?;
            Ok(())
        })
    }
}
