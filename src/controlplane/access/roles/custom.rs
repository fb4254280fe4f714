//! Custom roles: creates, changes and deletes them. A version never changes once it is made; a change makes the next
//! version.

use rusqlite::{OptionalExtension, params};

use super::{built_in_roles, find, is_built_in};
use crate::api::id::RoleId;
use crate::api::role::{NewRole, Role, RoleUpdate};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::error::Error;
use crate::controlplane::names::{check_description, name_conflict};
use crate::controlplane::replica::publish;
use crate::controlplane::store::Transaction;
use crate::protocol::id::is_id;
use crate::protocol::permission::{PermissionSet, held_on_dags, retired};
use crate::protocol::role::{RESERVED, RoleBody, RoleDigest, RoleScope, is_reserved};

/// Selects the users and teams that have the role, and the tokens that have it and are neither deleted nor expired, each with
/// the workspace of the role.
const USES: &str = "
    SELECT holder AS id, deployment.workspace FROM user_deployment_role
        JOIN deployment ON deployment.id = user_deployment_role.deployment WHERE role = ?1
    UNION
    SELECT holder, deployment.workspace FROM team_deployment_role
        JOIN deployment ON deployment.id = team_deployment_role.deployment WHERE role = ?1
    UNION
    SELECT token.id, deployment.workspace FROM token JOIN deployment ON deployment.id = token.entity
        WHERE token.role = ?1 AND token.deleted_at IS NULL AND (token.end_at IS NULL OR token.end_at > ?2)
    UNION
    SELECT token.id, deployment.workspace FROM token_role
        JOIN token ON token.id = token_role.token JOIN deployment ON deployment.id = token_role.deployment
        WHERE token_role.role = ?1 AND token.deleted_at IS NULL AND (token.end_at IS NULL OR token.end_at > ?2)";

/// Returns the name under which data planes know a role. Tokens, headers, logs and configuration files carry it, where a
/// space would end a word.
fn published(name: &str) -> String {
    name.replace(' ', "_")
}

/// Fails if another role of the organization is published under the same name as `role`.
fn check_published(transaction: &Transaction<'_>, organization: &str, role: &Role) -> Result<(), Error> {
    let other: Option<String> = transaction
        .query_row(
            "SELECT name FROM role WHERE organization = ?1 AND id <> ?2 AND deleted_at IS NULL
                 AND replace(name, ' ', '_') = ?3",
            params![organization, &*role.id, published(&role.name)],
            |row| row.get(0),
        )
        .optional()?;
    let Some(other) = other else { return Ok(()) };
    let detail = format!("hosts could not tell it from the role {other:?}; choose another name");
    Err(Error::Conflict { code: "name_taken", detail })
}

/// Checks a role that is to be `role`. Permissions that it has now (`had`) can stay.
fn check(role: &Role, had: PermissionSet) -> Result<(), Error> {
    let spaced = role.name.split(' ').any(str::is_empty);
    if spaced || !is_id(&published(&role.name)) {
        let detail = "use 1 to 64 letters, digits, '_' or '-', with single spaces between words";
        return Err(Error::invalid("name", detail));
    }
    // A name that looks like an id could refer to two roles.
    if RoleId::is_form(&role.name) {
        return Err(Error::invalid("name", "a name can't look like an id, as this one does"));
    }
    if built_in_roles().iter().any(|known| known.name.eq_ignore_ascii_case(&published(&role.name))) {
        let detail = format!("{} is a built-in role; choose another name", role.name);
        return Err(Error::Conflict { code: "name_taken", detail });
    }
    if is_reserved(&published(&role.name)) {
        return Err(Error::invalid(
            "name",
            format!("names that begin with {} are kept for built-in roles", RESERVED.join(", ")),
        ));
    }
    check_description(&role.description)?;
    let outside = match role.scope_type {
        RoleScope::Deployment => PermissionSet::empty(),
        RoleScope::Dag => role.permissions.difference(held_on_dags()),
        RoleScope::Organization | RoleScope::Workspace => {
            return Err(Error::invalid("scopeType", "a custom role is one on a DEPLOYMENT or a DAG"));
        }
    };
    if let Some(permission) = outside.iter().next() {
        return Err(Error::invalid("permissions", format!("{permission} can't be held on a Dag")));
    }
    if let Some(permission) = role.permissions.difference(had).iter().find(|&new| retired().contains(new)) {
        let detail = format!(
            "{permission} is kept for roles that have it; `halligan role permissions` lists the others"
        );
        return Err(Error::invalid("permissions", detail));
    }
    if role.permissions.is_empty() {
        return Err(Error::invalid("permissions", "name at least one permission"));
    }
    Ok(())
}

