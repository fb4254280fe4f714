//! Defines the keyset: the keys that may sign tokens and heads, signed by a threshold of root keys.
//!
//! Succession follows TUF's root role (specification section 5.3). A keyset names the root keys and the threshold for the
//! next one. The next one must be signed by a threshold of the old roots and a threshold of its own roots, and its
//! version is one higher. A host that pinned the first roots therefore follows every rotation in order; a host that
//! pinned later roots begins at the earliest keyset which those have signed.
//!
//! docs/keys.md describes the ceremonies, docs/protocol/replica.md the format.

mod general;
mod roots;
mod unverified;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::jws::{JwsError, Typ, Unverified, Verified};
use super::key::{Jwk, KeyError, PublicKey, SigningKey};
use super::time::Time;
use super::version::version;

use general::parse;
pub use roots::RootSet;
pub use unverified::UnverifiedKeyset;

/// Maximum length of a keyset's JWS, in bytes.
pub const MAX_KEYSET: usize = 64 * 1024;

/// Kind of object that a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyUse {
    /// The key signs tokens.
    Token,
    /// The key signs heads.
    Replica,
}

/// A key of the keyset and its purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysetKey {
    /// Kind of object that the key may sign.
    #[serde(rename = "use")]
    pub key_use: KeyUse,
    /// The public key.
    pub jwk: Jwk,
}

/// Signed content of a keyset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysetBody {
    /// Issuer of the heads that nodes accept under this keyset. Without a value, nodes accept any issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Version of the keyset, from 1. Each keyset is one version above its predecessor.
    #[serde(deserialize_with = "version")]
    pub version: u64,
    /// Time of the signature.
    pub iat: Time,
    /// Time until which nodes accept new heads under this keyset. A replica that was proved before stays in use.
    pub exp: Time,
    /// Keys that may sign tokens and heads.
    pub keys: Vec<KeysetKey>,
    /// Root keys that sign the next keyset.
    pub roots: Vec<Jwk>,
    /// Number of these roots that must sign the next keyset.
    pub threshold: u32,
}

/// Reasons to reject a keyset.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeysetError {
    /// The text is longer than [`MAX_KEYSET`].
    #[error("the keyset is longer than 65536 bytes")]
    TooLarge,
    /// The text is not a JWS in general JSON serialization whose payload is a keyset.
    #[error("the keyset is malformed: {0}")]
    Malformed(String),
    /// Fewer root keys signed the keyset than the threshold demands.
    #[error("the keyset is signed by {valid} of the {who} root keys; {threshold} must")]
    Threshold {
        /// Set of roots that was counted: `pinned`, `old` or `new`.
        who: &'static str,
        /// Number of different root keys with a valid signature.
        valid: usize,
        /// Number of signatures that the threshold demands.
        threshold: u32,
    },
    /// A key of the keyset is invalid.
    #[error("a key in the keyset is refused: {0}")]
    Key(#[from] KeyError),
    /// The threshold is zero, exceeds the number of roots, or one root is listed twice.
    #[error("the threshold {threshold} does not fit {roots} root keys")]
    Unreachable {
        /// The threshold named by the keyset.
        threshold: u32,
        /// Number of different root keys.
        roots: usize,
    },
    /// The version is not the predecessor's version plus one.
    #[error("keyset version {got} does not follow {have}")]
    Version {
        /// Version of the predecessor.
        have: u64,
        /// Version of the rejected keyset.
        got: u64,
    },
    /// The chain is empty.
    #[error("no keyset")]
    Missing,
}

