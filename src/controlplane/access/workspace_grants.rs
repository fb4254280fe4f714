//! Roles of users and teams in workspaces.

use rusqlite::params;

use super::authorization::{Actor, Operation, OrganizationRole, Scope};
use crate::api::user::{UserRoles, WorkspaceGrant};
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;

impl UserRoles {
    /// Checks that `actor` may set these roles for a user who has `role` and `workspaces`, and returns the role in the
    /// organization if it changes. Administrators may set any roles; a Workspace Owner may set those in that workspace
    /// only. Roles on deployments are judged by [`super::deployment_grants::wanted`]; `judged` is true if it did.
    pub(in crate::controlplane) fn may_be_given(
        &self,
        actor: &Actor,
        organization: &str,
        role: OrganizationRole,
        workspaces: &[WorkspaceGrant],
        judged: bool,
    ) -> Result<Option<OrganizationRole>, Error> {
        let role = self.organization_role.filter(|&wanted| wanted != role);
        let touched =
            self.workspace_roles.as_deref().map_or_else(Vec::new, |wanted| touched(workspaces, wanted));
        // A call that changes nothing needs the permission as well, because its answer shows the user's roles.
        if role.is_some() || (touched.is_empty() && !judged) {
            actor.may(Operation::Administer, organization)?;
        }
        for workspace in touched {
            actor.may(Operation::ManageWorkspaceRoles, Scope::workspace(organization, workspace))?;
        }
        Ok(role)
    }
}

/// Returns the workspaces in which roles change from `before` to `wanted`. If none do, returns those in `wanted`.
fn touched<'a>(before: &'a [WorkspaceGrant], wanted: &'a [WorkspaceGrant]) -> Vec<&'a str> {
    let lost = before.iter().filter(|grant| !wanted.contains(grant));
    let won = wanted.iter().filter(|grant| !before.contains(grant));
    let mut touched: Vec<&str> = lost.chain(won).map(|grant| grant.workspace_id.as_str()).collect();
    if touched.is_empty() {
        touched.extend(wanted.iter().map(|grant| grant.workspace_id.as_str()));
    }
    touched
}

/// Holder of the roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controlplane) enum Holder<'a> {
    /// User with this id.
    User(&'a str),
    /// Team with this id.
    Team(&'a str),
}

/// Replaces the roles of `holder`. Each must be in a workspace of the organization.
pub(in crate::controlplane) fn set(
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
            return Err(Error::NoSuch { field: "workspaceRoles", what: "workspace" });
        }
    }
    Ok(())
}
