//! What a token may do on a deployment, by all its roles together. This is what introspection answers with.

use rusqlite::Connection;
use serde::Serialize;

use super::find;
use super::grants::EntityType;
use crate::controlplane::authorization::{Actor, Operation};
use crate::controlplane::error::Error;
use crate::controlplane::{ControlPlane, deployments};
use crate::protocol::permission::PermissionSet;
use crate::protocol::token::DagTarget;

/// What a token may do on a deployment, as it is shown.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// On the deployment as a whole.
    pub permissions: PermissionSet,
    /// Besides that, on some of its Dags.
    pub dags: Vec<OnDags>,
}

/// What a token may do on some Dags.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OnDags {
    /// Which.
    #[serde(flatten)]
    pub target: DagTarget,
    /// What.
    pub permissions: PermissionSet,
}

impl ControlPlane {
    /// Shows what a token's roles allow on a deployment.
    pub fn show_effective(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        token: &str,
    ) -> Result<Effective, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        self.store.read(|connection| {
            let found = deployments::find(connection, organization, deployment)?;
            actor.may(Operation::ReadDeploymentTokens, found.scope(organization))?;
            let (permissions, dags) = effective(connection, organization, token, deployment)?;
            let dags = dags.into_iter().map(|(target, permissions)| OnDags { target, permissions }).collect();
            Ok(Effective { permissions, dags })
        })
    }
}

/// What a token's roles allow on `deployment`: as a whole, and besides on some of its Dags. Of a custom role, the newest
/// version counts for a standard token. Whether the token is alive is not asked here, only that it is not deleted.
pub(in crate::controlplane) fn effective(
    connection: &Connection,
    organization: &str,
    token: &str,
    deployment: &str,
) -> Result<(PermissionSet, Vec<(DagTarget, PermissionSet)>), Error> {
    let token = find(connection, organization, token)?;
    let deployment = deployments::find(connection, organization, deployment)?;
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

/// What a token's roles on deployments allow there, by deployment: what it may ask of the control plane about them.
pub(in crate::controlplane) fn on_deployments(
    connection: &Connection,
    organization: &str,
    token: &str,
) -> Result<Vec<(String, PermissionSet)>, Error> {
    let token = find(connection, organization, token)?;
    let mut found = Vec::new();
    for grant in token.grants.iter().filter(|grant| grant.entity_type == EntityType::Deployment) {
        found.push((grant.entity.clone(), grant.permissions(connection)?));
    }
    Ok(found)
}
