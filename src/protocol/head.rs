//! Defines the head: the signed statement of a replica's version, digest and number of records.
//!
//! docs/protocol/replica.md has the claims and the rules of verification.

use base64::Engine;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::id::DataPlaneId;
use super::jws::{self, BASE64URL, JwsError, Typ};
use super::key::SigningKey;
use super::keyset::Keyset;
use super::time::Time;
use super::version::{number, version};

/// Maximum length of a head's JWS, in bytes.
pub const MAX_HEAD: usize = 4096;

/// Claims of a head (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Issuer: the URL of the control plane that signed it.
    pub iss: String,
    /// Audience: the data plane whose replica it describes.
    pub aud: DataPlaneId,
    /// Version of the replica, from 1. It never decreases.
    #[serde(deserialize_with = "version")]
    pub version: u64,
    /// [`super::digest::ReplicaDigest::checksum`] of all records, base64url on the wire.
    #[serde(with = "base64url")]
    pub digest: [u8; 32],
    /// Number of records in the replica.
    #[serde(deserialize_with = "number")]
    pub count: u64,
    /// Time of the signature. The age of a replica counts from here.
    pub iat: Time,
    /// Time until which a feed may serve this head. A later answer with it is evidence of a frozen feed.
    pub exp: Time,
    /// Version of the keyset that was current at the signature.
    #[serde(deserialize_with = "version")]
    pub keyset: u64,
}

/// Reasons to reject a head.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The text is not a head that a replica key of the keyset signed.
    #[error("the head is not believed: {0}")]
    Jws(#[from] JwsError),
    /// The head's issuer differs from the issuer that the keyset names.
    #[error(
        "the head is signed as {head:?}, and keyset {version} names the issuer {keyset:?}; see that the control plane's \
             `issuer` is the one its keyset names"
    )]
    Issuer {
        /// Issuer named by the head.
        head: String,
        /// Issuer named by the keyset.
        keyset: String,
        /// Version of the keyset.
        version: u64,
    },
    /// The head describes another data plane, whose id this is.
    #[error("the head is for data plane {0}")]
    Audience(DataPlaneId),
}

impl HeadError {
    /// Returns true if the keyset no longer stands behind a head that an earlier keyset verified: it lists another replica key,
    /// or names another issuer. The keyset's root keys have decided so; the head was not altered.
    #[must_use]
    pub const fn is_superseded(&self) -> bool {
        matches!(self, Self::Jws(JwsError::KeyUnknown) | Self::Issuer { .. })
    }
}

/// Signs a head without a nonce, as a compact JWS.
///
/// ```
/// use halligan::protocol::head::{Head, MAX_HEAD, sign_head};
/// use halligan::protocol::jws::{Typ, Unverified};
/// use halligan::protocol::key::SigningKey;
/// use halligan::protocol::time::Time;
///
/// let head = Head {
///     iss: "https://control.example".into(),
///     aud: "dpl_a".parse().unwrap(),
///     version: 1,
///     digest: [0; 32],
///     count: 0,
///     iat: Time::from_unix(1_800_000_000),
///     exp: Time::from_unix(1_800_000_900),
///     keyset: 1,
/// };
/// let key = SigningKey::from_seed(&[1; 32]);
/// let text = sign_head(&head, &key);
/// let unverified = Unverified::parse(text.as_bytes(), MAX_HEAD).unwrap();
/// let verified = unverified.verify(Typ::ReplicaHead, key.public()).unwrap();
/// assert_eq!(verified.claims::<Head>().unwrap(), head);
/// ```
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn sign_head(head: &Head, key: &SigningKey) -> String {
    jws::sign(Typ::ReplicaHead, &serde_json::to_vec(head).expect("a head serializes"), key)
}

/// Maximum length of a nonce, in bytes.
const MAX_NONCE: usize = 128;

/// Returns true if `text` is a valid nonce: 1 to 128 ASCII letters, digits, `-` and `_`.
///
/// ```
/// use halligan::protocol::head::is_nonce;
///
/// assert!(is_nonce("3q2-7w_1"));
/// assert!(!is_nonce("") && !is_nonce("a b"));
/// ```
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
struct NonceClaim {
    #[serde(default)]
    nonce: Option<String>,
}

/// Signs a head in answer to a request with `nonce`. The nonce proves that the head is not a recorded answer played back.
///
/// ```
/// use halligan::protocol::head::{Head, MAX_HEAD, sign_head_for};
/// use halligan::protocol::jws::{Typ, Unverified};
/// use halligan::protocol::key::SigningKey;
/// use halligan::protocol::time::Time;
///
/// let head = Head {
///     iss: "https://control.example".into(),
///     aud: "dpl_a".parse().unwrap(),
///     version: 1,
///     digest: [0; 32],
///     count: 0,
///     iat: Time::from_unix(1_800_000_000),
///     exp: Time::from_unix(1_800_000_900),
///     keyset: 1,
/// };
/// let key = SigningKey::from_seed(&[1; 32]);
/// let text = sign_head_for(&head, "3q2-7w_1", &key);
/// let unverified = Unverified::parse(text.as_bytes(), MAX_HEAD).unwrap();
/// let verified = unverified.verify(Typ::ReplicaHead, key.public()).unwrap();
/// assert_eq!(verified.claims::<serde_json::Value>().unwrap()["nonce"], "3q2-7w_1");
/// ```
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn sign_head_for(head: &Head, nonce: &str, key: &SigningKey) -> String {
    let answered = Answered { head, nonce };
    jws::sign(Typ::ReplicaHead, &serde_json::to_vec(&answered).expect("a head serializes"), key)
}

/// A head whose signature was verified, together with the signed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    head: Head,
    nonce: Option<String>,
    text: String,
}

