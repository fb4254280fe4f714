//! Who calls, and what they may do: one table.

use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

use super::ControlPlane;
use super::error::Error;
use crate::protocol::jws::{Typ, Unverified};
use crate::protocol::token::{Claims, MAX_TOKEN};

/// A role in an organization. Each includes those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrganizationRole {
    /// Reads.
    OrganizationMember,
    /// Reads, and pays.
    OrganizationBillingAdmin,
    /// Everything.
    OrganizationOwner,
}

impl OrganizationRole {
    /// The role as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrganizationMember => "ORGANIZATION_MEMBER",
            Self::OrganizationBillingAdmin => "ORGANIZATION_BILLING_ADMIN",
            Self::OrganizationOwner => "ORGANIZATION_OWNER",
        }
    }

    /// Reads a role.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::OrganizationMember, Self::OrganizationBillingAdmin, Self::OrganizationOwner]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

/// What can be asked of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// List and show anything of the organization.
    Read,
    /// Make or change workspaces, deployments, data planes, users.
    Administer,
    /// Let a node enrol.
    Enrol,
    /// Create, update, rotate, delete standard tokens.
    ManageTokens,
    /// The same for direct-access tokens.
    ManageDirectAccess,
}

/// The table: the least role an operation needs.
const TABLE: [(Operation, OrganizationRole); 5] = [
    (Operation::Read, OrganizationRole::OrganizationMember),
    (Operation::Administer, OrganizationRole::OrganizationOwner),
    (Operation::Enrol, OrganizationRole::OrganizationOwner),
    (Operation::ManageTokens, OrganizationRole::OrganizationOwner),
    (Operation::ManageDirectAccess, OrganizationRole::OrganizationOwner),
];

/// Who calls: a user, or an organization's API token.
#[derive(Clone, Debug)]
pub struct Actor {
    /// User or token id.
    pub id: String,
    /// The organization it belongs to.
    pub organization: String,
    /// Its role there.
    pub role: OrganizationRole,
}

impl Actor {
    /// Refuses what the caller's role does not allow, and does not tell other organizations' ids from none.
    pub fn may(&self, operation: Operation, organization: &str) -> Result<(), Error> {
        if self.organization != organization {
            return Err(Error::NotFound("organization"));
        }
        let allowed = TABLE.iter().any(|&(row, least)| row == operation && self.role >= least);
        if allowed {
            return Ok(());
        }
        let code =
            if operation == Operation::ManageDirectAccess { "owner_required" } else { "role_insufficient" };
        Err(Error::Forbidden {
            code,
            detail: format!("only an Organization Owner may do this; your role is {}", self.role.as_str()),
        })
    }
}

impl ControlPlane {
    /// Finds out who holds a bearer token: the signature, the generation, the expiry, and that it has not been deleted.
    pub fn authenticate(&self, bearer: &[u8]) -> Result<Actor, Error> {
        let refused = |_| Error::Unauthenticated("the token is not one of this control plane");
        let unverified = Unverified::parse(bearer, MAX_TOKEN).map_err(refused)?;
        let typ = unverified.typ();
        if !matches!(typ, Typ::User | Typ::Standard) {
            return Err(Error::Unauthenticated("a token of this kind opens nothing here"));
        }
        let key = self
            .signing
            .keyset
            .token_key(unverified.kid())
            .ok_or(Error::Unauthenticated("the token's key is unknown"))?;
        let claims: Claims =
            unverified.verify(typ, key).and_then(|verified| verified.claims()).map_err(refused)?;
        if claims.iss != self.issuer
            || claims.aud != self.issuer
            || claims.exp.is_some_and(|exp| self.now() >= exp)
        {
            return Err(Error::Unauthenticated("the token has expired or is for another control plane"));
        }
        let query = if typ == Typ::User {
            "SELECT organization, role FROM user WHERE id = ?1 AND generation = ?2 AND deleted_at IS NULL"
        } else {
            "SELECT organization, role FROM token WHERE id = ?1 AND generation = ?2 AND deleted_at IS NULL AND type = 'ORGANIZATION'"
        };
        let row = self.store.read(|connection| {
            let row = connection.query_row(query, (claims.sub.as_str(), claims.generation), |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            });
            Ok(row.optional()?)
        })?;
        let (organization, role) =
            row.ok_or(Error::Unauthenticated("the token was rotated, deleted, or has no role here"))?;
        let role =
            OrganizationRole::parse(&role).ok_or(Error::Unauthenticated("the token has no role here"))?;
        Ok(Actor { id: claims.sub.to_string(), organization, role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_holds() {
        for (operation, least) in TABLE {
            for role in [
                OrganizationRole::OrganizationMember,
                OrganizationRole::OrganizationBillingAdmin,
                OrganizationRole::OrganizationOwner,
            ] {
                let actor = Actor { id: "usr_a".into(), organization: "org_a".into(), role };
                assert_eq!(actor.may(operation, "org_a").is_ok(), role >= least, "{role:?} {operation:?}");
                assert!(actor.may(operation, "org_b").is_err());
            }
        }
        let owner_only = TABLE.iter().find(|(operation, _)| *operation == Operation::ManageDirectAccess);
        assert_eq!(owner_only.map(|(_, least)| *least), Some(OrganizationRole::OrganizationOwner));
    }
}
