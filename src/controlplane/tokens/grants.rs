//! Roles of a token: the one in its own scope, those on deployments that it is assigned to, and those on Dags.

use rusqlite::{Connection, OptionalExtension, params};

use crate::api::token::{EntityType, NewTokenRole, NewerRole, TokenRole};
use crate::controlplane::access::authorization::{Actor, Operation, OrganizationRole, Scope, WorkspaceRole};
use crate::controlplane::access::roles::RoleVersion;
use crate::controlplane::accounts::stored_deployments;
use crate::controlplane::error::Error;
use crate::controlplane::names::is_dag_name;
use crate::controlplane::store::Transaction;
use crate::controlplane::store::columns::word;
use crate::protocol::permission::PermissionSet;
use crate::protocol::role::RoleScope;
use crate::protocol::token::DagTarget;

/// Maximum number of roles of one token.
pub(super) const MAX_ROLES: usize = 200;

/// Stored role of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) entity_type: EntityType,
    pub(super) entity: String,
    /// Id of its workspace, or none for a role on the organization.
    pub(super) workspace: Option<String>,
    /// Id of the deployment that it is on, or whose Dags it is on.
    pub(super) deployment: Option<String>,
    /// Name of a built-in role, or id of a custom one.
    pub(super) role: String,
    /// Version in force, or none for the newest at any time.
    pub(super) version: Option<u32>,
}

/// Properties of a token that decide which roles it can have.
pub(super) struct Home<'a> {
    pub(super) organization: &'a str,
    pub(super) entity_type: EntityType,
    /// Id of its organization, workspace or deployment.
    pub(super) entity: &'a str,
    /// True if its roles keep the version that they have at creation.
    pub(super) fixed: bool,
}

impl Home<'_> {
    /// Returns true if the token can have roles on this kind of object, the organization or a workspace.
    fn is_within(&self, entity_type: EntityType) -> bool {
        entity_type == self.entity_type
            || (entity_type == EntityType::Workspace && self.entity_type == EntityType::Organization)
    }
}

fn unknown(role: &str, on: &str) -> Error {
    Error::invalid("role", format!("{role:?} is no role on {on}; `halligan role list` shows those there are"))
}

impl Grant {
    /// Finds the role and checks that the token can have it on this object.
    pub(super) fn new(connection: &Connection, home: &Home<'_>, new: &NewTokenRole) -> Result<Self, Error> {
        let grant = |workspace, deployment, role: &str, version| Self {
            entity_type: new.entity_type,
            entity: new.entity_id.clone(),
            workspace,
            deployment,
            role: role.into(),
            version,
        };
        let (organization, role) = (home.organization, new.role.as_str());
        match new.entity_type {
            EntityType::Organization | EntityType::Workspace if !home.is_within(new.entity_type) => {
                let detail = "only the organization's tokens have a role on it, and roles in several workspaces; a workspace's token has one there";
                Err(Error::invalid("entityType", detail))
            }
            EntityType::Organization | EntityType::Workspace
                if new.entity_type == home.entity_type && new.entity_id != home.entity =>
            {
                Err(Error::invalid("entityId", "is not the one the token belongs to"))
            }
            EntityType::Organization => {
                if new.entity_id != organization {
                    return Err(Error::invalid("entityId", "is not this organization"));
                }
                OrganizationRole::parse(role).ok_or_else(|| unknown(role, "an organization"))?;
                Ok(grant(None, None, role, None))
            }
            EntityType::Workspace => {
                let query = "SELECT 1 FROM workspace WHERE id = ?1 AND organization = ?2";
                let known =
                    connection.query_row(query, [&new.entity_id, organization], |_| Ok(())).optional()?;
                known.ok_or(Error::NoSuch { field: "entityId", what: "workspace" })?;
                WorkspaceRole::parse(role).ok_or_else(|| unknown(role, "a workspace"))?;
                Ok(grant(Some(new.entity_id.clone()), None, role, None))
            }
            EntityType::Deployment | EntityType::Dag | EntityType::DagTag => {
                let on = new.on_deployment(home)?;
                let (scope, what, field) = match new.entity_type {
                    EntityType::Deployment => (RoleScope::Deployment, "a deployment", "entityId"),
                    _ => (RoleScope::Dag, "Dags", "deploymentId"),
                };
                let deployment = stored_deployments::find(connection, organization, on)
                    .map_err(|error| error.in_field(field))?;
                let inside = match home.entity_type {
                    EntityType::Organization => true,
                    EntityType::Workspace => deployment.workspace_id == home.entity,
                    _ => deployment.id == home.entity,
                };
                if !inside {
                    let detail = "a workspace's token can have roles in that workspace only, a deployment's on that deployment only";
                    return Err(Error::invalid("roles", detail));
                }
                let found = RoleVersion::newest(connection, organization, role, scope)?
                    .ok_or_else(|| unknown(role, what))?;
                if !found.fits(&deployment.workspace_id) {
                    let detail = format!("{role} can't be held in workspace {}", deployment.workspace_id);
                    return Err(Error::invalid("role", detail));
                }
                let version = home.fixed.then_some(found.body.version);
                Ok(grant(Some(deployment.workspace_id), Some(deployment.id), &found.key, version))
            }
        }
    }