/// Signs a keyset with root keys. Returns a JWS in general JSON serialization, on one line.
///
/// ```
/// use halligan::protocol::key::SigningKey;
/// use halligan::protocol::keyset::{KeyUse, Keyset, KeysetBody, KeysetKey, RootSet, sign_keyset};
/// use halligan::protocol::time::Time;
///
/// let (root, key) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
/// let body = KeysetBody {
///     iss: None,
///     version: 1,
///     iat: Time::from_unix(1_800_000_000),
///     exp: Time::from_unix(1_900_000_000),
///     keys: vec![KeysetKey { key_use: KeyUse::Token, jwk: key.public().jwk() }],
///     roots: vec![root.public().jwk()],
///     threshold: 1,
/// };
/// let pinned = RootSet::new(vec![root.public().clone()], 1).unwrap();
/// assert!(Keyset::verify_first(&sign_keyset(&body, &[&root]), &pinned).is_ok());
/// assert!(Keyset::verify_first(&sign_keyset(&body, &[&key]), &pinned).is_err());
/// ```
#[must_use]
pub fn sign_keyset(body: &KeysetBody, roots: &[&SigningKey]) -> String {
    let mut keyset = UnverifiedKeyset::unsigned(body.clone());
    for root in roots {
        keyset.sign(root);
    }
    keyset.to_line()
}

/// Keyset whose signatures lead back to pinned roots.
#[derive(Clone, Debug)]
pub struct Keyset {
    body: KeysetBody,
    token_keys: Vec<PublicKey>,
    replica_keys: Vec<PublicKey>,
    roots: RootSet,
    text: String,
}

