//! Authentication: verifies a bearer token and loads its holder's roles.

use std::collections::BTreeMap;

use rusqlite::OptionalExtension;

use super::effective;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, OrganizationRole, WorkspaceRole};
use crate::controlplane::access::deployment_grants;
use crate::controlplane::accounts::teams;
use crate::controlplane::error::Error;
use crate::protocol::jws::{Typ, Unverified};
use crate::protocol::token::{Claims, MAX_TOKEN};

impl ControlPlane {
    /// Verifies a bearer token: its signature, generation and expiry, and that it has not been deleted. Returns its
    /// holder.
    pub fn authenticate(&self, bearer: &[u8]) -> Result<Actor, Error> {
        let refused = |_| Error::Unauthenticated("the token is not one of this control plane");
        let unverified = Unverified::parse(bearer, MAX_TOKEN).map_err(refused)?;
        let typ = unverified.typ();
        if !matches!(typ, Typ::User | Typ::Standard) {
            return Err(Error::Unauthenticated("a token of this kind opens nothing here"));
        }
        let signing = self.signing();
        let key = signing
            .keyset
            .token_key(unverified.kid())
            .ok_or(Error::Unauthenticated("the token's key is unknown"))?;
        let claims: Claims =
            unverified.verify(typ, key).and_then(|verified| verified.claims()).map_err(refused)?;
        if claims.iss != self.issuer || claims.aud != self.issuer {
            return Err(Error::Unauthenticated("the token is for another control plane"));
        }
        if claims.exp.is_some_and(|exp| self.now() >= exp) {
            return Err(Error::Unauthenticated("the token has expired"));
        }
        let actor = if typ == Typ::User { self.user_actor(&claims)? } else { self.token_actor(&claims)? };
        let actor =
            actor.ok_or(Error::Unauthenticated("the token was rotated or deleted, or has no role here"))?;
        if typ == Typ::Standard {
            self.used(&actor.id, self.now(), "control-plane");
        }
        Ok(actor)
    }

    fn user_actor(&self, claims: &Claims) -> Result<Option<Actor>, Error> {
        let id = claims.sub.as_str();
        self.store.read(|connection| {
            let query =
                "SELECT organization, role FROM user WHERE id = ?1 AND generation = ?2 AND deleted_at IS NULL";
            let found: Option<(String, String)> = connection
                .query_row(query, (id, claims.generation), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((organization, role)) = found else { return Ok(None) };
            let Some(role) = OrganizationRole::parse(&role) else { return Ok(None) };
            let mut rows =
                connection.prepare_cached("SELECT workspace, role FROM workspace_role WHERE user = ?1")?;
            let rows = rows.query_map([id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
            let mut workspaces = BTreeMap::new();
            for row in rows {
                let (workspace, role) = row?;
                workspaces.extend(WorkspaceRole::parse(&role).map(|role| (workspace, role)));
            }
            let of_teams = teams::inherited(connection, id)?;
            for (workspace, role) in of_teams.workspaces {
                workspaces.entry(workspace).and_modify(|own| *own = role.max(*own)).or_insert(role);
            }
            let role = Some(role).max(of_teams.organization);
            let deployments = deployment_grants::permissions_of(connection, id)?;
            Ok(Some(Actor { id: id.to_owned(), organization, role, workspaces, deployments }))
        })
    }

    fn token_actor(&self, claims: &Claims) -> Result<Option<Actor>, Error> {
        let id = claims.sub.as_str();
        let query = "SELECT organization FROM token
                     WHERE id = ?1 AND generation = ?2 AND deleted_at IS NULL AND kind = 'STANDARD'";
        self.store.read(|connection| {
            let found: Option<String> =
                connection.query_row(query, (id, claims.generation), |row| row.get(0)).optional()?;
            found.map(|organization| effective::actor(connection, &organization, id)).transpose()
        })
    }
}
