//! Users with their roles, and the token that each calls with.

use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ControlPlane;
use super::authorization::{Actor, Operation, OrganizationRole, Scope, WorkspaceRole};
use super::error::Error;
use super::organizations::{Name, check_name, taken};
use super::teams;
use super::workspace_roles::{self, Holder};
use crate::protocol::jws::{Typ, sign};
use crate::protocol::time::Time;
use crate::protocol::token::Claims;

/// Lifetime of a user's token, in days.
const TOKEN_DAYS: i64 = 365;

/// Role in a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkspaceGrant {
    /// Id of the workspace.
    pub workspace_id: String,
    /// Role in the workspace.
    pub role: WorkspaceRole,
}

/// Properties of a new user.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewUser {
    /// Email address, which identifies the user to people.
    #[schema(value_type = Name)]
    pub email: String,
    /// Role in the organization.
    pub organization_role: OrganizationRole,
    /// Roles in workspaces.
    #[serde(default)]
    pub workspace_roles: Vec<WorkspaceGrant>,
}

/// Changes to a user's roles. Absent members keep their values.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserRoles {
    /// New role in the organization.
    pub organization_role: Option<OrganizationRole>,
    /// New roles in workspaces, in place of all earlier ones.
    pub workspace_roles: Option<Vec<WorkspaceGrant>>,
}

/// User of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Id of the user.
    pub id: String,
    /// Email address, which identifies the user to people.
    pub email: String,
    /// Role in the organization.
    pub organization_role: OrganizationRole,
    /// Roles in workspaces.
    pub workspace_roles: Vec<WorkspaceGrant>,
    /// Time of creation.
    pub created_at: Time,
    /// Expiry of the token that the user calls with, or none if an earlier version rotated it and its expiry is
    /// unknown.
    pub token_ends_at: Option<Time>,
}

/// User with the token, which is shown only once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserToken {
    /// Properties of the user.
    #[serde(flatten)]
    pub user: User,
    /// Value of the token.
    #[schema(value_type = String)]
    pub token: Zeroizing<String>,
}

