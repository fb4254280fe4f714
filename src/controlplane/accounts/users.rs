//! Users with their roles, and the token that each calls with.

use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::teams;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, OrganizationRole, WorkspaceRole};
use crate::controlplane::access::workspace_grants::{self, Holder};
use crate::controlplane::access::workspace_grants::{UserRoles, WorkspaceGrant};
use crate::controlplane::error::Error;
use crate::controlplane::names::{Name, check_name, taken};
use crate::protocol::jws::{Typ, sign};
use crate::protocol::time::Time;
use crate::protocol::token::Claims;

/// Lifetime of a user's token, in days.
const TOKEN_DAYS: i64 = 365;

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

impl ControlPlane {
    /// Creates a user, and shows the token once.
    pub fn create_user(&self, actor: &Actor, organization: &str, user: &NewUser) -> Result<UserToken, Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.write(|transaction| self.insert_user(transaction, organization, user))
    }

    pub(in crate::controlplane) fn insert_user(
        &self,
        transaction: &Transaction<'_>,
        organization: &str,
        user: &NewUser,
    ) -> Result<UserToken, Error> {
        check_name("email", &user.email)?;
        let id = self.new_id();
        let row = params![id, organization, user.email, user.organization_role.as_str(), self.now().unix()];
        transaction.execute("INSERT INTO user (id, organization, email, role, generation, created_at) VALUES (?1, ?2, ?3, ?4, 1, ?5)", row).map_err(taken)?;
        workspace_grants::set(transaction, organization, Holder::User(&id), &user.workspace_roles)?;
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
            permissions: Vec::new(),
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
                workspace_grants::set(transaction, organization, Holder::User(id), wanted)?;
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