impl Keyset {
    /// Verifies a keyset under the pinned roots.
    ///
    /// ```
    /// use halligan::protocol::keyset::{Keyset, RootSet, sign_keyset};
    /// # use halligan::protocol::key::SigningKey;
    /// # use halligan::protocol::keyset::KeysetBody;
    /// # use halligan::protocol::time::Time;
    ///
    /// # let [a, b, c] = [1, 2, 3].map(|seed| SigningKey::from_seed(&[seed; 32]));
    /// # let body = KeysetBody {
    /// #     iss: None,
    /// #     version: 1,
    /// #     iat: Time::from_unix(1_800_000_000),
    /// #     exp: Time::from_unix(1_900_000_000),
    /// #     keys: Vec::new(),
    /// #     roots: vec![a.public().jwk()],
    /// #     threshold: 1,
    /// # };
    /// // The host pins three roots, two of which must sign.
    /// let pinned = RootSet::new([&a, &b, &c].map(|root| root.public().clone()).to_vec(), 2)?;
    /// let keyset = Keyset::verify_first(&sign_keyset(&body, &[&a, &c]), &pinned)?;
    /// assert_eq!(keyset.version(), 1);
    ///
    /// let error = Keyset::verify_first(&sign_keyset(&body, &[&a]), &pinned).unwrap_err();
    /// assert_eq!(error.to_string(), "the keyset is signed by 1 of the pinned root keys; 2 must");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify_first(text: &str, pinned: &RootSet) -> Result<Self, KeysetError> {
        let (general, body) = parse(text)?;
        pinned.check(&general, "pinned")?;
        Self::read(body, text)
    }

    /// Verifies the successor of this keyset: a threshold of this keyset's roots and a threshold of its own roots must
    /// have signed it, and its version must be one higher.
    ///
    /// ```
    /// use halligan::protocol::keyset::{KeysetBody, KeysetError, sign_keyset};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let keyset = world::keyset();
    /// # let [root, token_key, replica_key] = ["root", "token", "replica"].map(world::key);
    /// let next = KeysetBody { version: 2, ..keyset.body().clone() };
    /// assert_eq!(keyset.verify_next(&sign_keyset(&next, &[&root]))?.version(), 2);
    ///
    /// // A chain has no gaps.
    /// let skipped = KeysetBody { version: 3, ..next };
    /// let refused = keyset.verify_next(&sign_keyset(&skipped, &[&root]));
    /// assert_eq!(refused.err(), Some(KeysetError::Version { have: 1, got: 3 }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify_next(&self, text: &str) -> Result<Self, KeysetError> {
        let (general, body) = parse(text)?;
        self.roots.check(&general, "old")?;
        let next = Self::read(body, text)?;
        next.roots.check(&general, "new")?;
        if Some(next.version()) != self.version().checked_add(1) {
            return Err(KeysetError::Version { have: self.version(), got: next.version() });
        }
        Ok(next)
    }

    /// Verifies a chain, oldest first, and returns its last keyset. Verification begins at the earliest keyset that the
    /// pinned roots signed; the keysets before it are ignored, because their roots precede the pinned ones.
    ///
    /// ```
    /// use halligan::protocol::key::SigningKey;
    /// use halligan::protocol::keyset::{Keyset, KeysetBody, RootSet, sign_keyset};
    /// use halligan::protocol::time::Time;
    ///
    /// let (old, new) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
    /// let body = |version, root: &SigningKey| KeysetBody {
    ///     iss: None,
    ///     version,
    ///     iat: Time::from_unix(1_800_000_000),
    ///     exp: Time::from_unix(1_900_000_000),
    ///     keys: Vec::new(),
    ///     roots: vec![root.public().jwk()],
    ///     threshold: 1,
    /// };
    /// let first = sign_keyset(&body(1, &old), &[&old]);
    /// let second = sign_keyset(&body(2, &new), &[&old, &new]);
    /// let pinned = RootSet::new(vec![old.public().clone()], 1).unwrap();
    /// assert_eq!(Keyset::verify_chain(&[&first, &second], &pinned).unwrap().version(), 2);
    ///
    /// // The old root has not signed this one.
    /// let foreign = sign_keyset(&body(2, &new), &[&new]);
    /// assert!(Keyset::verify_chain(&[&first, &foreign], &pinned).is_err());
    /// ```
    pub fn verify_chain<S: AsRef<str>>(chain: &[S], pinned: &RootSet) -> Result<Self, KeysetError> {
        let (first, start) = Self::verify_earliest(chain, pinned)?;
        chain[start + 1..].iter().try_fold(first, |keyset, next| keyset.verify_next(next.as_ref()))
    }

    /// Verifies the earliest keyset of a chain that the pinned roots signed. Returns it with its index in the chain.
    ///
    /// ```
    /// use halligan::protocol::keyset::{Keyset, RootSet, sign_keyset};
    /// # use halligan::protocol::key::SigningKey;
    /// # use halligan::protocol::keyset::KeysetBody;
    /// # use halligan::protocol::time::Time;
    ///
    /// # let [old, new] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]));
    /// # let body = |version, root: &SigningKey| KeysetBody {
    /// #     iss: None,
    /// #     version,
    /// #     iat: Time::from_unix(1_800_000_000),
    /// #     exp: Time::from_unix(1_900_000_000),
    /// #     keys: Vec::new(),
    /// #     roots: vec![root.public().jwk()],
    /// #     threshold: 1,
    /// # };
    /// let first = sign_keyset(&body(1, &old), &[&old]);
    /// let second = sign_keyset(&body(2, &new), &[&old, &new]);
    /// // This host was installed after the roots had changed. It pins the new root.
    /// let pinned = RootSet::new(vec![new.public().clone()], 1)?;
    /// let (keyset, index) = Keyset::verify_earliest(&[&first, &second], &pinned)?;
    /// assert_eq!((keyset.version(), index), (2, 1));
    /// assert!(Keyset::verify_earliest(&[&first], &pinned).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify_earliest<S: AsRef<str>>(
        chain: &[S],
        pinned: &RootSet,
    ) -> Result<(Self, usize), KeysetError> {
        let mut refused = KeysetError::Missing;
        for (place, text) in chain.iter().enumerate() {
            match Self::verify_first(text.as_ref(), pinned) {
                Ok(keyset) => return Ok((keyset, place)),
                Err(error @ KeysetError::Threshold { .. }) if place == 0 => refused = error,
                Err(KeysetError::Threshold { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    /// Reads the keys of a body that enough roots signed.
    fn read(body: KeysetBody, text: &str) -> Result<Self, KeysetError> {
        let (mut token_keys, mut replica_keys) = (Vec::new(), Vec::new());
        for key in &body.keys {
            let list = match key.key_use {
                KeyUse::Token => &mut token_keys,
                KeyUse::Replica => &mut replica_keys,
            };
            list.push(PublicKey::from_jwk(&key.jwk)?);
        }
        let roots = body.roots.iter().map(PublicKey::from_jwk).collect::<Result<_, _>>()?;
        let roots = RootSet::new(roots, body.threshold)?;
        Ok(Self { body, token_keys, replica_keys, roots, text: text.into() })
    }

    /// Returns the version of the keyset.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.body.version
    }

    /// Returns the verified content.
    #[must_use]
    pub fn body(&self) -> &KeysetBody {
        &self.body
    }

    /// Returns the JWS, byte for byte as it was received.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the roots that must sign the next keyset.
    #[must_use]
    pub fn roots(&self) -> &RootSet {
        &self.roots
    }

    /// Returns the key with this thumbprint if it may sign tokens.
    ///
    /// ```
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let keyset = world::keyset();
    /// # let [root, token_key, replica_key] = ["root", "token", "replica"].map(world::key);
    /// assert!(keyset.token_key(token_key.public().kid().as_str()).is_some());
    /// // A key that signs heads must not sign tokens.
    /// assert!(keyset.token_key(replica_key.public().kid().as_str()).is_none());
    /// ```
    #[must_use]
    pub fn token_key(&self, kid: &str) -> Option<&PublicKey> {
        self.token_keys.iter().find(|key| key.kid().as_str() == kid)
    }

    /// Returns the key with this thumbprint if it may sign heads.
    #[must_use]
    pub fn replica_key(&self, kid: &str) -> Option<&PublicKey> {
        self.replica_keys.iter().find(|key| key.kid().as_str() == kid)
    }

    /// Verifies that a replica key signed `text`, a compact JWS of the kind `typ` and at most `max` bytes.
    ///
    /// ```
    /// use halligan::protocol::jws::{JwsError, Typ, sign};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let keyset = world::keyset();
    /// # let [root, token_key, replica_key] = ["root", "token", "replica"].map(world::key);
    /// let text = sign(Typ::Deploy, br#"{"sub":"dep_sales"}"#, &replica_key);
    /// let verified = keyset.verify_by_replica_key(&text, 4096, Typ::Deploy)?;
    /// assert_eq!(verified.payload(), br#"{"sub":"dep_sales"}"#);
    ///
    /// // The keyset lists this key for tokens only.
    /// let text = sign(Typ::Deploy, br#"{"sub":"dep_sales"}"#, &token_key);
    /// assert_eq!(keyset.verify_by_replica_key(&text, 4096, Typ::Deploy).err(), Some(JwsError::KeyUnknown));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify_by_replica_key(&self, text: &str, max: usize, typ: Typ) -> Result<Verified, JwsError> {
        Unverified::parse(text.as_bytes(), max)?.verify_by(typ, |kid| self.replica_key(kid))
    }

    /// Returns the issuer that the keyset names, if it is another one than `iss`.
    ///
    /// ```
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let keyset = world::keyset();
    /// # let [root, token_key, replica_key] = ["root", "token", "replica"].map(world::key);
    /// assert_eq!(keyset.other_issuer("https://control.example"), None);
    /// assert_eq!(keyset.other_issuer("https://staging.example"), Some("https://control.example"));
    /// ```
    #[must_use]
    pub fn other_issuer(&self, iss: &str) -> Option<&str> {
        self.body.iss.as_deref().filter(|named| *named != iss)
    }
}

impl From<JwsError> for KeysetError {
    fn from(error: JwsError) -> Self {
        Self::Malformed(error.to_string())
    }
}