fn find(connection: &rusqlite::Connection, organization: &str, id: &str) -> Result<(User, u32), Error> {
    let query = "SELECT email, role, created_at, generation, token_ends_at FROM user
                 WHERE id = ?1 AND organization = ?2 AND deleted_at IS NULL";
    let row: Option<(String, String, i64, u32, Option<i64>)> =
        connection.query_row(query, [id, organization], |row| row.try_into()).optional()?;
    let (email, role, created_at, generation, token_ends_at) = row.ok_or(Error::NotFound("user"))?;
    let mut rows = connection
        .prepare_cached("SELECT workspace, role FROM workspace_role WHERE user = ?1 ORDER BY workspace")?;
    let rows = rows.query_map([id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut workspace_roles = Vec::new();
    for row in rows {
        let (workspace_id, role) = row?;
        if let Some(role) = WorkspaceRole::parse(&role) {
            workspace_roles.push(WorkspaceGrant { workspace_id, role });
        }
    }
    let organization_role = OrganizationRole::parse(&role).ok_or(Error::NotFound("user"))?;
    let (id, created_at) = (id.to_owned(), Time::from_unix(created_at));
    let token_ends_at = token_ends_at.map(Time::from_unix);
    Ok((User { id, email, organization_role, workspace_roles, created_at, token_ends_at }, generation))
}

/// Fails if the organization has no owner left, because nobody could appoint one.
fn keep_an_owner(transaction: &Transaction<'_>, organization: &str) -> Result<(), Error> {
    let query = "SELECT EXISTS (SELECT 1 FROM user WHERE organization = ?1 AND role = 'ORGANIZATION_OWNER' AND deleted_at IS NULL)";
    if transaction.query_row(query, [organization], |row| row.get(0))? {
        return Ok(());
    }
    Err(Error::Conflict {
        code: "last_owner",
        detail: "this is the last Organization Owner; make another user one first".into(),
    })
}

impl UserRoles {
    /// Checks that `actor` may set these roles for a user who has `role` and `workspaces`, and returns the role in the
    /// organization if it changes. Administrators may set any roles; a Workspace Owner may set those in that workspace
    /// only.
    pub(super) fn may_be_given(
        &self,
        actor: &Actor,
        organization: &str,
        role: OrganizationRole,
        workspaces: &[WorkspaceGrant],
    ) -> Result<Option<OrganizationRole>, Error> {
        let role = self.organization_role.filter(|&wanted| wanted != role);
        let touched =
            self.workspace_roles.as_deref().map_or_else(Vec::new, |wanted| touched(workspaces, wanted));
        // A call that changes nothing needs the permission as well, because its answer shows the user's roles.
        if role.is_some() || touched.is_empty() {
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

impl ControlPlane {
    /// Creates a user, and shows the token once.
    pub fn create_user(&self, actor: &Actor, organization: &str, user: &NewUser) -> Result<UserToken, Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.write(|transaction| self.insert_user(transaction, organization, user))
    }

    pub(super) fn insert_user(
        &self,
        transaction: &Transaction<'_>,
        organization: &str,
        user: &NewUser,
    ) -> Result<UserToken, Error> {
        check_name("email", &user.email)?;
        let id = self.new_id("usr_");
        let row = params![id, organization, user.email, user.organization_role.as_str(), self.now().unix()];
        transaction.execute("INSERT INTO user (id, organization, email, role, generation, created_at) VALUES (?1, ?2, ?3, ?4, 1, ?5)", row).map_err(taken)?;
        workspace_roles::set(transaction, organization, Holder::User(&id), &user.workspace_roles)?;
        let token = self.mint_user(transaction, &id, 1)?;
        Ok(UserToken { user: find(transaction, organization, &id)?.0, token })
    }

    /// Mints a user's token, and stores its expiry.
    fn mint_user(
        &self,
        transaction: &Transaction<'_>,
        id: &str,
        generation: u32,
    ) -> Result<Zeroizing<String>, Error> {
        let now = self.now();
        let end = now.plus(TOKEN_DAYS * 86_400);
        transaction.execute("UPDATE user SET token_ends_at = ?2 WHERE id = ?1", params![id, end.unix()])?;
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: id.parse().map_err(|_| Error::NotFound("user"))?,
            aud: self.issuer.clone(),
            iat: now,
            nbf: now,
            exp: Some(end),
            generation,
            role: None,
        };
        let payload = serde_json::to_vec(&claims).map_err(std::io::Error::from)?;
        Ok(Zeroizing::new(sign(Typ::User, &payload, &self.signing().token)))
    }

    /// Lists users.
    pub fn list_users(&self, actor: &Actor, organization: &str) -> Result<Vec<User>, Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.read(|connection| {
            let mut rows = connection.prepare_cached(
                "SELECT id FROM user WHERE organization = ?1 AND deleted_at IS NULL ORDER BY email",
            )?;
            let ids: Vec<String> =
                rows.query_map([organization], |row| row.get(0))?.collect::<Result<_, _>>()?;
            ids.iter().map(|id| Ok(find(connection, organization, id)?.0)).collect()
        })
    }

    /// Changes a user's roles. A Workspace Owner may change those in that workspace only.
    pub fn set_user_roles(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        roles: &UserRoles,
    ) -> Result<User, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store.write(|transaction| {
            let (before, _) = find(transaction, organization, id)?;
            let (role, workspaces) = (before.organization_role, &before.workspace_roles);
            let role = roles.may_be_given(actor, organization, role, workspaces)?;
            if let Some(role) = role {
                transaction.execute("UPDATE user SET role = ?2 WHERE id = ?1", params![id, role.as_str()])?;
                keep_an_owner(transaction, organization)?;
            }
            if let Some(wanted) = &roles.workspace_roles {
                workspace_roles::set(transaction, organization, Holder::User(id), wanted)?;
            }
            Ok(find(transaction, organization, id)?.0)
        })
    }

    /// Gives a user a new token, shown once. The old one becomes invalid. Users may do this for themselves.
    pub fn rotate_user_token(&self, actor: &Actor, organization: &str, id: &str) -> Result<UserToken, Error> {
        if actor.id != id {
            actor.may(Operation::Administer, organization)?;
        }
        self.store.write(|transaction| {
            let generation = find(transaction, organization, id)?.1 + 1;
            let token = self.mint_user(transaction, id, generation)?;
            transaction.execute("UPDATE user SET generation = ?2 WHERE id = ?1", params![id, generation])?;
            Ok(UserToken { user: find(transaction, organization, id)?.0, token })
        })
    }

    /// Deletes a user. The user's token becomes invalid.
    pub fn delete_user(&self, actor: &Actor, organization: &str, id: &str) -> Result<(), Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.write(|transaction| {
            find(transaction, organization, id)?;
            // Frees the email address for another user.
            let update = "UPDATE user SET deleted_at = ?2, email = email || ' (' || id || ')' WHERE id = ?1";
            transaction.execute(update, params![id, self.now().unix()])?;
            transaction.execute("DELETE FROM workspace_role WHERE user = ?1", [id])?;
            teams::leave_all(transaction, id)?;
            keep_an_owner(transaction, organization)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::controlplane::test_world::World;

    #[test]
    fn a_list_of_users_says_when_each_token_ends() {
        let world = World::new();
        let organization = &world.owner.organization;
        let end = || world.control.list_users(&world.owner, organization).unwrap()[0].token_ends_at;
        let first = world.control.now().plus(TOKEN_DAYS * 86_400);
        assert_eq!(end(), Some(first));
        world.later(1000);
        let rotated = world.control.rotate_user_token(&world.owner, organization, &world.owner.id).unwrap();
        assert_eq!((rotated.user.token_ends_at, end()), (Some(first.plus(1000)), Some(first.plus(1000))));
    }
}