impl SignedHead {
    /// Returns true if both heads have one version and different content: a proof that the replica key signed two
    /// histories.
    ///
    /// ```
    /// use halligan::protocol::head::{Head, SignedHead, sign_head};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let keyset = world::keyset();
    /// # let [root, token_key, replica_key] = ["root", "token", "replica"].map(world::key);
    /// # let aud = "dpl_eu".parse()?;
    /// # let head = Head {
    /// #     iss: "https://control.example".into(),
    /// #     aud: "dpl_eu".parse()?,
    /// #     version: 7,
    /// #     digest: [0; 32],
    /// #     count: 3,
    /// #     iat: world::NOW,
    /// #     exp: world::NOW.plus(900),
    /// #     keyset: 1,
    /// # };
    /// let signed = |head: &Head| SignedHead::verify(&sign_head(head, &replica_key), &keyset, &aud);
    /// let first = signed(&head)?;
    /// # let now = world::NOW;
    /// // The control plane signs a version anew before its head ends.
    /// assert!(!first.contradicts(&signed(&Head { iat: now.plus(600), ..head.clone() })?));
    /// // Version 7 with one record less is another history.
    /// assert!(first.contradicts(&signed(&Head { count: 2, ..head.clone() })?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        let (a, b) = (self.head(), other.head());
        a.version == b.version && (&a.digest, a.count) != (&b.digest, b.count)
    }

    /// Verifies that a replica key of `keys` signed `text` as a head for `audience`, under the issuer that the keyset
    /// names.
    ///
    /// ```
    /// use halligan::protocol::head::{Head, HeadError, SignedHead, sign_head};
    /// use halligan::protocol::key::SigningKey;
    /// use halligan::protocol::keyset::{KeyUse, Keyset, KeysetBody, KeysetKey, RootSet, sign_keyset};
    /// use halligan::protocol::time::Time;
    ///
    /// let (root, key) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
    /// let (iat, exp) = (Time::from_unix(1_800_000_000), Time::from_unix(1_900_000_000));
    /// let body = KeysetBody {
    ///     iss: None,
    ///     version: 1,
    ///     iat,
    ///     exp,
    ///     keys: vec![KeysetKey { key_use: KeyUse::Replica, jwk: key.public().jwk() }],
    ///     roots: vec![root.public().jwk()],
    ///     threshold: 1,
    /// };
    /// let pinned = RootSet::new(vec![root.public().clone()], 1).unwrap();
    /// let keys = Keyset::verify_first(&sign_keyset(&body, &[&root]), &pinned).unwrap();
    ///
    /// let (iss, plane) = ("https://control.example".to_owned(), "dpl_a".parse().unwrap());
    /// let head = Head { iss, aud: plane, version: 7, digest: [0; 32], count: 0, iat, exp, keyset: 1 };
    /// let text = sign_head(&head, &key);
    /// assert_eq!(SignedHead::verify(&text, &keys, &head.aud).unwrap().head(), &head);
    /// let other = "dpl_b".parse().unwrap();
    /// assert_eq!(SignedHead::verify(&text, &keys, &other), Err(HeadError::Audience(head.aud)));
    /// ```
    pub fn verify(text: &str, keys: &Keyset, audience: &DataPlaneId) -> Result<Self, HeadError> {
        let verified = keys.verify_by_replica_key(text, MAX_HEAD, Typ::ReplicaHead)?;
        let head: Head = verified.claims()?;
        if let Some(iss) = keys.other_issuer(&head.iss) {
            let (keyset, version) = (iss.to_owned(), keys.version());
            return Err(HeadError::Issuer { head: head.iss, keyset, version });
        }
        if head.aud != *audience {
            return Err(HeadError::Audience(head.aud));
        }
        let NonceClaim { nonce } = verified.claims()?;
        Ok(Self { head, nonce, text: text.into() })
    }

    /// Returns the nonce of the request for which the head was signed, if it was signed for one.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// Returns true if the head was signed for a request with `nonce`.
    ///
    /// ```
    /// use halligan::protocol::head::{Head, SignedHead, sign_head, sign_head_for};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let keyset = world::keyset();
    /// # let [root, token_key, replica_key] = ["root", "token", "replica"].map(world::key);
    /// # let aud = "dpl_eu".parse()?;
    /// # let head = Head {
    /// #     iss: "https://control.example".into(),
    /// #     aud: "dpl_eu".parse()?,
    /// #     version: 7,
    /// #     digest: [0; 32],
    /// #     count: 3,
    /// #     iat: world::NOW,
    /// #     exp: world::NOW.plus(900),
    /// #     keyset: 1,
    /// # };
    /// let verify = |text: &str| SignedHead::verify(text, &keyset, &aud);
    /// let answer = verify(&sign_head_for(&head, "3q2-7w_1", &replica_key))?;
    /// assert!(answer.answers("3q2-7w_1"));
    /// // A recorded answer was signed for another nonce.
    /// assert!(!answer.answers("9c4-0k_2"));
    /// assert!(!verify(&sign_head(&head, &replica_key))?.answers("3q2-7w_1"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn answers(&self, nonce: &str) -> bool {
        self.nonce.as_deref() == Some(nonce)
    }

    /// Returns the verified claims.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the compact JWS, byte for byte as it was received.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

pub(in crate::protocol) mod base64url {
    use super::{BASE64URL, Deserialize, Deserializer, Engine, Serialize, Serializer};

    pub(in crate::protocol) fn serialize<S: Serializer>(
        bytes: &[u8; 32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        BASE64URL.encode(bytes).serialize(serializer)
    }

    pub(in crate::protocol) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64URL.decode(text).map_err(serde::de::Error::custom)?;
        bytes.try_into().map_err(|_| serde::de::Error::custom("a digest is 32 bytes"))
    }
}
