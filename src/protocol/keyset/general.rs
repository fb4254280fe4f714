//! A keyset's JWS in general JSON serialization, with one signature of each root.

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use super::{KeysetBody, KeysetError, MAX_KEYSET};
use crate::protocol::json::object;
use crate::protocol::jws::{self, BASE64URL, Typ};
use crate::protocol::key::{PublicKey, SigningKey};

/// JWS in general JSON serialization (RFC 7515 section 7.2.1).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct General {
    pub(super) payload: String,
    pub(super) signatures: Vec<GeneralSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GeneralSignature {
    pub(super) protected: String,
    pub(super) signature: String,
}

impl GeneralSignature {
    pub(super) fn signer<'k>(&self, payload: &str, keys: &'k [PublicKey]) -> Option<&'k str> {
        let (typ, kid) = jws::read_header(self.protected.as_bytes()).ok()?;
        let key = keys.iter().find(|key| key.kid().as_str() == kid)?;
        let signature = jws::read_signature(self.signature.as_bytes()).ok()?;
        let input = format!("{}.{payload}", self.protected);
        (typ == Typ::Keyset && key.accepts(input.as_bytes(), &signature)).then_some(key.kid().as_str())
    }
}

/// Signs a payload with a root key.
pub(super) fn signature_of(payload: &str, root: &SigningKey) -> GeneralSignature {
    let protected = jws::protected_header(Typ::Keyset, root);
    let signature = BASE64URL.encode(root.sign(format!("{protected}.{payload}").as_bytes()));
    GeneralSignature { protected, signature }
}

/// Parses a keyset and its payload. Every keyset of a chain is parsed before its signatures are verified, so that an
/// unreadable keyset is reported as malformed, whoever signed it. The keys in it are validated later.
pub(super) fn parse(text: &str) -> Result<(General, KeysetBody), KeysetError> {
    if text.len() > MAX_KEYSET {
        return Err(KeysetError::TooLarge);
    }
    let malformed = |error: &dyn std::fmt::Display| KeysetError::Malformed(error.to_string());
    let general: General = object(text.as_bytes()).map_err(|error| malformed(&error))?;
    let payload = BASE64URL.decode(&general.payload).map_err(|error| malformed(&error))?;
    let body = object(&payload).map_err(|error| malformed(&error))?;
    Ok((general, body))
}