    /// Fails if a new token could no longer have the role: it was deleted, or restricted to other workspaces.
    pub(super) fn still_held(&self, connection: &Connection, organization: &str) -> Result<(), Error> {
        let scope = match self.entity_type {
            EntityType::Organization | EntityType::Workspace => return Ok(()),
            EntityType::Deployment => RoleScope::Deployment,
            EntityType::Dag | EntityType::DagTag => RoleScope::Dag,
        };
        let workspace = self.workspace.as_deref().unwrap_or_default();
        match RoleVersion::newest(connection, organization, &self.role, scope)? {
            Some(role) if role.fits(workspace) => Ok(()),
            found => {
                let name = self.role_version(connection)?.name;
                let why = if found.is_some() { "can no longer be held here" } else { "was deleted" };
                let detail =
                    format!("the token has expired, and its role {name} {why}; create another token");
                Err(Error::Conflict { code: "role_gone", detail })
            }
        }
    }

    /// Returns the scope for [`Actor::may`].
    pub(super) fn scope<'a>(&'a self, organization: &'a str) -> Scope<'a> {
        Scope { organization, workspace: self.workspace.as_deref(), deployment: self.deployment.as_deref() }
    }

    /// Checks that the caller may see the role.
    pub(super) fn seen_by(&self, actor: &Actor, organization: &str) -> Result<(), Error> {
        let operation = match self.entity_type {
            EntityType::Organization => Operation::ReadOrganizationTokens,
            EntityType::Workspace => Operation::ReadWorkspaceTokens,
            EntityType::Deployment | EntityType::Dag | EntityType::DagTag => Operation::ReadDeploymentTokens,
        };
        actor.may(operation, self.scope(organization))
    }

