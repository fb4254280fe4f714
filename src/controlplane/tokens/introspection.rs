//! Introspection (RFC 7662): returns the state of a standard token and its permissions on a deployment. A node may ask
//! about deployments of its own data plane only, another service about tokens and deployments of its own organization.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::caller::roles_of;
use super::effective::effective;
use super::find;
use crate::api::caller::CallerRole;
use crate::api::id::OrganizationId;
use crate::api::token::OnDags;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::accounts::stored_deployments;
use crate::controlplane::error::Error;
use crate::protocol::jws::{Typ, Unverified};
use crate::protocol::permission::PermissionSet;
use crate::protocol::time::Time;
use crate::protocol::token::{Claims, DagTarget, MAX_TOKEN, TokenKind};

/// Introspection request.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct Question {
    /// Value of the token.
    #[schema(value_type = String)]
    pub token: Zeroizing<String>,
    /// Ignored: every token is taken to be an access token.
    #[serde(default)]
    pub token_type_hint: Option<String>,
    /// Id of the deployment that the token is used for. A node must name it.
    #[serde(default)]
    pub deployment: Option<String>,
}

/// Introspection response (RFC 7662 section 2.2).
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Answer {
    /// True if the token is valid and concerns the asking node's data plane, or is one of the asking service's organization.
    pub active: bool,
    /// Claims of an active token.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub alive: Option<Alive>,
}

/// Claims of an active token, and its permissions on the deployment.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Alive {
    /// Type of the token, always `Bearer`.
    token_type: &'static str,
    /// Issuer of the token.
    iss: String,
    /// Id of the token.
    sub: String,
    /// Audience: the control plane.
    aud: String,
    /// Time at which its value was minted.
    iat: Time,
    /// Time from which it is valid.
    nbf: Time,
    /// Time at which it expires, or none if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<Time>,
    /// Generation of its value.
    #[serde(rename = "gen")]
    generation: u32,
    /// Id of the deployment in the request, if it names one; the next two members likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<String>,
    /// Permissions on the whole deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<PermissionSet>,
    /// Additional permissions on some of its Dags.
    #[serde(skip_serializing_if = "Option::is_none")]
    dags: Option<Vec<OnDags>>,
    /// Name of the token; for services, as the next two members.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// Id of its organization.
    #[serde(rename = "organizationId", skip_serializing_if = "Option::is_none")]
    organization_id: Option<OrganizationId>,
    /// Roles of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<Vec<CallerRole>>,
}

impl ControlPlane {
    /// Answers the introspection request of a node of `data_plane`.
    pub fn introspect(&self, data_plane: &str, question: &Question) -> Result<Answer, Error> {
        let deployment = question.deployment.as_deref();
        let deployment = deployment.ok_or_else(|| Error::invalid("deployment", "name the deployment"))?;
        let Some(claims) = self.standard_claims(question.token.as_bytes()) else {
            return Ok(Answer::inactive());
        };
        let alive = self.store.read(|connection| alive(connection, data_plane, claims, deployment))?;
        if let Some(alive) = &alive {
            self.used(&alive.sub, self.now(), deployment);
        }
        Ok(Answer { active: alive.is_some(), alive })
    }

    /// Answers the introspection request of another service, which comes as `client`. It learns of tokens of its own
    /// organization.
    pub fn introspect_for(&self, client: &Actor, question: &Question) -> Result<Answer, Error> {
        let organization = client.organization.as_str();
        client.may(Operation::ReadOrganization, organization)?;
        let claims = self.standard_claims(question.token.as_bytes());
        let deployment = question.deployment.as_deref();
        let alive = self.store.read(|connection| {
            if let Some(id) = deployment {
                stored_deployments::find(connection, organization, id)?;
            }
            let Some(claims) = claims else { return Ok(None) };
            let id = claims.sub.to_string();
            let Ok(token) = find(connection, organization, &id) else { return Ok(None) };
            if token.generation != claims.generation || token.kind != TokenKind::Standard {
                return Ok(None);
            }
            let mut alive = Alive::from_claims(claims);
            if let Some(deployment) = deployment {
                alive =
                    alive.with_permissions(deployment, effective(connection, organization, &id, deployment)?);
            }
            alive.roles = Some(roles_of(connection, &token)?);
            alive.organization_id = Some(OrganizationId::known(organization.to_owned()));
            alive.username = Some(token.name);
            Ok(Some(alive))
        })?;
        if let Some(alive) = &alive {
            self.used(&alive.sub, self.now(), deployment.unwrap_or("control-plane"));
        }
        Ok(Answer { active: alive.is_some(), alive })
    }

    /// Returns the claims of a standard token that this control plane signed and that has not expired.
    fn standard_claims(&self, token: &[u8]) -> Option<Claims> {
        let (unverified, signing) = (Unverified::parse(token, MAX_TOKEN).ok()?, self.signing());
        let verified = unverified.verify_by(Typ::Standard, |kid| signing.keyset.token_key(kid)).ok()?;
        let claims: Claims = verified.claims().ok()?;
        let living = claims.exp.is_none_or(|exp| self.now() < exp);
        (living && claims.iss == self.issuer && claims.aud == self.issuer).then_some(claims)
    }
}

impl Answer {
    /// Inactive response. It does not give the reason (RFC 7662 section 2.2).
    fn inactive() -> Self {
        Self { active: false, alive: None }
    }
}

fn alive(
    connection: &Connection,
    data_plane: &str,
    claims: Claims,
    deployment: &str,
) -> Result<Option<Alive>, Error> {
    let query = "SELECT token.organization FROM token JOIN deployment USING (organization)
                 WHERE token.id = ?1 AND token.generation = ?2 AND token.kind = 'STANDARD' AND token.deleted_at IS NULL
                     AND deployment.id = ?3 AND deployment.data_plane = ?4";
    let row = params![claims.sub.as_str(), claims.generation, deployment, data_plane];
    let organization: Option<String> = connection.query_row(query, row, |row| row.get(0)).optional()?;
    let Some(organization) = organization else { return Ok(None) };
    let permissions = effective(connection, &organization, claims.sub.as_str(), deployment)?;
    Ok(Some(Alive::from_claims(claims).with_permissions(deployment, permissions)))
}

impl Alive {
    fn from_claims(claims: Claims) -> Self {
        Self {
            token_type: "Bearer",
            iss: claims.iss,
            sub: claims.sub.to_string(),
            aud: claims.aud,
            iat: claims.iat,
            nbf: claims.nbf,
            exp: claims.exp,
            generation: claims.generation,
            deployment: None,
            permissions: None,
            dags: None,
            username: None,
            organization_id: None,
            roles: None,
        }
    }

    /// Adds the permissions on a deployment: those on all of it, and those on some of its Dags.
    fn with_permissions(
        self,
        deployment: &str,
        (permissions, dags): (PermissionSet, Vec<(DagTarget, PermissionSet)>),
    ) -> Self {
        let dags = dags.into_iter().map(|(target, permissions)| OnDags { target, permissions }).collect();
        let deployment = Some(deployment.to_owned());
        Self { deployment, permissions: Some(permissions), dags: Some(dags), ..self }
    }
}
