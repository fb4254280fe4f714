//! The roles of a token: the one in its own scope, those on deployments it is assigned to, and those on Dags.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::TokenType;
use crate::controlplane::authorization::{Actor, Operation, OrganizationRole, Scope, WorkspaceRole};
use crate::controlplane::deployments;
use crate::controlplane::error::Error;
use crate::controlplane::roles::RoleVersion;
use crate::platform::text::is_unseen;
use crate::protocol::permission::PermissionSet;
use crate::protocol::role::{RoleDigest, RoleScope};
use crate::protocol::token::DagTarget;

/// The most roles one token can have.
pub(super) const MAX_ROLES: usize = 200;

/// What a role is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntityType {
    /// An organization.
    Organization,
    /// A workspace.
    Workspace,
    /// A deployment.
    Deployment,
    /// One Dag, by id.
    Dag,
    /// Every Dag with a tag.
    DagTag,
}

impl EntityType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "ORGANIZATION",
            Self::Workspace => "WORKSPACE",
            Self::Deployment => "DEPLOYMENT",
            Self::Dag => "DAG",
            Self::DagTag => "DAG_TAG",
        }
    }
}

impl From<TokenType> for EntityType {
    fn from(token_type: TokenType) -> Self {
        match token_type {
            TokenType::Organization => Self::Organization,
            TokenType::Workspace => Self::Workspace,
            TokenType::Deployment => Self::Deployment,
        }
    }
}

/// A role a token is to have. What else [`TokenRole`] shows is passed over, so that what was read can be sent back.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewTokenRole {
    /// On what kind of thing.
    pub entity_type: EntityType,
    /// On which: an id, or the tag itself.
    pub entity_id: String,
    /// The deployment of a Dag or a tag; a deployment's token has them on its own.
    pub deployment_id: Option<String>,
    /// The role, by name; a custom one also by id.
    pub role: String,
}

/// A token's role, as it is shown.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenRole {
    /// On what kind of thing.
    pub entity_type: EntityType,
    /// On which: an id, or the tag itself.
    pub entity_id: String,
    /// The deployment of a Dag or a tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// The role's name.
    pub role: String,
    /// The version that counts: the newest, or the one a direct-access token was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_version: Option<u32>,
    /// The digest of that version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_digest: Option<RoleDigest>,
    /// The newest version, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<NewerRole>,
}

/// By how much a role has moved on since a direct-access token was made with it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct NewerRole {
    /// The newest version.
    pub version: u32,
    /// What it allows that the token's version does not.
    pub added: PermissionSet,
    /// What the token's version allows that it does not.
    pub removed: PermissionSet,
}

/// A role a token has, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) entity_type: EntityType,
    pub(super) entity: String,
    /// The workspace it is in; none for the organization's.
    pub(super) workspace: Option<String>,
    /// The deployment it is on, or on whose Dags.
    pub(super) deployment: Option<String>,
    /// A built-in role's name, or a custom role's id.
    pub(super) role: String,
    /// The one version that counts; none: always the newest.
    pub(super) version: Option<u32>,
}

/// The token a role is to be given to, as far as it decides where it can have one.
pub(super) struct Home<'a> {
    pub(super) organization: &'a str,
    pub(super) entity_type: EntityType,
    /// Its organization, workspace or deployment.
    pub(super) entity: &'a str,
    /// Whether its roles stay at the version they have now.
    pub(super) fixed: bool,
}

fn unknown(role: &str, on: &str) -> Error {
    Error::invalid("role", format!("{role:?} is no role on {on}; `halligan role list` shows those there are"))
}

impl Grant {
    /// Checks that the token can have a role there, and finds the role.
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
            EntityType::Organization | EntityType::Workspace if new.entity_type != home.entity_type => {
                let detail =
                    "a token has a role on the organization or workspace it belongs to, and on no other";
                Err(Error::invalid("entityType", detail))
            }
            EntityType::Organization | EntityType::Workspace if new.entity_id != home.entity => {
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
                known.ok_or(Error::NotFound("workspace"))?;
                WorkspaceRole::parse(role).ok_or_else(|| unknown(role, "a workspace"))?;
                Ok(grant(Some(new.entity_id.clone()), None, role, None))
            }
            EntityType::Deployment | EntityType::Dag | EntityType::DagTag => {
                let on = new.on_deployment(home)?;
                let deployment = deployments::find(connection, organization, on)?;
                let (scope, what) = match new.entity_type {
                    EntityType::Deployment => (RoleScope::Deployment, "a deployment"),
                    _ => (RoleScope::Dag, "Dags"),
                };
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

    /// Where it is, for [`Actor::may`].
    pub(super) fn scope<'a>(&'a self, organization: &'a str) -> Scope<'a> {
        Scope { organization, workspace: self.workspace.as_deref(), deployment: self.deployment.as_deref() }
    }

    /// Whether the caller may see it: it says what the token opens.
    pub(super) fn seen_by(&self, actor: &Actor, organization: &str) -> Result<(), Error> {
        let operation = match self.entity_type {
            EntityType::Organization => Operation::ReadOrganizationTokens,
            EntityType::Workspace => Operation::ReadWorkspaceTokens,
            EntityType::Deployment | EntityType::Dag | EntityType::DagTag => Operation::ReadDeploymentTokens,
        };
        actor.may(operation, self.scope(organization))
    }

    /// Whether it is the same place, whatever the role there.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.entity_type == other.entity_type
            && self.entity == other.entity
            && self.deployment == other.deployment
    }

