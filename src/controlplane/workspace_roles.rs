//! Roles of users and teams in workspaces.

use rusqlite::{Transaction, params};

use super::error::Error;
use super::users::WorkspaceGrant;

/// Holder of the roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder<'a> {
    /// User with this id.
    User(&'a str),
    /// Team with this id.
    Team(&'a str),
}

/// Replaces the roles of `holder`. Each must be in a workspace of the organization.
pub(super) fn set(
    transaction: &Transaction<'_>,
    organization: &str,
    holder: Holder<'_>,
    roles: &[WorkspaceGrant],
) -> Result<(), Error> {
    let (delete, insert, id) = match holder {
        Holder::User(id) => (
            "DELETE FROM workspace_role WHERE user = ?1",
            "INSERT OR REPLACE INTO workspace_role (user, workspace, role)
             SELECT ?1, id, ?3 FROM workspace WHERE id = ?2 AND organization = ?4",
            id,
        ),
        Holder::Team(id) => (
            "DELETE FROM team_role WHERE team = ?1",
            "INSERT OR REPLACE INTO team_role (team, workspace, role)
             SELECT ?1, id, ?3 FROM workspace WHERE id = ?2 AND organization = ?4",
            id,
        ),
    };
    transaction.execute(delete, [id])?;
    for WorkspaceGrant { workspace_id, role } in roles {
        if transaction.execute(insert, params![id, workspace_id, role.as_str(), organization])? == 0 {
            return Err(Error::NotFound("workspace"));
        }
    }
    Ok(())
}
