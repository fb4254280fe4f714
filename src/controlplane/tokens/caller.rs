//! Shows callers who they are, which roles they have, and what these allow.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Stored, find};
use crate::api::caller::{Caller, CallerPlace, CallerRole};
use crate::api::id::OrganizationId;
use crate::api::subject::SubjectType;
use crate::api::token::EntityType;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, OrganizationRole, Scope};
use crate::controlplane::access::deployment_grants;
use crate::controlplane::accounts::stored_deployments;
use crate::controlplane::error::Error;
use crate::protocol::permission::PermissionSet;
use crate::protocol::time::Time;

/// Properties of a user or token as such.
struct Account {
    subject_type: SubjectType,
    name: String,
    created_at: Time,
    updated_at: Time,
    roles: Vec<CallerRole>,
}

fn user(connection: &Connection, actor: &Actor) -> Result<Option<Account>, Error> {
    let query = "SELECT email, created_at, coalesce(updated_at, created_at) FROM user WHERE id = ?1";
    let found: Option<(String, i64, i64)> =
        connection.query_row(query, [&actor.id], |row| row.try_into()).optional()?;
    let Some((name, created_at, updated_at)) = found else { return Ok(None) };
    let role = |entity_type, entity_id: &str, role: &str| CallerRole {
        entity_type,
        entity_id: entity_id.to_owned(),
        deployment_id: None,
        role: role.to_owned(),
    };
    let organization = actor.role.map(OrganizationRole::as_str);
    let organization = organization.map(|name| role(EntityType::Organization, &actor.organization, name));
    let workspaces = actor.workspaces.iter().map(|(id, held)| role(EntityType::Workspace, id, held.as_str()));
    let mut roles: Vec<CallerRole> = organization.into_iter().chain(workspaces).collect();
    for grant in deployment_grants::of_user_and_teams(connection, &actor.id)? {
        let dag = grant.entity_type != EntityType::Deployment;
        roles.push(CallerRole {
            entity_type: grant.entity_type,
            deployment_id: dag.then(|| grant.deployment.clone()),
            role: grant.name(connection)?,
            entity_id: grant.entity,
        });
    }
    Ok(Some(Account {
        subject_type: SubjectType::User,
        name,
        created_at: Time::from_unix(created_at),
        updated_at: Time::from_unix(updated_at),
        roles,
    }))
}

/// Returns the roles of a token.
pub(super) fn roles_of(connection: &Connection, token: &Stored) -> Result<Vec<CallerRole>, Error> {
    let mut roles = Vec::new();
    for grant in &token.grants {
        let shown = grant.shown(connection)?;
        roles.push(CallerRole {
            entity_type: shown.entity_type,
            entity_id: shown.entity_id,
            deployment_id: shown.deployment_id,
            role: shown.role,
        });
    }
    Ok(roles)
}

fn token(connection: &Connection, actor: &Actor) -> Result<Account, Error> {
    let token = find(connection, &actor.organization, &actor.id)?;
    let roles = roles_of(connection, &token)?;
    let (created_at, updated_at) = (token.created_at, token.updated_at);
    Ok(Account { subject_type: SubjectType::ServiceKey, name: token.name, created_at, updated_at, roles })
}

/// Fails if the workspace does not exist, or the caller may not see it.
fn see_workspace(connection: &Connection, actor: &Actor, id: &str) -> Result<(), Error> {
    let query = "SELECT 1 FROM workspace WHERE id = ?1 AND organization = ?2";
    let found = connection.query_row(query, params![id, actor.organization], |_| Ok(())).optional()?;
    let seen = actor.may(Operation::SeeWorkspace, Scope::workspace(&actor.organization, id));
    found.filter(|()| seen.is_ok()).ok_or(Error::NoSuch { field: "workspaceId", what: "workspace" })
}

impl ControlPlane {
    /// Shows the caller, and what the caller may do on an object.
    pub fn show_caller(&self, actor: &Actor, place: &CallerPlace) -> Result<Caller, Error> {
        self.store.read(|connection| {
            let account = match user(connection, actor)? {
                Some(user) => user,
                None => token(connection, actor)?,
            };
            let (operations, permissions) = match (&place.deployment_id, &place.workspace_id) {
                (Some(_), Some(_)) => {
                    return Err(Error::invalid("workspaceId", "name either a workspace or a deployment"));
                }
                (Some(id), None) => {
                    let found = stored_deployments::find(connection, &actor.organization, id)
                        .map_err(|error| error.in_field("deploymentId"))?;
                    let scope = found.scope(&actor.organization);
                    (actor.operations(scope), actor.permissions_on(scope))
                }
                (None, Some(id)) => {
                    see_workspace(connection, actor, id)?;
                    let scope = Scope::workspace(&actor.organization, id);
                    (actor.operations(scope), PermissionSet::empty())
                }
                (None, None) => {
                    (actor.operations(actor.organization.as_str().into()), PermissionSet::empty())
                }
            };
            Ok(Caller {
                id: actor.id.clone(),
                subject_type: account.subject_type,
                username: account.name.clone(),
                full_name: account.name,
                avatar_url: String::new(),
                status: "ACTIVE".into(),
                organization_id: OrganizationId::known(actor.organization.clone()),
                roles: account.roles,
                operations,
                permissions,
                created_at: account.created_at.into(),
                updated_at: account.updated_at.into(),
            })
        })
    }
}