/// Inserts the next version of a role, and makes it the newest.
fn insert_version(
    transaction: &Transaction<'_>,
    organization: &str,
    role: &mut Role,
    actor: &Actor,
    now: i64,
) -> Result<(), Error> {
    // Version numbers continue across all roles that ever had the name: NAME@VERSION stands for the same bytes on every
    // node.
    role.version = transaction.query_row(
        "SELECT 1 + coalesce(max(version), 0) FROM role_version
             WHERE role = ?1 OR (organization = ?2 AND replace(name, ' ', '_') = ?3)",
        params![&*role.id, organization, published(&role.name)],
        |row| row.get(0),
    )?;
    let body = RoleBody {
        name: published(&role.name),
        version: role.version,
        scope: role.scope_type,
        permissions: role.permissions,
    };
    let text = body.to_body();
    role.digest = RoleDigest::compute(&text);
    transaction.execute(
        "INSERT INTO role_version (role, organization, name, version, body, created_at, created_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![&*role.id, organization, role.name, role.version, text, now, actor.id],
    )?;
    transaction.execute("UPDATE role SET version = ?2 WHERE id = ?1", params![&*role.id, role.version])?;
    Ok(())
}

fn check_workspaces(
    transaction: &Transaction<'_>,
    organization: &str,
    role: &Role,
    now: i64,
) -> Result<(), Error> {
    let allowed = &role.restricted_workspace_ids;
    for id in allowed {
        let query = "SELECT 1 FROM workspace WHERE id = ?1 AND organization = ?2";
        let known = transaction.query_row(query, [id, organization], |_| Ok(())).optional()?;
        known
            .ok_or_else(|| Error::invalid("restrictedWorkspaceIds", format!("{id} is no workspace here")))?;
    }
    let mut uses = transaction.prepare_cached(USES)?;
    let mut uses = uses.query(params![&*role.id, now])?;
    while let Some(row) = uses.next()? {
        let (holder, workspace): (String, String) = (row.get(0)?, row.get(1)?);
        if !allowed.is_empty() && !allowed.contains(&workspace) {
            let detail = format!("{holder} has this role in workspace {workspace}; remove it there first");
            return Err(Error::Conflict { code: "role_in_use", detail });
        }
    }
    Ok(())
}

fn written(workspaces: &[String]) -> Result<String, Error> {
    Ok(serde_json::to_string(workspaces).map_err(std::io::Error::from)?)
}

fn scope_word(scope: RoleScope) -> &'static str {
    if scope == RoleScope::Dag { "DAG" } else { "DEPLOYMENT" }
}

