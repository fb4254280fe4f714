//! The keyset: which keys may sign tokens and heads, itself signed by a threshold of root keys.
//!
//! The rules of succession are those of TUF's root role (specification section 5.3): a keyset names the roots and the
//! threshold of the next one; the next must be signed by a threshold of the old roots and of the new, and its version
//! is one higher. So a host that pinned the first roots follows any number of rotations, and skips none. A host that pinned
//! later roots begins at the earliest keyset that those have signed.

mod unverified;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::json::object;
use super::jws::{self, BASE64URL, JwsError, Typ};
use super::key::{Jwk, KeyError, PublicKey, SigningKey};
use super::time::Time;
use super::version::version;

pub use unverified::UnverifiedKeyset;

/// The longest keyset accepted, in bytes.
pub const MAX_KEYSET: usize = 64 * 1024;

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyUse {
    /// Tokens.
    Token,
    /// Heads.
    Replica,
}

/// A key and what it may sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysetKey {
    /// What it may sign.
    #[serde(rename = "use")]
    pub key_use: KeyUse,
    /// The key.
    pub jwk: Jwk,
}

/// The signed content of a keyset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysetBody {
    /// The issuer of the heads that are taken under it. A keyset that names none allows any issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Counts keysets, from 1.
    #[serde(deserialize_with = "version")]
    pub version: u64,
    /// When it was signed.
    pub iat: Time,
    /// Until when nodes take new heads under it. What was proved before goes on being served.
    pub exp: Time,
    /// The keys that may sign tokens and heads.
    pub keys: Vec<KeysetKey>,
    /// The root keys of the next keyset.
    pub roots: Vec<Jwk>,
    /// How many of them must sign.
    pub threshold: u32,
}

/// Why a keyset is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeysetError {
    /// Longer than [`MAX_KEYSET`].
    #[error("the keyset is longer than 65536 bytes")]
    TooLarge,
    /// Not a JWS in general JSON form over a keyset.
    #[error("the keyset is malformed: {0}")]
    Malformed(String),
    /// Too few root keys signed it.
    #[error("the keyset is signed by {valid} of the {who} root keys; {threshold} must")]
    Threshold {
        /// `pinned`, `old` or `new`.
        who: &'static str,
        /// Different root keys whose signature holds.
        valid: usize,
        /// How many are needed.
        threshold: u32,
    },
    /// A key in it is no usable Ed25519 key.
    #[error("a key in the keyset is refused: {0}")]
    Key(#[from] KeyError),
    /// The threshold is zero or above the number of roots.
    #[error("the threshold {threshold} does not fit {roots} root keys")]
    Unreachable {
        /// The threshold.
        threshold: u32,
        /// Different root keys.
        roots: usize,
    },
    /// Not one version after its predecessor.
    #[error("keyset version {got} does not follow {have}")]
    Version {
        /// The version held.
        have: u64,
        /// The version offered.
        got: u64,
    },
    /// A chain without a keyset in it.
    #[error("no keyset")]
    Missing,
}

/// Root keys and how many of them must agree: what a host pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootSet {
    keys: Vec<PublicKey>,
    threshold: u32,
}

impl RootSet {
    /// A set of different root keys, `threshold` of which must sign.
    pub fn new(keys: Vec<PublicKey>, threshold: u32) -> Result<Self, KeysetError> {
        let different: BTreeSet<_> = keys.iter().map(PublicKey::kid).collect();
        let (roots, reachable) = (different.len(), threshold as usize);
        if reachable == 0 || reachable > roots || roots != keys.len() {
            return Err(KeysetError::Unreachable { threshold, roots });
        }
        Ok(Self { keys, threshold })
    }

    /// The root keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How many of them must sign.
    #[must_use]
    pub fn threshold(&self) -> u32 {
        self.threshold
    }

    /// Different keys count, not signatures: one root that signs twice is still one.
    fn check(&self, general: &General, who: &'static str) -> Result<(), KeysetError> {
        let signers: BTreeSet<_> = general
            .signatures
            .iter()
            .filter_map(|signature| signature.signer(&general.payload, &self.keys))
            .collect();
        if signers.len() < self.threshold as usize {
            return Err(KeysetError::Threshold { who, valid: signers.len(), threshold: self.threshold });
        }
        Ok(())
    }
}

/// A JWS in general JSON serialization (RFC 7515 section 7.2.1).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct General {
    payload: String,
    signatures: Vec<GeneralSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GeneralSignature {
    protected: String,
    signature: String,
}

