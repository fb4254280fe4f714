//! Issuing: the value a token's holder gets, and the record its data plane gets.

use rusqlite::Transaction;

use super::Token;
use crate::controlplane::error::Error;
use crate::controlplane::{ControlPlane, publish};
use crate::protocol::record::{Record, RecordKind};
use crate::protocol::role::{RoleBody, RoleDigest, built_in};
use crate::protocol::time::Time;
use crate::protocol::token::{Claims, RoleClaim, TokenKind, TokenRecord, mint};

impl ControlPlane {
    /// Mints the value of a token's present generation.
    pub(super) fn issue(&self, token: &mut Token) -> Result<(), Error> {
        let direct = token.kind == TokenKind::DirectAccess;
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: token.id.parse().map_err(|_| Error::NotFound("token"))?,
            aud: if direct { token.roles[0].entity_id.clone() } else { self.issuer.clone() },
            iat: self.now(),
            nbf: token.start_at,
            exp: token.end_at,
            generation: token.generation,
            role: if direct { Some(claim_of(&token.roles[0].role)?) } else { None },
        };
        let value = mint(token.kind, &claims, &self.signing.token);
        value[value.len() - 4..].clone_into(&mut token.short_token);
        token.token = Some(value);
        Ok(())
    }
}

fn claim_of(role: &str) -> Result<RoleClaim, Error> {
    let role: RoleBody =
        built_in().into_iter().find(|known| known.name == role).ok_or(Error::NotFound("role"))?;
    let id = role.reference().map_err(|_| Error::NotFound("role"))?;
    Ok(RoleClaim { id, digest: RoleDigest::of(&role.to_body()) })
}

/// Tells the data plane of a direct-access token. Of a standard token it holds nothing.
pub(super) fn publish_token(
    transaction: &Transaction<'_>,
    token: &Token,
    revoked_at: Option<Time>,
) -> Result<(), Error> {
    let (TokenKind::DirectAccess, Some(expires_at)) = (token.kind, token.end_at) else { return Ok(()) };
    let deployment = &token.roles[0].entity_id;
    let data_plane: String =
        transaction
            .query_row("SELECT data_plane FROM deployment WHERE id = ?1", [deployment], |row| row.get(0))?;
    let record = TokenRecord {
        id: token.id.parse().map_err(|_| Error::NotFound("token"))?,
        deployment: deployment.parse().map_err(|_| Error::NotFound("deployment"))?,
        generation: token.generation,
        role: claim_of(&token.roles[0].role)?,
        dag_roles: Vec::new(),
        not_before: token.start_at,
        expires_at,
        sources: Vec::new(),
        revoked_at,
    };
    publish::put(transaction, &data_plane, &[Record::of(RecordKind::Token, token.id.as_str(), &record)])
}
