//! Mints and verifies tokens. docs/protocol/tokens.md has the format.

mod record;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::id::TokenId;
use super::jws::{self, JwsError, Typ, Unverified};
use super::key::{KeyId, SigningKey};
use super::keyset::Keyset;
use super::role::{RoleDigest, RoleRef};
use super::time::Time;

pub use record::{DagRole, DagTarget, TokenRecord};

/// Maximum length of a token, in bytes.
pub const MAX_TOKEN: usize = 4096;

/// Kind of a token: the plane that decides on its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TokenKind {
    /// The control plane vouches for each use; the token needs it to be reachable.
    Standard,
    /// The data plane decides alone, from its replica.
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

/// A role in a token or its record: the reference, and the digest of the role at the token's creation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleClaim {
    /// Name and version of the role.
    pub id: RoleRef,
    /// Digest of the role record's body.
    pub digest: RoleDigest,
}

/// Claims of a token (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer: the URL of the control plane that minted the token.
    pub iss: String,
    /// Subject: the token's identifier.
    pub sub: TokenId,
    /// Audience: the deployment's id for a direct-access token, the issuer for a standard token.
    pub aud: String,
    /// Time of minting. Nothing is decided by it.
    pub iat: Time,
    /// Time from which on the token is valid.
    pub nbf: Time,
    /// Time from which on the token is invalid. A direct-access token always has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<Time>,
    /// Generation, from 1. Each rotation raises it, by 1 unless a recovery skips numbers.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// Role of the token. A direct-access token always has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleClaim>,
    /// Objects that a standard token belongs to, such as `organizationId:…`. Clients of the platform read this claim. Verifiers
    /// ignore it.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
}

/// Reasons to reject a token's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// The bytes are not a token.
    #[error("malformed")]
    Malformed,
    /// The token is longer than [`MAX_TOKEN`].
    #[error("longer than 4096 bytes")]
    TooLarge,
    /// The keyset has no token key with this thumbprint.
    #[error("signed with an unknown key")]
    KeyUnknown,
    /// The signature is invalid.
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

/// Mints a token. The returned value is a secret: show it once and store it nowhere.
///
/// ```
/// use halligan::protocol::jws::{Typ, Unverified};
/// use halligan::protocol::key::SigningKey;
/// use halligan::protocol::role::{RoleDigest, built_in};
/// use halligan::protocol::time::Time;
/// use halligan::protocol::token::{Claims, MAX_TOKEN, RoleClaim, TokenKind, mint};
///
/// let role = built_in().remove(0);
/// let claims = Claims {
///     iss: "https://control.example".into(),
///     sub: "tok_a".parse().unwrap(),
///     aud: "dep_a".into(),
///     iat: Time::from_unix(1_800_000_000),
///     nbf: Time::from_unix(1_800_000_000),
///     exp: Some(Time::from_unix(1_800_086_400)),
///     generation: 1,
///     role: Some(RoleClaim {
///         id: role.reference().unwrap(),
///         digest: RoleDigest::compute(&role.to_body()),
///     }),
///     permissions: Vec::new(),
/// };
/// let token = mint(TokenKind::DirectAccess, &claims, &SigningKey::from_seed(&[1; 32]));
/// assert_eq!(Unverified::parse(token.as_bytes(), MAX_TOKEN).unwrap().typ(), Typ::DirectAccess);
/// ```
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn mint(kind: TokenKind, claims: &Claims, key: &SigningKey) -> Zeroizing<String> {
    let payload = serde_json::to_vec(claims).expect("claims serialize");
    Zeroizing::new(jws::sign(kind.typ(), &payload, key))
}

/// A token whose signature is valid under a key of the keyset. The token may still be unknown, expired or revoked.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    kind: TokenKind,
    claims: Claims,
    kid: KeyId,
}

impl VerifiedToken {
    /// Returns the kind of the token.
    #[must_use]
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// Returns the signed claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Returns the thumbprint of the key that signed the token.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }
}

/// Verifies that a token key of `keys` signed `bytes` as a token of either kind. Checks neither times nor the replica.
///
/// ```
/// # use halligan::protocol::key::SigningKey;
/// # use halligan::protocol::keyset::{KeyUse, Keyset, KeysetBody, KeysetKey, RootSet, sign_keyset};
/// # use halligan::protocol::role::{RoleDigest, built_in};
/// # use halligan::protocol::time::Time;
/// use halligan::protocol::token::{Claims, RoleClaim, TokenError, TokenKind, mint, verify};
///
/// # let role = built_in().remove(0);
/// # let claims = Claims {
/// #     iss: "https://control.example".into(),
/// #     sub: "tok_a".parse().unwrap(),
/// #     aud: "dep_a".into(),
/// #     iat: Time::from_unix(1_800_000_000),
/// #     nbf: Time::from_unix(1_800_000_000),
/// #     exp: Some(Time::from_unix(1_800_086_400)),
/// #     generation: 1,
/// #     role: Some(RoleClaim {
/// #         id: role.reference().unwrap(),
/// #         digest: RoleDigest::compute(&role.to_body()),
/// #     }),
/// #     permissions: Vec::new(),
/// # };
/// # let (root, key) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
/// # let body = KeysetBody {
/// #     iss: None,
/// #     version: 1,
/// #     iat: Time::from_unix(1_800_000_000),
/// #     exp: Time::from_unix(1_900_000_000),
/// #     keys: vec![KeysetKey { key_use: KeyUse::Token, jwk: key.public().jwk() }],
/// #     roots: vec![root.public().jwk()],
/// #     threshold: 1,
/// # };
/// # let pinned = RootSet::new(vec![root.public().clone()], 1).unwrap();
/// let keyset = Keyset::verify_first(&sign_keyset(&body, &[&root]), &pinned).unwrap();
/// let token = mint(TokenKind::DirectAccess, &claims, &key);
/// assert_eq!(verify(token.as_bytes(), &keyset).unwrap().claims(), &claims);
/// let other = mint(TokenKind::DirectAccess, &claims, &root);
/// assert_eq!(verify(other.as_bytes(), &keyset).err(), Some(TokenError::KeyUnknown));
/// ```
pub fn verify(bytes: &[u8], keys: &Keyset) -> Result<VerifiedToken, TokenError> {
    let unverified = Unverified::parse(bytes, MAX_TOKEN)?;
    let kind = match unverified.typ() {
        Typ::DirectAccess => TokenKind::DirectAccess,
        Typ::Standard => TokenKind::Standard,
        _ => return Err(TokenError::Malformed),
    };
    let verified = unverified.verify_by(kind.typ(), |kid| keys.token_key(kid))?;
    let claims: Claims = verified.claims()?;
    // Checked once here, so that no later step meets a direct-access token without an expiry or a role.
    if kind == TokenKind::DirectAccess && (claims.exp.is_none() || claims.role.is_none()) {
        return Err(TokenError::Malformed);
    }
    if claims.generation == 0 {
        return Err(TokenError::Malformed);
    }
    Ok(VerifiedToken { kind, claims, kid: verified.kid().clone() })
}
