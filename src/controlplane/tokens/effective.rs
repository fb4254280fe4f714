//! Permissions of a token on a deployment, from all its roles together. Introspection returns them.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::find;
use crate::api::token::{Effective, EntityType, OnDags};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation, OrganizationRole, WorkspaceRole};
use crate::controlplane::accounts::stored_deployments;
use crate::controlplane::error::Error;
use crate::protocol::permission::PermissionSet;
use crate::protocol::token::DagTarget;

impl ControlPlane {
    /// Shows the permissions of a token on a deployment.
    pub fn show_effective(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        token: &str,
    ) -> Result<Effective, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store.read(|connection| {
            let found = stored_deployments::find(connection, organization, deployment)?;
            actor.may(Operation::ReadDeploymentTokens, found.scope(organization))?;
            let (permissions, dags) = effective(connection, organization, token, deployment)?;
            let dags = dags.into_iter().map(|(target, permissions)| OnDags { target, permissions }).collect();
            Ok(Effective { permissions, dags })
        })
    }
}

/// Returns the permissions of a token on `deployment`: on all of it, and additionally on some of its Dags. For a
/// standard token, the newest version of a custom role counts. The token must not be deleted; whether it is valid
/// otherwise is not checked.
pub(in crate::controlplane) fn effective(
    connection: &Connection,
    organization: &str,
    token: &str,
    deployment: &str,
) -> Result<(PermissionSet, Vec<(DagTarget, PermissionSet)>), Error> {
    let token = find(connection, organization, token)?;
    let deployment = stored_deployments::find(connection, organization, deployment)?;
    let mut whole = PermissionSet::empty();
    let mut dags = Vec::new();
    for grant in &token.grants {
        let covers = match grant.entity_type {
            EntityType::Organization => true,
            EntityType::Workspace => grant.entity == deployment.workspace_id,
            EntityType::Deployment | EntityType::Dag | EntityType::DagTag => {
                grant.deployment.as_deref() == Some(deployment.id.as_str())
            }
        };
        if !covers {
            continue;
        }
        let permissions = grant.permissions(connection)?;
        match grant.dag_target() {
            Some(target) => dags.push((target, permissions)),
            None => whole = whole.union(permissions),
        }
    }
    Ok((whole, dags))
}

/// Returns a token as a caller: what it may request of the control plane. Its roles on Dags count on data planes only.
pub(in crate::controlplane) fn actor(
    connection: &Connection,
    organization: &str,
    token: &str,
) -> Result<Actor, Error> {
    let token = find(connection, organization, token)?;
    let mut actor = Actor {
        id: token.id,
        organization: organization.to_owned(),
        role: None,
        workspaces: BTreeMap::new(),
        deployments: BTreeMap::new(),
    };
    for grant in &token.grants {
        match grant.entity_type {
            EntityType::Organization => actor.role = actor.role.max(OrganizationRole::parse(&grant.role)),
            EntityType::Workspace => {
                // A role in a workspace makes the token a member of the organization.
                actor.role = actor.role.max(Some(OrganizationRole::OrganizationMember));
                let role = WorkspaceRole::parse(&grant.role);
                actor.workspaces.extend(role.map(|role| (grant.entity.clone(), role)));
            }
            EntityType::Deployment => {
                actor.deployments.insert(grant.entity.clone(), grant.permissions(connection)?);
            }
            EntityType::Dag | EntityType::DagTag => {}
        }
    }
    Ok(actor)
}