impl GeneralSignature {
    fn signer<'k>(&self, payload: &str, keys: &'k [PublicKey]) -> Option<&'k str> {
        let (typ, kid) = jws::read_header(self.protected.as_bytes()).ok()?;
        let key = keys.iter().find(|key| key.kid().as_str() == kid)?;
        let signature = jws::read_signature(self.signature.as_bytes()).ok()?;
        let input = format!("{}.{payload}", self.protected);
        (typ == Typ::Keyset && key.accepts(input.as_bytes(), &signature)).then_some(key.kid().as_str())
    }
}

/// Signs a keyset with root keys, as one line of general JSON JWS.
#[must_use]
pub fn sign_keyset(body: &KeysetBody, roots: &[&SigningKey]) -> String {
    let mut keyset = UnverifiedKeyset::unsigned(body.clone());
    for root in roots {
        keyset.sign(root);
    }
    keyset.to_line()
}

fn signature_of(payload: &str, root: &SigningKey) -> GeneralSignature {
    let protected = jws::protected_header(Typ::Keyset, root);
    let signature = BASE64URL.encode(root.sign(format!("{protected}.{payload}").as_bytes()));
    GeneralSignature { protected, signature }
}

fn parse(text: &str) -> Result<General, KeysetError> {
    if text.len() > MAX_KEYSET {
        return Err(KeysetError::TooLarge);
    }
    object(text.as_bytes()).map_err(|error| KeysetError::Malformed(error.to_string()))
}

/// A keyset whose signatures reach back to pinned roots.
#[derive(Clone, Debug)]
pub struct Keyset {
    body: KeysetBody,
    token_keys: Vec<PublicKey>,
    replica_keys: Vec<PublicKey>,
    roots: RootSet,
    text: String,
}

impl Keyset {
    /// Believes a keyset that a threshold of the pinned roots signed.
    pub fn verify_first(text: &str, pinned: &RootSet) -> Result<Self, KeysetError> {
        let general = parse(text)?;
        pinned.check(&general, "pinned")?;
        Self::read(&general, text)
    }

    /// Believes the keyset after this one: signed by a threshold of the roots this one names and of those it names itself.
    pub fn verify_next(&self, text: &str) -> Result<Self, KeysetError> {
        let general = parse(text)?;
        self.roots.check(&general, "old")?;
        let next = Self::read(&general, text)?;
        next.roots.check(&general, "new")?;
        if Some(next.version()) != self.version().checked_add(1) {
            return Err(KeysetError::Version { have: self.version(), got: next.version() });
        }
        Ok(next)
    }

    /// Follows a chain, oldest first, from the pinned roots to its last keyset. The chain begins at the earliest keyset that
    /// the pinned roots prove: those before it were signed by roots that these have succeeded, and say nothing here.
    pub fn verify_chain<S: AsRef<str>>(chain: &[S], pinned: &RootSet) -> Result<Self, KeysetError> {
        let (first, start) = Self::verify_earliest(chain, pinned)?;
        chain[start + 1..].iter().try_fold(first, |keyset, next| keyset.verify_next(next.as_ref()))
    }

    /// The earliest keyset of a chain that the pinned roots prove, and its place there.
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

    fn read(general: &General, text: &str) -> Result<Self, KeysetError> {
        let malformed = |error: &dyn std::fmt::Display| KeysetError::Malformed(error.to_string());
        let payload = BASE64URL.decode(&general.payload).map_err(|error| malformed(&error))?;
        let body: KeysetBody = object(&payload).map_err(|error| malformed(&error))?;
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

    /// Which keyset it is.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.body.version
    }

    /// What was signed.
    #[must_use]
    pub fn body(&self) -> &KeysetBody {
        &self.body
    }

    /// The JWS, byte for byte.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The roots that must sign the next keyset.
    #[must_use]
    pub fn roots(&self) -> &RootSet {
        &self.roots
    }

    /// The key with this thumbprint, if it may sign tokens.
    #[must_use]
    pub fn token_key(&self, kid: &str) -> Option<&PublicKey> {
        self.token_keys.iter().find(|key| key.kid().as_str() == kid)
    }

    /// The key with this thumbprint, if it may sign heads.
    #[must_use]
    pub fn replica_key(&self, kid: &str) -> Option<&PublicKey> {
        self.replica_keys.iter().find(|key| key.kid().as_str() == kid)
    }
}

impl From<JwsError> for KeysetError {
    fn from(error: JwsError) -> Self {
        Self::Malformed(error.to_string())
    }
}
