//! Users with their roles, and the token that each calls with.

use rusqlite::{OptionalExtension, params};
use serde_json::Value;
use zeroize::Zeroizing;

use super::teams;
use crate::api::id::UserId;
use crate::api::page::Page;
use crate::api::user::{
    NewUser, User, UserField, UserFilter, UserPage, UserRoles, UserToken, WorkspaceGrant,
};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, OrganizationRole, WorkspaceRole};
use crate::controlplane::access::deployment_grants;
use crate::controlplane::access::workspace_grants::{self, Holder};
use crate::controlplane::calls::generation::Rotated;
use crate::controlplane::calls::page::listed;
use crate::controlplane::error::Error;
use crate::controlplane::names::{check_name, name_conflict};
use crate::controlplane::store::Transaction;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::time::Time;
use crate::protocol::token::Claims;

/// Lifetime of a user's token, in days.
const TOKEN_DAYS: i64 = 365;

fn find(connection: &rusqlite::Connection, organization: &str, id: &str) -> Result<(User, u32), Error> {
    let query = "SELECT email, role, created_at, generation, token_ends_at, coalesce(updated_at, created_at) FROM user
                 WHERE id = ?1 AND organization = ?2 AND deleted_at IS NULL";
    let row: Option<(String, String, i64, u32, Option<i64>, i64)> =
        connection.query_row(query, [id, organization], |row| row.try_into()).optional()?;
    let (email, role, created_at, generation, token_ends_at, updated_at) =
        row.ok_or(Error::NotFound("user"))?;
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
    let grants = deployment_grants::held_by(connection, Holder::User(id))?;
    let (deployment_roles, dag_roles) = deployment_grants::shown(connection, &grants)?;
    let user = User {
        id: UserId::known(id.to_owned()),
        username: email.clone(),
        full_name: email.clone(),
        email,
        avatar_url: String::new(),
        status: "ACTIVE".into(),
        organization_role,
        workspace_roles,
        deployment_roles,
        dag_roles,
        created_at: Time::from_unix(created_at).into(),
        updated_at: Time::from_unix(updated_at).into(),
        token_ends_at: token_ends_at.map(|end| Time::from_unix(end).into()),
    };
    Ok((user, generation))
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
        transaction.execute("INSERT INTO user (id, organization, email, role, generation, created_at) VALUES (?1, ?2, ?3, ?4, 1, ?5)", row).map_err(name_conflict)?;
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
        let row = params![id, end.unix(), now.unix()];
        transaction.execute("UPDATE user SET token_ends_at = ?2, updated_at = ?3 WHERE id = ?1", row)?;
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

    /// Lists users, by email address.
    pub fn list_users(
        &self,
        actor: &Actor,
        organization: &str,
        filter: &UserFilter,
        page: Page,
    ) -> Result<UserPage, Error> {
        actor.may(Operation::Administer, organization)?;
        self.store.read(|connection| {
            let mut rows = connection.prepare_cached(
                "SELECT id FROM user WHERE organization = ?1 AND deleted_at IS NULL
                     AND (?2 IS NULL OR EXISTS (SELECT 1 FROM workspace_role WHERE user = user.id AND workspace = ?2))
                     AND (?3 IS NULL OR EXISTS (SELECT 1 FROM user_deployment_role WHERE holder = user.id AND deployment = ?3))
                     AND (?4 IS NULL OR EXISTS (SELECT 1 FROM user_deployment_role WHERE holder = user.id
                         AND entity_type = 'DAG' AND entity = ?4 AND (?3 IS NULL OR deployment = ?3)))
                     AND (?5 IS NULL OR EXISTS (SELECT 1 FROM user_deployment_role WHERE holder = user.id
                         AND entity_type = 'DAG_TAG' AND entity IN (SELECT value FROM json_each(?5))
                         AND (?3 IS NULL OR deployment = ?3)))",
            )?;
            let tags =
                (!filter.dag_tags.is_empty()).then(|| Value::from(filter.dag_tags.clone()).to_string());
            let of =
                params![organization, filter.workspace_id, filter.deployment_id, filter.dag_id, tags];
            let ids: Vec<String> = rows
                .query_map(of, |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let mut users = Vec::new();
            for id in ids {
                users.push(find(connection, organization, &id)?.0);
            }
            let (users, extent) = listed(
                page,
                "users",
                &filter.sorts,
                users,
                |user| user.email.clone(),
                |field, user| match field {
                    UserField::Username => user.email.clone().into(),
                    UserField::CreatedAt => user.created_at.time().unix().into(),
                    UserField::UpdatedAt => user.updated_at.time().unix().into(),
                },
            )?;
            Ok(UserPage { users, extent })
        })
    }

    /// Shows a user. Users may see themselves.
    pub fn show_user(&self, actor: &Actor, organization: &str, id: &str) -> Result<User, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        if actor.id != id {
            actor.may(Operation::Administer, organization)?;
        }
        self.store.read(|connection| Ok(find(connection, organization, id)?.0))
    }

    /// Changes a user's roles. A Workspace Owner may change those in that workspace only, and who manages a deployment's users
    /// those on it.
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
            let (holder, had) =
                (Holder::User(id), deployment_grants::held_by(transaction, Holder::User(id))?);
            let on = deployment_grants::wanted(transaction, actor, organization, holder, &had, roles)?;
            let role = roles.may_be_given(actor, organization, role, workspaces, on.judged)?;
            if let Some(grants) = &on.grants {
                deployment_grants::set(transaction, holder, grants)?;
            }
            if let Some(role) = role {
                transaction.execute("UPDATE user SET role = ?2 WHERE id = ?1", params![id, role.as_str()])?;
                keep_an_owner(transaction, organization)?;
            }
            if let Some(wanted) = &roles.workspace_roles {
                workspace_grants::set(transaction, organization, Holder::User(id), wanted)?;
            }
            let row = params![id, self.now().unix()];
            transaction.execute("UPDATE user SET updated_at = ?2 WHERE id = ?1", row)?;
            Ok(find(transaction, organization, id)?.0)
        })
    }

    /// Gives a user a new token, shown once. The old one becomes invalid. Users may do this for themselves.
    pub fn rotate_user_token(&self, actor: &Actor, organization: &str, id: &str) -> Result<UserToken, Error> {
        if actor.id != id {
            actor.may(Operation::Administer, organization)?;
        }
        self.store.write(|transaction| {
            find(transaction, organization, id)?;
            let generation = self.raise_generation(transaction, Rotated::User, id)?;
            let token = self.mint_user(transaction, id, generation)?;
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
            deployment_grants::set(transaction, Holder::User(id), &[])?;
            teams::leave_all(transaction, id)?;
            keep_an_owner(transaction, organization)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::api::instant::Instant;
    use crate::controlplane::test_world::World;

    #[test]
    fn a_list_of_users_says_when_each_token_ends() {
        let world = World::new();
        let organization = &world.owner.organization;
        let end = || {
            let page = Page { offset: 0, limit: 20, cursor: None };
            let users = world.control.list_users(&world.owner, organization, &UserFilter::default(), page);
            users.unwrap().users[0].token_ends_at.map(Instant::time)
        };
        let first = world.control.now().plus(TOKEN_DAYS * 86_400);
        assert_eq!(end(), Some(first));
        world.later(1000);
        let rotated = world.control.rotate_user_token(&world.owner, organization, &world.owner.id).unwrap();
        assert_eq!(
            (rotated.user.token_ends_at.map(Instant::time), end()),
            (Some(first.plus(1000)), Some(first.plus(1000)))
        );
    }
}
