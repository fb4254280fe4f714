//! Tokens: how one is minted, how one is proved, and what a data plane keeps of one.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::id::{DeploymentId, TokenId};
use super::jws::{self, JwsError, Typ, Unverified};
use super::key::{KeyId, SigningKey};
use super::keyset::Keyset;
use super::role::{RoleDigest, RoleRef};
use super::time::Time;

/// The longest token accepted, in bytes.
pub const MAX_TOKEN: usize = 4096;

/// Who vouches for a token while it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TokenKind {
    /// The control plane, online.
    Standard,
    /// The data plane alone.
    DirectAccess,
}

impl TokenKind {
    const fn typ(self) -> Typ {
        match self {
            Self::Standard => Typ::Standard,
            Self::DirectAccess => Typ::DirectAccess,
        }
    }
}

/// A role as a token carries it: the version by name, and the digest of what it was at creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleClaim {
    /// Name and version.
    pub id: RoleRef,
    /// Digest of the role record's body.
    pub digest: RoleDigest,
}

/// The claims of a token (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The control plane that minted it.
    pub iss: String,
    /// The token's id.
    pub sub: TokenId,
    /// The deployment's id for a direct-access token, else the issuer.
    pub aud: String,
    /// When it was minted.
    pub iat: Time,
    /// From when on it is valid.
    pub nbf: Time,
    /// From when on it is not. A direct-access token always has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<Time>,
    /// The generation: how many times it has been rotated, from 1.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// The role. A direct-access token always has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleClaim>,
}

/// Why bytes are no token of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not a token at all.
    #[error("malformed")]
    Malformed,
    /// Longer than [`MAX_TOKEN`].
    #[error("longer than 4096 bytes")]
    TooLarge,
    /// Signed by a key the keyset does not hold for tokens.
    #[error("signed with an unknown key")]
    KeyUnknown,
    /// The signature does not hold.
    #[error("the signature does not hold")]
    SignatureInvalid,
}

impl From<JwsError> for TokenError {
    fn from(error: JwsError) -> Self {
        match error {
            JwsError::TooLarge(_) => Self::TooLarge,
            JwsError::KeyUnknown => Self::KeyUnknown,
            JwsError::SignatureInvalid => Self::SignatureInvalid,
            JwsError::Malformed(_)
            | JwsError::WrongType(_)
            | JwsError::WrongAlgorithm
            | JwsError::Claims(_) => Self::Malformed,
        }
    }
}

/// Mints a token. Its value is a secret: show it once, store it nowhere.
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn mint(kind: TokenKind, claims: &Claims, key: &SigningKey) -> Zeroizing<String> {
    let payload = serde_json::to_vec(claims).expect("claims serialize");
    Zeroizing::new(jws::sign(kind.typ(), &payload, key))
}

/// A token whose signature held under a key of the keyset. That says who minted it, not that it is alive.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    kind: TokenKind,
    claims: Claims,
    kid: KeyId,
}

impl VerifiedToken {
    /// Who vouches for it.
    #[must_use]
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// What was signed.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The key that signed it.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }
}

/// Proves that a key of `keys` signed `bytes` as a token.
pub fn verify(bytes: &[u8], keys: &Keyset) -> Result<VerifiedToken, TokenError> {
    let unverified = Unverified::parse(bytes, MAX_TOKEN)?;
    let kind = match unverified.typ() {
        Typ::DirectAccess => TokenKind::DirectAccess,
        Typ::Standard => TokenKind::Standard,
        _ => return Err(TokenError::Malformed),
    };
    let key = keys.token_key(unverified.kid()).ok_or(TokenError::KeyUnknown)?;
    let verified = unverified.verify(kind.typ(), key)?;
    let claims: Claims = verified.claims()?;
    // What a direct-access token must carry is decided here once, so that no later step can meet one without.
    if kind == TokenKind::DirectAccess && (claims.exp.is_none() || claims.role.is_none()) {
        return Err(TokenError::Malformed);
    }
    Ok(VerifiedToken { kind, claims, kid: verified.kid().clone() })
}

/// What a Dag role is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum DagTarget {
    /// One Dag, by id.
    Dag(String),
    /// Every Dag with this tag.
    Tag(String),
}

impl DagTarget {
    /// The target that the members `dag` and `tag` name. `None` unless exactly one of them is given: of two, each
    /// implementation could take another.
    #[must_use]
    pub fn from_members(dag: Option<String>, tag: Option<String>) -> Option<Self> {
        match (dag, tag) {
            (Some(dag), None) => Some(Self::Dag(dag)),
            (None, Some(tag)) => Some(Self::Tag(tag)),
            _ => None,
        }
    }
}

/// The members of a [`DagRole`] as they stand.
#[derive(Deserialize)]
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
    /// The role.
    pub role: RoleClaim,
    /// The Dags.
    #[serde(flatten)]
    pub target: DagTarget,
}

/// What a data plane keeps of a direct-access token: the body of a `token` record.
///
/// Two things in it may change, each one way only: the generation rises, and a revocation comes. A revoked or deleted
/// token stays, so that it is known to be dead, until its expiry has passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRecord {
    /// The token.
    pub id: TokenId,
    /// The one deployment it opens.
    pub deployment: DeploymentId,
    /// The newest generation; older ones are rotated away.
    pub generation: u32,
    /// Its role, as fixed at creation.
    pub role: RoleClaim,
    /// Its Dag roles, as fixed at creation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dag_roles: Vec<DagRole>,
    /// From when on it is valid.
    pub not_before: Time,
    /// From when on it is not.
    pub expires_at: Time,
    /// The networks it may be used from (CIDR); none means from anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// How often it may be used in a minute, on each node; none means without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_per_minute: Option<u32>,
    /// When it was revoked or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
}

impl TokenRecord {
    /// SHA-256 over what may never change: the grant. Two records of one token with different grants are a lie.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
    pub fn grant_digest(&self) -> [u8; 32] {
        let grant = (&self.id, &self.deployment, &self.role, &self.dag_roles, &self.sources);
        let text = match self.rate_limit_per_minute {
            // A record without a limit reads as it did before there were any.
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
    use crate::protocol::role::RoleBody;

    fn record() -> TokenRecord {
        let role = RoleClaim { id: "DAG_VIEWER@1".parse().unwrap(), digest: RoleDigest::of("x") };
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
