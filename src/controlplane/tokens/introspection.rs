//! Introspection (RFC 7662): returns the state of a standard token and its permissions on a deployment. A node may ask
//! about deployments of its own data plane only.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::effective::effective;
use crate::api::token::OnDags;
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::protocol::jws::{Typ, Unverified};
use crate::protocol::permission::PermissionSet;
use crate::protocol::time::Time;
use crate::protocol::token::{Claims, MAX_TOKEN};

/// Introspection request of a node.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct Question {
    /// Value of the token.
    #[schema(value_type = String)]
    pub token: Zeroizing<String>,
    /// Ignored: every token is taken to be an access token.
    #[serde(default)]
    pub token_type_hint: Option<String>,
    /// Id of the deployment that the token is used for.
    pub deployment: String,
}

/// Introspection response (RFC 7662 section 2.2).
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Answer {
    /// True if the token is valid and concerns the asking node's data plane.
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
    /// Id of the deployment in the request.
    deployment: String,
    /// Permissions on the whole deployment.
    permissions: PermissionSet,
    /// Additional permissions on some of its Dags.
    dags: Vec<OnDags>,
}

impl ControlPlane {
    /// Answers the introspection request of a node of `data_plane`.
    pub fn introspect(&self, data_plane: &str, question: &Question) -> Result<Answer, Error> {
        let Some(claims) = self.standard_claims(question.token.as_bytes()) else {
            return Ok(Answer::inactive());
        };
        let alive =
            self.store.read(|connection| alive(connection, data_plane, claims, &question.deployment))?;
        if let Some(alive) = &alive {
            self.used(&alive.sub, self.now(), &question.deployment);
        }
        Ok(Answer { active: alive.is_some(), alive })
    }

    /// Returns the claims of a standard token that this control plane signed and that has not expired.
    fn standard_claims(&self, token: &[u8]) -> Option<Claims> {
        let unverified = Unverified::parse(token, MAX_TOKEN).ok()?;
        let signing = self.signing();
        let key = signing.keyset.token_key(unverified.kid())?;
        let claims: Claims = unverified.verify(Typ::Standard, key).ok()?.claims().ok()?;
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
    let (permissions, dags) = effective(connection, &organization, claims.sub.as_str(), deployment)?;
    Ok(Some(Alive {
        token_type: "Bearer",
        iss: claims.iss,
        sub: claims.sub.to_string(),
        aud: claims.aud,
        iat: claims.iat,
        nbf: claims.nbf,
        exp: claims.exp,
        generation: claims.generation,
        deployment: deployment.to_owned(),
        permissions,
        dags: dags.into_iter().map(|(target, permissions)| OnDags { target, permissions }).collect(),
    }))
}