    /// Returns true if the other role is on the same object.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.entity_type == other.entity_type
            && self.entity == other.entity
            && self.deployment == other.deployment
    }

    /// Fails if the caller's own role on the object allows less, so that nobody grants or takes over more than they
    /// have.
    pub(super) fn within(
        &self,
        connection: &Connection,
        actor: &Actor,
        organization: &str,
    ) -> Result<(), Error> {
        let enough = match self.entity_type {
            EntityType::Organization => actor.role >= OrganizationRole::parse(&self.role),
            EntityType::Workspace => {
                let own = self.workspace.as_deref().and_then(|workspace| actor.workspace_role(workspace));
                own >= WorkspaceRole::parse(&self.role)
            }
            EntityType::Deployment | EntityType::Dag | EntityType::DagTag => {
                let own = actor.permissions_on(self.scope(organization));
                self.permissions(connection)?.is_subset(own)
            }
        };
        if enough {
            return Ok(());
        }
        Err(Error::role_exceeds_yours())
    }

    /// Returns its permissions on a deployment (for a Dag role, on its Dags).
    pub(super) fn permissions(&self, connection: &Connection) -> Result<PermissionSet, Error> {
        Ok(match self.entity_type {
            EntityType::Organization => {
                OrganizationRole::parse(&self.role).map(OrganizationRole::permissions).unwrap_or_default()
            }
            EntityType::Workspace => {
                WorkspaceRole::parse(&self.role).map(WorkspaceRole::permissions).unwrap_or_default()
            }
            EntityType::Deployment | EntityType::Dag | EntityType::DagTag => {
                self.role_version(connection)?.body.permissions
            }
        })
    }

    /// Returns the version of the role that is in force.
    pub(super) fn role_version(&self, connection: &Connection) -> Result<RoleVersion, Error> {
        RoleVersion::find_version(connection, &self.role, self.version)
    }

    /// Returns the Dags that it is on, if it is on Dags.
    pub(super) fn dag_target(&self) -> Option<DagTarget> {
        match self.entity_type {
            EntityType::Dag => Some(DagTarget::Dag(self.entity.clone())),
            EntityType::DagTag => Some(DagTarget::Tag(self.entity.clone())),
            _ => None,
        }
    }

    /// Returns its representation in the API.
    pub(super) fn shown(&self, connection: &Connection) -> Result<TokenRole, Error> {
        let mut shown = TokenRole {
            entity_type: self.entity_type,
            entity_id: self.entity.clone(),
            deployment_id: self.dag_target().and(self.deployment.clone()),
            role: self.role.clone(),
            role_version: None,
            role_digest: None,
            newest: None,
        };
        if self.deployment.is_some() {
            let (counts, newest) =
                (self.role_version(connection)?, RoleVersion::find_version(connection, &self.role, None)?);
            if newest.body.version != counts.body.version {
                shown.newest = Some(NewerRole {
                    version: newest.body.version,
                    added: newest.body.permissions.difference(counts.body.permissions),
                    removed: counts.body.permissions.difference(newest.body.permissions),
                });
            }
            shown.role_version = Some(counts.body.version);
            shown.role_digest = Some(counts.digest());
            shown.role = counts.name;
        }
        Ok(shown)
    }

    /// Returns the operation of giving or removing the role, if it is not in the token's own scope.
    pub(super) const fn granting(&self) -> Operation {
        match self.entity_type {
            EntityType::Dag | EntityType::DagTag => Operation::AssignDagRoles,
            EntityType::Workspace => Operation::ManageWorkspaceRoles,
            EntityType::Organization | EntityType::Deployment => Operation::AssignTokens,
        }
    }

    /// Inserts a role that is not in the token's own scope.
    pub(super) fn insert(
        &self,
        transaction: &Transaction<'_>,
        token: &str,
        actor: &Actor,
        now: i64,
    ) -> Result<(), Error> {
        if self.entity_type == EntityType::Workspace {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO token_workspace_role VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![token, self.entity, self.role, now, actor.id])?;
            return Ok(());
        }
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO token_role
                     (token, entity_type, entity, deployment, role, role_version, granted_at, granted_by)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                token,
                self.entity_type.as_str(),
                self.entity,
                self.deployment,
                self.role,
                self.version,
                now,
                actor.id
            ])?;
        Ok(())
    }

    /// Deletes a role that is not in the token's own scope.
    pub(super) fn remove(&self, transaction: &Transaction<'_>, token: &str) -> Result<(), Error> {
        if self.entity_type == EntityType::Workspace {
            transaction
                .prepare_cached("DELETE FROM token_workspace_role WHERE token = ?1 AND workspace = ?2")?
                .execute([token, &self.entity])?;
            return Ok(());
        }
        transaction
            .prepare_cached(
                "DELETE FROM token_role WHERE token = ?1 AND deployment = ?2 AND entity_type = ?3 AND entity = ?4",
            )?
            .execute(params![token, self.deployment, self.entity_type.as_str(), self.entity])?;
        Ok(())
    }
}

impl NewTokenRole {
    /// Returns the id of the deployment that it is on, or whose Dags it is on.
    fn on_deployment<'a>(&'a self, home: &Home<'a>) -> Result<&'a str, Error> {
        if self.entity_type == EntityType::Deployment {
            return Ok(&self.entity_id);
        }
        if !is_dag_name(&self.entity_id) {
            return Err(Error::invalid("entityId", "a Dag's id or tag has 1 to 250 visible characters"));
        }
        match &self.deployment_id {
            Some(deployment) => Ok(deployment),
            None if home.entity_type == EntityType::Deployment => Ok(home.entity),
            None => Err(Error::invalid("deploymentId", "name the deployment whose Dags it is on")),
        }
    }
}

/// Reads the roles of a token without the one in its own scope.
pub(super) fn besides(connection: &Connection, token: &str) -> Result<Vec<Grant>, Error> {
    let mut rows = connection.prepare_cached(
        "SELECT 'WORKSPACE' AS entity_type, workspace AS entity, workspace, NULL AS deployment, role, NULL
         FROM token_workspace_role WHERE token = ?1
         UNION ALL
         SELECT entity_type, entity, workspace, deployment, role, role_version
         FROM token_role JOIN deployment ON deployment.id = token_role.deployment
         WHERE token = ?1 ORDER BY deployment, entity_type, entity",
    )?;
    let rows = rows.query_map([token], |row| {
        Ok(Grant {
            entity_type: word(row, 0)?,
            entity: row.get(1)?,
            workspace: row.get(2)?,
            deployment: row.get(3)?,
            role: row.get(4)?,
            version: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
