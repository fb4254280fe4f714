//! Record of a token in replicas, with its roles on Dags. docs/protocol/replica.md has the format.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::RoleClaim;
use crate::protocol::id::{DeploymentId, TokenId};
use crate::protocol::time::Time;

/// Dags to which a Dag role applies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum DagTarget {
    /// The Dag with this id.
    Dag(String),
    /// Every Dag with this tag.
    Tag(String),
}

impl DagTarget {
    /// Returns the target that the JSON members `dag` and `tag` name. Returns `None` unless exactly one of them is
    /// present: with both, two implementations could choose differently.
    ///
    /// ```
    /// use halligan::protocol::token::DagTarget;
    ///
    /// let name = || Some("sales".to_owned());
    /// assert_eq!(DagTarget::from_members(name(), None), Some(DagTarget::Dag("sales".into())));
    /// assert_eq!(DagTarget::from_members(name(), name()), None);
    /// ```
    #[must_use]
    pub fn from_members(dag: Option<String>, tag: Option<String>) -> Option<Self> {
        match (dag, tag) {
            (Some(dag), None) => Some(Self::Dag(dag)),
            (None, Some(tag)) => Some(Self::Tag(tag)),
            _ => None,
        }
    }
}

/// JSON members of a [`DagRole`] before their validation. An unknown member may restrict the role, so it is not ignored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DagRoleMembers {
    role: RoleClaim,
    dag: Option<String>,
    tag: Option<String>,
}

impl TryFrom<DagRoleMembers> for DagRole {
    type Error = &'static str;

    fn try_from(members: DagRoleMembers) -> Result<Self, Self::Error> {
        let target = DagTarget::from_members(members.dag, members.tag);
        Ok(Self { role: members.role, target: target.ok_or("a Dag role has exactly one of dag and tag")? })
    }
}

/// A role on some Dags of the token's deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "DagRoleMembers")]
pub struct DagRole {
    /// Reference and digest of the role.
    pub role: RoleClaim,
    /// Dags to which the role applies.
    #[serde(flatten)]
    pub target: DagTarget,
}

/// Body of a `token` record: the facts about a direct-access token that a replica holds.
///
/// Only these change: the generation rises, `expires_at` moves with it, and `revoked_at` is set. The record of a revoked or
/// deleted token stays until its expiry, so that nodes know it as revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRecord {
    /// Identifier of the token.
    pub id: TokenId,
    /// Deployment to which the token gives access.
    pub deployment: DeploymentId,
    /// Newest generation. Older ones have been rotated away.
    pub generation: u32,
    /// Role of the token, fixed at its creation.
    pub role: RoleClaim,
    /// Dag roles of the token, fixed at its creation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dag_roles: Vec<DagRole>,
    /// Time from which on the token is valid.
    pub not_before: Time,
    /// Time from which on the token is invalid.
    pub expires_at: Time,
    /// Networks from which the token may be used, in CIDR notation. An empty list allows every client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Maximum number of uses in a minute on each node. Without a value there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_per_minute: Option<u32>,
    /// Time at which the token was revoked or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
}

impl TokenRecord {
    /// Computes the SHA-256 of the grant: the members that never change. Two records of one token with different grants
    /// prove that the control plane has widened or narrowed it.
    ///
    /// ```
    /// use halligan::protocol::role::RoleDigest;
    /// use halligan::protocol::time::Time;
    /// use halligan::protocol::token::{RoleClaim, TokenRecord};
    ///
    /// let role = RoleClaim { id: "DEPLOYMENT_ADMIN@1".parse()?, digest: RoleDigest::compute("{}") };
    /// let record = TokenRecord {
    ///     id: "tok_etl".parse()?,
    ///     deployment: "dep_sales".parse()?,
    ///     generation: 1,
    ///     role,
    ///     dag_roles: Vec::new(),
    ///     not_before: Time::from_unix(1_800_000_000),
    ///     expires_at: Time::from_unix(1_800_086_400),
    ///     sources: vec!["10.0.0.0/8".into()],
    ///     rate_limit_per_minute: None,
    ///     revoked_at: None,
    /// };
    /// // A rotation keeps the grant. An open network widens it.
    /// let rotated = TokenRecord { generation: 2, ..record.clone() };
    /// assert_eq!(rotated.grant_digest(), record.grant_digest());
    /// let widened = TokenRecord { sources: Vec::new(), ..record.clone() };
    /// assert_ne!(widened.grant_digest(), record.grant_digest());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
    pub fn grant_digest(&self) -> [u8; 32] {
        let grant = (&self.id, &self.deployment, &self.role, &self.dag_roles, &self.sources);
        let text = match self.rate_limit_per_minute {
            // Without a limit the text is that of releases which had no rate limits, so that their digests stay valid.
            None => serde_json::to_vec(&grant),
            Some(limit) => serde_json::to_vec(&(grant, limit)),
        };
        Sha256::digest(text.expect("a grant serializes")).into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::role::{RoleBody, RoleDigest};

    fn record() -> TokenRecord {
        let role = RoleClaim { id: "DAG_VIEWER@1".parse().unwrap(), digest: RoleDigest::compute("x") };
        TokenRecord {
            id: "tok_a".parse().unwrap(),
            deployment: "dep_a".parse().unwrap(),
            generation: 1,
            dag_roles: vec![DagRole { role: role.clone(), target: DagTarget::Tag("team".into()) }],
            role,
            not_before: Time::from_unix(0),
            expires_at: Time::from_unix(10),
            sources: vec![],
            rate_limit_per_minute: None,
            revoked_at: None,
        }
    }

    #[test]
    fn a_record_survives_its_body() {
        let body = serde_json::to_string(&record()).unwrap();
        assert!(body.contains(r#""tag":"team""#) && !body.contains("revokedAt"), "{body}");
        assert_eq!(serde_json::from_str::<TokenRecord>(&body).unwrap(), record());
        assert!(RoleBody::parse(&body).is_err());
    }

    #[test]
    fn the_grant_is_what_may_never_change() {
        let moved = TokenRecord { generation: 2, revoked_at: Some(Time::from_unix(5)), ..record() };
        assert_eq!(moved.grant_digest(), record().grant_digest());
        let mut widened = record();
        widened.role.id = "DEPLOYMENT_ADMIN@1".parse().unwrap();
        assert_ne!(widened.grant_digest(), record().grant_digest());
        let slower = TokenRecord { rate_limit_per_minute: Some(1), ..record() };
        let faster = TokenRecord { rate_limit_per_minute: Some(2), ..record() };
        assert_ne!(slower.grant_digest(), record().grant_digest());
        assert_ne!(slower.grant_digest(), faster.grant_digest());
        assert_ne!(TokenRecord { dag_roles: vec![], ..record() }.grant_digest(), record().grant_digest());
    }
}
