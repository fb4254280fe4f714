//! Issuing: mints the value of a token, and publishes its record to the data plane.

use rusqlite::Connection;

use super::Stored;
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::replica::publish;
use crate::controlplane::store::Transaction;
use crate::protocol::record::{Record, RecordKind};
use crate::protocol::time::Time;
use crate::protocol::token::{Claims, DagRole, TokenKind, TokenRecord, mint};

impl ControlPlane {
    /// Mints the value of a token's current generation.
    pub(super) fn issue(
        &self,
        connection: &Connection,
        organization: &str,
        token: &mut Stored,
    ) -> Result<(), Error> {
        let direct = token.kind == TokenKind::DirectAccess;
        let home = token.home();
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: token.id.parse().map_err(|_| Error::NotFound("token"))?,
            aud: if direct { home.entity.clone() } else { self.issuer.clone() },
            // All inputs are stored, so the value of a generation is the same each time it is minted.
            iat: token.last_rotated_at.unwrap_or(token.created_at),
            nbf: token.start_at,
            exp: token.end_at,
            generation: token.generation,
            role: if direct { Some(home.role_version(connection)?.claim()?) } else { None },
            permissions: if direct { Vec::new() } else { token.places(organization) },
        };
        let value = mint(token.kind, &claims, &self.signing().token);
        value[value.len() - 4..].clone_into(&mut token.short_token);
        token.value = Some(value);
        Ok(())
    }
}

impl Stored {
    /// Returns the objects that the token belongs to, for the claim `permissions` of a standard token. Clients read it to
    /// know which organization and workspace the token is for; nobody decides by it.
    fn places(&self, organization: &str) -> Vec<String> {
        let home = self.home();
        let mut places = vec![format!("apiTokenId:{}", self.id), format!("organizationId:{organization}")];
        places.extend(home.workspace.iter().map(|workspace| format!("workspaceId:{workspace}")));
        places.extend(home.deployment.iter().map(|deployment| format!("deploymentId:{deployment}")));
        places
    }
}

/// Publishes a direct-access token to its data plane, with the versions of its roles. A data plane has no records of
/// standard tokens: when one stops being valid, every data plane of the organization is told that some have changed.
pub(super) fn publish_token(
    transaction: &Transaction<'_>,
    organization: &str,
    token: &Stored,
    revoked_at: Option<Time>,
) -> Result<(), Error> {
    let (TokenKind::DirectAccess, Some(expires_at)) = (token.kind, token.end_at) else {
        let stopped = revoked_at.is_some() || token.generation > 1;
        return if stopped { publish::standard_tokens_changed(transaction, organization) } else { Ok(()) };
    };
    let deployment = &token.home().entity;
    let data_plane: String =
        transaction
            .query_row("SELECT data_plane FROM deployment WHERE id = ?1", [deployment], |row| row.get(0))?;
    let role = token.home().role_version(transaction)?;
    let mut records = vec![role.record()];
    let mut dag_roles = Vec::new();
    for grant in &token.grants {
        let Some(target) = grant.dag_target() else { continue };
        let role = grant.role_version(transaction)?;
        dag_roles.push(DagRole { role: role.claim()?, target });
        if !records.iter().any(|record| *record.key == *role.record().key) {
            records.push(role.record());
        }
    }
    let record = TokenRecord {
        id: token.id.parse().map_err(|_| Error::NotFound("token"))?,
        deployment: deployment.parse().map_err(|_| Error::NotFound("deployment"))?,
        generation: token.generation,
        role: role.claim()?,
        dag_roles,
        not_before: token.start_at,
        expires_at,
        sources: token.sources.clone(),
        rate_limit_per_minute: token.rate_limit_per_minute,
        revoked_at,
    };
    records.push(Record::from_value(RecordKind::Token, token.id.as_str(), &record));
    publish::put(transaction, &data_plane, &records)
}