impl ControlPlane {
    /// Creates a custom role with its first version.
    pub fn create_role(&self, actor: &Actor, organization: &str, new: NewRole) -> Result<Role, Error> {
        actor.may(Operation::ManageRoles, organization)?;
        let now = self.now();
        let mut role = Role {
            id: RoleId::known(self.new_id()),
            name: new.name,
            description: new.description,
            scope_type: new.scope_type,
            permissions: new.permissions,
            restricted_workspace_ids: new.restricted_workspace_ids,
            version: 0,
            digest: RoleDigest::compute(""),
            built_in: false,
            created_at: None,
            created_by: None,
            updated_at: None,
            updated_by: None,
        };
        check(&role, PermissionSet::empty())?;
        self.store.write(|transaction| {
            check_published(transaction, organization, &role)?;
            transaction
                .execute(
                    "INSERT INTO role
                         (id, organization, name, description, scope, version, workspaces, created_at, created_by, updated_at, updated_by)
                     VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?7, ?8)",
                    params![
                        &*role.id,
                        organization,
                        role.name,
                        role.description,
                        scope_word(role.scope_type),
                        written(&role.restricted_workspace_ids)?,
                        now.unix(),
                        actor.id
                    ],
                )
                .map_err(name_conflict)?;
            check_workspaces(transaction, organization, &role, now.unix())?;
            insert_version(transaction, organization, &mut role, actor, now.unix())?;
            find(transaction, organization, &role.id)
        })
    }

    /// Changes a custom role. Standard tokens that have it get the new version; a direct-access token keeps the version
    /// it was created with.
    pub fn update_role(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        update: RoleUpdate,
    ) -> Result<Role, Error> {
        actor.may(Operation::ManageRoles, organization)?;
        fixed_if_built_in(id)?;
        let now = self.now();
        self.store.write(|transaction| {
            let before = find(transaction, organization, id)?;
            let mut role = before.clone();
            role.name = update.name.unwrap_or(role.name);
            role.description = update.description.unwrap_or(role.description);
            role.permissions = update.permissions.unwrap_or(role.permissions);
            role.restricted_workspace_ids =
                update.restricted_workspace_ids.unwrap_or(role.restricted_workspace_ids);
            check(&role, before.permissions)?;
            check_published(transaction, organization, &role)?;
            let row = params![
                &*role.id,
                role.name,
                role.description,
                written(&role.restricted_workspace_ids)?,
                now.unix(),
                actor.id
            ];
            transaction
                .execute(
                    "UPDATE role SET name = ?2, description = ?3, workspaces = ?4, updated_at = ?5, updated_by = ?6 WHERE id = ?1",
                    row,
                )
                .map_err(name_conflict)?;
            check_workspaces(transaction, organization, &role, now.unix())?;
            if (&role.name, role.permissions) != (&before.name, before.permissions) {
                insert_version(transaction, organization, &mut role, actor, now.unix())?;
                publish::standard_tokens_changed(transaction, organization)?;
            }
            find(transaction, organization, &role.id)
        })
    }

    /// Deletes a custom role. Fails while a valid token, a user or a team has it.
    pub fn delete_role(&self, actor: &Actor, organization: &str, id: &str) -> Result<(), Error> {
        actor.may(Operation::ManageRoles, organization)?;
        fixed_if_built_in(id)?;
        let now = self.now();
        self.store.write(|transaction| {
            let role = find(transaction, organization, id)?;
            let query = format!("SELECT count(DISTINCT id), min(id) FROM ({USES})");
            let (count, one): (u64, Option<String>) =
                transaction.query_row(&query, params![&*role.id, now.unix()], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            if let Some(one) = one {
                let detail = format!(
                    "{count} tokens, users or teams have this role, {one} among them; give them another one or delete them first"
                );
                return Err(Error::Conflict { code: "role_in_use", detail });
            }
            transaction.execute(
                "UPDATE role SET deleted_at = ?2, updated_at = ?2, updated_by = ?3 WHERE id = ?1",
                params![&*role.id, now.unix(), actor.id],
            )?;
            Ok(())
        })
    }
}

fn fixed_if_built_in(role: &str) -> Result<(), Error> {
    if is_built_in(role) {
        let detail =
            format!("{role} is a built-in role; it can't be changed, but a custom role can start from it");
        return Err(Error::Conflict { code: "role_built_in", detail });
    }
    Ok(())
}
