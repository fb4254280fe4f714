//! Assigns a token of the organization or a workspace to a deployment. It stays the same token and is managed where it
//! belongs.

use super::grants::Grant;
use super::{Stored, find};
use crate::api::page::Page;
use crate::api::token::{
    Assignment, EntityType, NewAssignment, NewTokenRole, Token, TokenFilter, TokenPage, TokenScope,
};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::accounts::stored_deployments;
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;

impl ControlPlane {
    /// Lists the tokens that have a role on a deployment: its own, and those assigned to it.
    pub fn list_deployment_tokens(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        page: Page,
    ) -> Result<TokenPage, Error> {
        actor.may(Operation::SeeOrganization, organization)?;
        let found =
            self.store.read(|connection| stored_deployments::find(connection, organization, deployment))?;
        actor.may(Operation::ReadDeploymentTokens, found.scope(organization))?;
        let filter = TokenFilter { deployment_id: Some(deployment.to_owned()), ..TokenFilter::default() };
        self.list_tokens(actor, organization, &filter, page)
    }

    /// Assigns a token to a deployment.
    pub fn assign_token(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        new: &NewAssignment,
    ) -> Result<Token, Error> {
        self.store.write(|transaction| {
            let (token, present) = assignable(transaction, actor, organization, deployment, &new.token_id)
                .map_err(|error| match error {
                    Error::NotFound(what @ "token") => Error::NoSuch { field: "tokenId", what },
                    // The deployment is named by the path.
                    other => other,
                })?;
            if present.is_some() {
                let detail = "the token is assigned to this deployment already; update its role there".into();
                return Err(Error::Conflict { code: "already_assigned", detail });
            }
            self.set_assignment(transaction, actor, organization, deployment, &token, &new.role)
        })
    }

    /// Gives an assigned token another role on the deployment.
    pub fn update_assignment(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        token: &str,
        update: &Assignment,
        seen: &IfMatch,
    ) -> Result<Token, Error> {
        self.store.write(|transaction| {
            let (token, present) = assignable(transaction, actor, organization, deployment, token)?;
            present.ok_or(Error::NotFound("assigned token"))?;
            token.check_unchanged(transaction, actor, organization, seen)?;
            self.set_assignment(transaction, actor, organization, deployment, &token, &update.role)
        })
    }

    /// Removes a token's assignment to a deployment, with its roles on Dags there. The token stays valid elsewhere.
    pub fn remove_assignment(
        &self,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        token: &str,
        seen: &IfMatch,
    ) -> Result<(), Error> {
        self.store.write(|transaction| {
            let (token, present) = assignable(transaction, actor, organization, deployment, token)?;
            present.ok_or(Error::NotFound("assigned token"))?;
            token.check_unchanged(transaction, actor, organization, seen)?;
            for grant in &token.grants[1..] {
                if grant.deployment.as_deref() == Some(deployment) {
                    self.withdraw_role(transaction, actor, organization, &token, grant)?;
                }
            }
            Ok(())
        })
    }

    fn set_assignment(
        &self,
        transaction: &Transaction<'_>,
        actor: &Actor,
        organization: &str,
        deployment: &str,
        token: &Stored,
        role: &str,
    ) -> Result<Token, Error> {
        let role = NewTokenRole {
            entity_type: EntityType::Deployment,
            entity_id: deployment.to_owned(),
            deployment_id: None,
            role: role.to_owned(),
        };
        let grant = Grant::new(transaction, &token.home_of(organization), &role)?;
        self.grant_role(transaction, actor, organization, token, &grant)?;
        find(transaction, organization, &token.id)?.shown(transaction, |grant| {
            grant.deployment.as_deref() == Some(deployment) || grant.seen_by(actor, organization).is_ok()
        })
    }
}

/// Finds a token that can be assigned to a deployment, with the role that it has there already. The caller needs its id
/// only: the assignment changes nothing where the token belongs.
fn assignable(
    transaction: &Transaction<'_>,
    actor: &Actor,
    organization: &str,
    deployment: &str,
    token: &str,
) -> Result<(Stored, Option<Grant>), Error> {
    actor.may(Operation::SeeOrganization, organization)?;
    let found = stored_deployments::find(transaction, organization, deployment)?;
    actor.may(Operation::AssignTokens, found.scope(organization))?;
    let token = find(transaction, organization, token)?;
    if token.scope == TokenScope::Deployment {
        let detail = "a deployment's token belongs to its deployment; only an organization's or a workspace's can be assigned";
        return Err(Error::Conflict { code: "not_assignable", detail: detail.into() });
    }
    let present = token.grants.iter().find(|grant| {
        grant.entity_type == EntityType::Deployment && grant.deployment.as_deref() == Some(deployment)
    });
    let present = present.cloned();
    Ok((token, present))
}
