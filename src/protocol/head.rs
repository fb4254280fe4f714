//! The head: the signed statement of what a replica is at one version.

use base64::Engine;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::id::DataPlaneId;
use super::jws::{self, BASE64URL, JwsError, Typ, Unverified};
use super::key::SigningKey;
use super::keyset::Keyset;
use super::time::Time;
use super::version::{number, version};

/// The longest head accepted, in bytes.
pub const MAX_HEAD: usize = 4096;

/// The claims of a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The control plane that signed it.
    pub iss: String,
    /// The data plane whose replica it is about.
    pub aud: DataPlaneId,
    /// The version of the replica; it only rises.
    #[serde(deserialize_with = "version")]
    pub version: u64,
    /// [`super::digest::ReplicaDigest::checksum`] of the replica.
    #[serde(with = "base64url")]
    pub digest: [u8; 32],
    /// The number of records.
    #[serde(deserialize_with = "number")]
    pub count: u64,
    /// When it was signed. A replica is as old as its head.
    pub iat: Time,
    /// Until when it may be taken from a feed; a feed that shows an older one is frozen.
    pub exp: Time,
    /// The version of the keyset the signer went by.
    #[serde(deserialize_with = "version")]
    pub keyset: u64,
}

/// Why a head is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// Not a head signed by a replica key of the keyset.
    #[error("the head is not believed: {0}")]
    Jws(#[from] JwsError),
    /// A head of another control plane than the keyset names.
    #[error(
        "the head is signed as {head:?}, and keyset {version} names the issuer {keyset:?}; see that the control plane's \
             `issuer` is the one its keyset names"
    )]
    Issuer {
        /// The issuer of the head.
        head: String,
        /// The issuer that the keyset names.
        keyset: String,
        /// The version of the keyset.
        version: u64,
    },
    /// A head for another data plane.
    #[error("the head is for data plane {0}")]
    Audience(DataPlaneId),
}

/// Signs a head.
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn sign_head(head: &Head, key: &SigningKey) -> String {
    jws::sign(Typ::ReplicaHead, &serde_json::to_vec(head).expect("a head serializes"), key)
}

/// The longest nonce a head answers, in bytes.
const MAX_NONCE: usize = 128;

/// Whether `text` can be a nonce: 1 to 128 letters, digits, `-` and `_`.
#[must_use]
pub fn is_nonce(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_NONCE).contains(&text.len()) && text.bytes().all(allowed)
}

#[derive(Serialize)]
struct Answered<'a> {
    #[serde(flatten)]
    head: &'a Head,
    nonce: &'a str,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    nonce: Option<String>,
}

/// Signs a head in answer to a request that carried `nonce`: no head signed earlier can hold it.
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn sign_head_for(head: &Head, nonce: &str, key: &SigningKey) -> String {
    let answered = Answered { head, nonce };
    jws::sign(Typ::ReplicaHead, &serde_json::to_vec(&answered).expect("a head serializes"), key)
}

/// A head whose signature held, with the very text that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    head: Head,
    nonce: Option<String>,
    text: String,
}

impl SignedHead {
    /// Whether another head says something else of the same version: then one key has signed two histories.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        let (a, b) = (self.head(), other.head());
        a.version == b.version && (&a.digest, a.count) != (&b.digest, b.count)
    }

    /// Proves that a replica key of `keys` signed `text` as a head for `audience`.
    pub fn verify(text: &str, keys: &Keyset, audience: &DataPlaneId) -> Result<Self, HeadError> {
        let unverified = Unverified::parse(text.as_bytes(), MAX_HEAD)?;
        let key = keys.replica_key(unverified.kid()).ok_or(JwsError::KeyUnknown)?;
        let verified = unverified.verify(Typ::ReplicaHead, key)?;
        let head: Head = verified.claims()?;
        if let Some(iss) = keys.body().iss.as_ref().filter(|iss| **iss != head.iss) {
            let (keyset, version) = (iss.clone(), keys.version());
            return Err(HeadError::Issuer { head: head.iss, keyset, version });
        }
        if head.aud != *audience {
            return Err(HeadError::Audience(head.aud));
        }
        let Asked { nonce } = verified.claims()?;
        Ok(Self { head, nonce, text: text.into() })
    }

    /// The nonce of the request that it was signed for, if it names one.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// Whether it was signed in answer to the request that carried `nonce`.
    #[must_use]
    pub fn answers(&self, nonce: &str) -> bool {
        self.nonce.as_deref() == Some(nonce)
    }

    /// What was signed.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The compact JWS, byte for byte.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

mod base64url {
    use super::{BASE64URL, Deserialize, Deserializer, Engine, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        BASE64URL.encode(bytes).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64URL.decode(text).map_err(serde::de::Error::custom)?;
        bytes.try_into().map_err(|_| serde::de::Error::custom("a digest is 32 bytes"))
    }
}
