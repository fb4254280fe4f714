//! Introspection (RFC 7662): whether a standard token is alive, and what it may do on a deployment. Nodes ask, about
//! deployments of their own data plane; of others they learn nothing.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ControlPlane;
use super::error::Error;
use super::tokens::OnDags;
use super::tokens::effective::effective;
use crate::protocol::jws::{Typ, Unverified};
use crate::protocol::permission::PermissionSet;
use crate::protocol::time::Time;
use crate::protocol::token::{Claims, MAX_TOKEN};

/// What a node asks.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct Question {
    /// The token's value.
    #[schema(value_type = String)]
    pub token: Zeroizing<String>,
    /// Always taken to be an access token.
    #[serde(default)]
    pub token_type_hint: Option<String>,
    /// The deployment it is used for.
    pub deployment: String,
}

/// What is said of a token.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Answer {
    /// Whether it is alive, as far as it concerns the one who asks.
    pub active: bool,
    /// More, of a token that is.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub alive: Option<Alive>,
}

/// What a living token is, and what it may do on the deployment asked about.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Alive {
    /// `Bearer`.
    token_type: &'static str,
    /// Who issued it.
    iss: String,
    /// Its id.
    sub: String,
    /// The control plane.
    aud: String,
    /// When its value was minted.
    iat: Time,
    /// From when on it is valid.
    nbf: Time,
    /// From when on it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<Time>,
    /// Its generation.
    #[serde(rename = "gen")]
    generation: u32,
    /// The deployment asked about.
    deployment: String,
    /// What it may do on the deployment as a whole.
    permissions: PermissionSet,
    /// What it may do besides, on some of its Dags.
    dags: Vec<OnDags>,
}

impl ControlPlane {
    /// Answers a node of `data_plane` about a token.
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

    /// The claims of a standard token of this control plane that has not expired.
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
    /// Why not is nobody's business (RFC 7662 section 2.2).
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