    /// Refuses a caller whose own role there allows less: nobody hands out, or takes over, more than they have.
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
        Err(Error::Forbidden {
            code: "role_exceeds_yours",
            detail: "this role allows more than your own; only someone who may do all of it can hand it out"
                .into(),
        })
    }

    /// What it allows on a deployment (for a Dag role, on its Dags).
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

    /// The version of the role that counts.
    pub(super) fn role_version(&self, connection: &Connection) -> Result<RoleVersion, Error> {
        RoleVersion::at(connection, &self.role, self.version)
    }

    /// The Dags it is on, if it is on Dags.
    pub(super) fn dag_target(&self) -> Option<DagTarget> {
        match self.entity_type {
            EntityType::Dag => Some(DagTarget::Dag(self.entity.clone())),
            EntityType::DagTag => Some(DagTarget::Tag(self.entity.clone())),
            _ => None,
        }
    }

    /// As it is shown.
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
                (self.role_version(connection)?, RoleVersion::at(connection, &self.role, None)?);
            if newest.body.version != counts.body.version {
                shown.newest = Some(NewerRole {
                    version: newest.body.version,
                    added: newest.body.permissions.difference(counts.body.permissions),
                    removed: counts.body.permissions.difference(newest.body.permissions),
                });
            }
            shown.role_version = Some(counts.body.version);
            shown.role_digest = Some(counts.digest());
            shown.role = counts.body.name;
        }
        Ok(shown)
    }

    /// Writes one that is not in the token's own scope.
    pub(super) fn insert(
        &self,
        transaction: &Transaction<'_>,
        token: &str,
        actor: &Actor,
        now: i64,
    ) -> Result<(), Error> {
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

    /// Removes one that is not in the token's own scope.
    pub(super) fn remove(&self, transaction: &Transaction<'_>, token: &str) -> Result<(), Error> {
        transaction
            .prepare_cached(
                "DELETE FROM token_role WHERE token = ?1 AND deployment = ?2 AND entity_type = ?3 AND entity = ?4",
            )?
            .execute(params![token, self.deployment, self.entity_type.as_str(), self.entity])?;
        Ok(())
    }
}

impl NewTokenRole {
    /// The deployment it is on.
    fn on_deployment<'a>(&'a self, home: &Home<'a>) -> Result<&'a str, Error> {
        if self.entity_type == EntityType::Deployment {
            return Ok(&self.entity_id);
        }
        let plain =
            (1..=250).contains(&self.entity_id.chars().count()) && !self.entity_id.contains(is_unseen);
        if !plain {
            return Err(Error::invalid("entityId", "a Dag's id or tag has 1 to 250 visible characters"));
        }
        match &self.deployment_id {
            Some(deployment) => Ok(deployment),
            None if home.entity_type == EntityType::Deployment => Ok(home.entity),
            None => Err(Error::invalid("deploymentId", "name the deployment whose Dags it is on")),
        }
    }
}

/// Reads the roles a token has besides the one in its own scope.
pub(super) fn besides(connection: &Connection, token: &str) -> Result<Vec<Grant>, Error> {
    let mut rows = connection.prepare_cached(
        "SELECT entity_type, entity, workspace, deployment, role, role_version
         FROM token_role JOIN deployment ON deployment.id = token_role.deployment
         WHERE token = ?1 ORDER BY deployment, entity_type, entity",
    )?;
    let rows = rows.query_map([token], |row| {
        Ok(Grant {
            entity_type: super::word(row, 0)?,
            entity: row.get(1)?,
            workspace: row.get(2)?,
            deployment: row.get(3)?,
            role: row.get(4)?,
            version: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
