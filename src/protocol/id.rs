//! Defines the identifiers of tokens, deployments, deploys, data planes and nodes. They are validated when they are made, and
//! copied without an allocation.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayString;
use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Maximum length of an identifier, in bytes.
pub const MAX_ID: usize = 64;

/// Error for a text that is empty, longer than [`MAX_ID`], or contains other characters than ASCII letters, digits, `_`
/// and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0} is not an identifier: use 1 to 64 letters, digits, '_' or '-'")]
pub struct IdError(&'static str);

/// Returns true if `text` is a valid identifier. Such a text is safe in a path, a header, a log line and a file name.
///
/// ```
/// use halligan::protocol::id::is_id;
///
/// assert!(is_id("dep_a-1"));
/// assert!(!is_id("") && !is_id("dep/a") && !is_id("é"));
/// ```
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Copies `text` into an inline string if it is a valid identifier.
pub(super) fn checked(text: &str) -> Option<ArrayString<MAX_ID>> {
    if is_id(text) { ArrayString::from(text).ok() } else { None }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        // Inline, not `Arc<str>`: a clone must not touch a reference count that all cores share.
        pub struct $name(ArrayString<MAX_ID>);

        impl $name {
            /// Validates `text` and returns it as an identifier.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                checked(text).map(Self).ok_or(IdError($what))
            }

            /// Returns the identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

identifier!(/// Identifier of a token (`tok_…`): its claim `sub`, and the key of its record.
    ///
    /// ```
    /// use halligan::protocol::id::TokenId;
    ///
    /// assert_eq!(TokenId::new("tok_etl")?.as_str(), "tok_etl");
    /// let error = TokenId::new("tok etl").unwrap_err();
    /// assert!(error.to_string().contains("use 1 to 64 letters, digits, '_' or '-'"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    TokenId, "token id");
identifier!(/// Identifier of a deployment (`dep_…`): the claim `aud` of its direct-access tokens.
    DeploymentId, "deployment id");
identifier!(/// Identifier of a deploy: one archive of a deployment's code.
    DeployId, "deploy id");
identifier!(/// Identifier of a browser's session (`ses_…`). Events carry it.
    SessionId, "session id");
identifier!(/// Identifier of a data plane (`dpl_…`): the claim `aud` of its heads.
    DataPlaneId, "data plane id");
identifier!(/// Identifier of a node (`nod_…`): the claim `iss` of the objects it signs.
    NodeId, "node id");

/// Returns a new identifier: `prefix` (such as `tok_`), then 128 random bits as 26 lower-case base32 characters (RFC
/// 4648).
///
/// ```
/// use halligan::protocol::id::{is_id, random_id};
///
/// let id = random_id("tok_", &mut rand_core::UnwrapErr(getrandom::SysRng));
/// assert!(id.starts_with("tok_") && id.len() == 30 && is_id(&id));
/// ```
#[must_use]
pub fn random_id(prefix: &str, rng: &mut dyn CryptoRng) -> String {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    id_of_bits(prefix, bytes)
}

/// Returns the identifier of these 128 bits, as [`random_id`] writes them.
///
/// ```
/// use halligan::protocol::id::id_of_bits;
///
/// assert_eq!(id_of_bits("tok_", [0; 16]), "tok_aaaaaaaaaaaaaaaaaaaaaaaaaa");
/// ```
#[must_use]
pub fn id_of_bits(prefix: &str, bytes: [u8; 16]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bits = u128::from_be_bytes(bytes);
    let mut id = String::with_capacity(prefix.len() + 26);
    id.push_str(prefix);
    for _ in 0..26 {
        id.push(char::from(ALPHABET[(bits & 31) as usize]));
        bits >>= 5;
    }
    id
}

/// Returns a new identifier in the platform's form: `c`, then 24 random lower-case letters or digits (124 bits).
///
/// ```
/// use halligan::protocol::id::random_plain_id;
///
/// let id = random_plain_id(&mut rand_core::UnwrapErr(getrandom::SysRng));
/// assert!(id.starts_with('c') && id.len() == 25);
/// ```
#[must_use]
pub fn random_plain_id(rng: &mut dyn CryptoRng) -> String {
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut id = String::with_capacity(25);
    id.push('c');
    while id.len() < 25 {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        // 252 is a multiple of 36: larger bytes would make some characters more frequent.
        let even = bytes.into_iter().filter(|byte| *byte < 252);
        id.extend(even.take(25 - id.len()).map(|byte| char::from(ALPHABET[usize::from(byte % 36)])));
    }
    id
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_plain_names_are_identifiers() {
        for good in ["tok_a", "A-1", &"x".repeat(64)] {
            assert_eq!(TokenId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "..", "é", "a\n", &"x".repeat(65)] {
            assert!(TokenId::new(bad).is_err(), "{bad:?}");
            assert!(serde_json::from_value::<TokenId>(bad.into()).is_err(), "{bad:?}");
        }
    }
}
