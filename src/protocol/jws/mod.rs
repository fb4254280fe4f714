//! Signs and verifies compact JWS (RFC 7515) with Ed25519 (RFC 8037). Each kind of object has its own `typ` (RFC 8725
//! section 3.11).
//!
//! [`Unverified`] reveals the header's `typ` and `kid`, and of the payload only what is claimed; [`Verified`] exists only for
//! a payload whose signature was valid. The caller of [`Unverified::verify`] names the expected kind, so a token never
//! passes for a head.

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::json::object;
use super::key::{KeyId, PublicKey, SigningKey};

/// base64url without padding (RFC 4648 section 5). Its decoder rejects trailing bits that are not zero, so that each
/// value has one spelling.
pub(crate) const BASE64URL: GeneralPurpose = URL_SAFE_NO_PAD;

/// Maximum length of a decoded JOSE header, in bytes.
const MAX_HEADER: usize = 512;

/// Kind of a signed object. The `typ` header carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Typ {
    /// Direct-access token, which the data plane verifies alone.
    DirectAccess,
    /// Standard token, which needs the control plane to vouch for it.
    Standard,
    /// A user's token for the control plane's API.
    User,
    /// Head of a replica ([`super::head`]).
    ReplicaHead,
    /// Keyset ([`super::keyset`]).
    Keyset,
    /// A node's proof of its identity to the control plane or to a peer (RFC 7523).
    NodeAuth,
    /// Revocation that an operator made on a host ([`super::revocation`]).
    LocalRevocation,
    /// Checkpoint of a node's audit log ([`super::event::Checkpoint`]).
    AuditCheckpoint,
    /// Identity of a caller that a node asserts to the Airflow behind it.
    UpstreamIdentity,
    /// A node's proof of its answer to a peer.
    PeerAnswer,
    /// A node's statement of the key to which its environments are encrypted.
    EncryptionKey,
    /// Environment variables of a deployment, encrypted to one node.
    Environment,
    /// The control plane's choice of a deployment's code.
    Deploy,
    /// Code of a deployment that a host took, signed by its node.
    HostDeploy,
}

impl Typ {
    /// Lists every kind.
    pub const ALL: [Self; 14] = [
        Self::DirectAccess,
        Self::Standard,
        Self::User,
        Self::ReplicaHead,
        Self::Keyset,
        Self::NodeAuth,
        Self::LocalRevocation,
        Self::AuditCheckpoint,
        Self::UpstreamIdentity,
        Self::PeerAnswer,
        Self::EncryptionKey,
        Self::Environment,
        Self::Deploy,
        Self::HostDeploy,
    ];

    /// Returns the value of the `typ` header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DirectAccess => "direct-access+jwt",
            Self::Standard => "standard+jwt",
            Self::User => "user+jwt",
            Self::ReplicaHead => "replica-head+jwt",
            Self::Keyset => "keyset+jwt",
            Self::NodeAuth => "node-auth+jwt",
            Self::LocalRevocation => "local-revocation+jwt",
            Self::AuditCheckpoint => "audit-checkpoint+jwt",
            Self::UpstreamIdentity => "upstream-identity+jwt",
            Self::PeerAnswer => "peer-answer+jwt",
            Self::EncryptionKey => "node-encryption-key+jwt",
            Self::Environment => "deployment-environment+jwt",
            Self::Deploy => "deployment-code+jwt",
            Self::HostDeploy => "host-code+jwt",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|typ| typ.as_str() == text)
    }
}

/// Reasons to reject a JWS.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JwsError {
    /// The text exceeds this maximum length, in bytes.
    #[error("longer than {0} bytes")]
    TooLarge(usize),
    /// The text is no compact JWS.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// The header's `typ` is not the expected one, which this is.
    #[error("typ is not {}", .0.as_str())]
    WrongType(Typ),
    /// The header's `alg` is neither `EdDSA` nor `Ed25519`.
    #[error("alg is not EdDSA")]
    WrongAlgorithm,
    /// The `kid` names no key that may sign this kind of object.
    #[error("signed with an unknown key")]
    KeyUnknown,
    /// The signature is invalid under the key that `kid` names.
    #[error("the signature does not hold")]
    SignatureInvalid,
    /// The signature is valid, and the claims are not those of this kind of object.
    #[error("unexpected claims: {0}")]
    Claims(String),
}

/// Protected header. Unknown members are rejected: `crit`, `b64` or `jku` could change the meaning of the object.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(borrow)]
    alg: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    typ: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    kid: std::borrow::Cow<'a, str>,
}

/// Returns the encoded protected header with which `key` signs objects of kind `typ`.
pub(super) fn protected_header(typ: Typ, key: &SigningKey) -> String {
    // `kid` is base64url, so nothing in it needs escaping.
    BASE64URL.encode(format!(r#"{{"alg":"EdDSA","typ":"{}","kid":"{}"}}"#, typ.as_str(), key.public().kid()))
}

/// Decodes a protected header and returns its `typ` and `kid`. Both are unverified.
pub(super) fn read_header(encoded: &[u8]) -> Result<(Typ, String), JwsError> {
    if encoded.len() > MAX_HEADER.div_ceil(3) * 4 {
        return Err(JwsError::Malformed("header too long"));
    }
    let mut buffer = [0; MAX_HEADER + 2];
    let length = BASE64URL
        .decode_slice(encoded, &mut buffer)
        .map_err(|_| JwsError::Malformed("header is not base64url"))?;
    // 684 characters decode to up to 513 bytes, so the bound on the characters lets one byte too many through.
    if length > MAX_HEADER {
        return Err(JwsError::Malformed("header too long"));
    }
    let header: Header<'_> =
        object(&buffer[..length]).map_err(|_| JwsError::Malformed("header is not alg, typ and kid"))?;
    if header.alg != "EdDSA" && header.alg != "Ed25519" {
        return Err(JwsError::WrongAlgorithm);
    }
    let typ = Typ::parse(&header.typ).ok_or(JwsError::Malformed("unknown typ"))?;
    Ok((typ, header.kid.into_owned()))
}

/// Decodes a signature of 64 bytes.
pub(super) fn read_signature(encoded: &[u8]) -> Result<[u8; 64], JwsError> {
    let mut buffer = [0; 66];
    match BASE64URL.decode_slice(encoded, &mut buffer) {
        Ok(64) => {
            let mut signature = [0; 64];
            signature.copy_from_slice(&buffer[..64]);
            Ok(signature)
        }
        _ => Err(JwsError::Malformed("signature is not 64 bytes of base64url")),
    }
}

/// Signs `payload` as an object of kind `typ` and returns the compact JWS.
///
/// ```
/// use halligan::protocol::jws::{Typ, Unverified, sign};
/// use halligan::protocol::key::SigningKey;
///
/// let key = SigningKey::from_seed(&[1; 32]);
/// let text = sign(Typ::NodeAuth, b"{}", &key);
/// let parse = || Unverified::parse(text.as_bytes(), 1024).unwrap();
/// assert_eq!(parse().verify(Typ::NodeAuth, key.public()).unwrap().payload(), b"{}");
/// // An object of one kind never passes for another.
/// assert!(parse().verify(Typ::PeerAnswer, key.public()).is_err());
/// ```
#[must_use]
pub fn sign(typ: Typ, payload: &[u8], key: &SigningKey) -> String {
    let mut text = protected_header(typ, key);
    text.push('.');
    BASE64URL.encode_string(payload, &mut text);
    let signature = key.sign(text.as_bytes());
    text.push('.');
    BASE64URL.encode_string(signature, &mut text);
    text
}

/// Compact JWS before its verification. It reveals `typ` and `kid` of the header, and its payload only as
/// [claimed](Self::claimed).
pub struct Unverified<'a> {
    typ: Typ,
    kid: String,
    signing_input: &'a [u8],
    payload: &'a [u8],
    signature: [u8; 64],
}

impl<'a> Unverified<'a> {
    /// Splits and decodes a compact JWS. A text of more than `max` bytes is rejected before anything is decoded.
    ///
    /// ```
    /// use halligan::protocol::jws::{JwsError, Typ, Unverified, sign};
    /// # use halligan::protocol::key::SigningKey;
    ///
    /// # let key = SigningKey::from_seed(&[1; 32]);
    /// let text = sign(Typ::NodeAuth, br#"{"iss":"nod_eu1"}"#, &key);
    /// let unverified = Unverified::parse(text.as_bytes(), 2048)?;
    /// assert_eq!((unverified.typ(), unverified.kid()), (Typ::NodeAuth, key.public().kid().as_str()));
    ///
    /// let error = |text: &str| Unverified::parse(text.as_bytes(), 100).err();
    /// assert_eq!(error(&text), Some(JwsError::TooLarge(100)));
    /// assert_eq!(error("header.payload"), Some(JwsError::Malformed("not three parts")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(bytes: &'a [u8], max: usize) -> Result<Self, JwsError> {
        if bytes.len() > max {
            return Err(JwsError::TooLarge(max));
        }
        let mut parts = bytes.split(|&b| b == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwsError::Malformed("not three parts"));
        };
        let (typ, kid) = read_header(header)?;
        let signing_input = &bytes[..header.len() + 1 + payload.len()];
        Ok(Self { typ, kid, signing_input, payload, signature: read_signature(signature)? })
    }

    /// Returns the kind that the header claims.
    #[must_use]
    pub fn typ(&self) -> Typ {
        self.typ
    }

    /// Returns the key that the header claims. Use it only to find the key for [`Self::verify`].
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Parses the payload without proving who signed it. Nothing may be granted on its word. Returns
    /// [`JwsError::Malformed`] or [`JwsError::Claims`] if it is no base64url, or no JSON object of type `T`.
    ///
    /// ```
    /// use halligan::protocol::jws::{Typ, Unverified, sign};
    /// # use halligan::protocol::key::SigningKey;
    ///
    /// # let [node_key, stranger] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]));
    /// #[derive(serde::Deserialize)]
    /// struct Issuer {
    ///     iss: String,
    /// }
    ///
    /// let forged = sign(Typ::NodeAuth, br#"{"iss":"nod_eu1"}"#, &stranger);
    /// let unverified = Unverified::parse(forged.as_bytes(), 2048)?;
    /// // The claim tells which key to look up. It proves nothing.
    /// assert_eq!(unverified.claimed::<Issuer>()?.iss, "nod_eu1");
    /// assert!(unverified.verify(Typ::NodeAuth, node_key.public()).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claimed<T: DeserializeOwned>(&self) -> Result<T, JwsError> {
        read_claims(&self.decoded()?)
    }

    fn decoded(&self) -> Result<Vec<u8>, JwsError> {
        BASE64URL.decode(self.payload).map_err(|_| JwsError::Malformed("payload is not base64url"))
    }

    /// Verifies that `key` signed this as an object of kind `typ`.
    ///
    /// ```
    /// use halligan::protocol::jws::{JwsError, Typ, Unverified, sign};
    /// # use halligan::protocol::key::SigningKey;
    ///
    /// # let key = SigningKey::from_seed(&[1; 32]);
    /// let text = sign(Typ::NodeAuth, br#"{"iss":"nod_eu1"}"#, &key);
    /// let verified = Unverified::parse(text.as_bytes(), 2048)?.verify(Typ::NodeAuth, key.public())?;
    /// assert_eq!(verified.payload(), br#"{"iss":"nod_eu1"}"#);
    ///
    /// // The signature of one text is not valid for another.
    /// let other = sign(Typ::NodeAuth, br#"{"iss":"nod_eu2"}"#, &key);
    /// let signature = text.rsplit('.').next().unwrap();
    /// let mixed = format!("{}.{signature}", other.rsplit_once('.').unwrap().0);
    /// let refused = Unverified::parse(mixed.as_bytes(), 2048)?.verify(Typ::NodeAuth, key.public());
    /// assert_eq!(refused.err(), Some(JwsError::SignatureInvalid));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(self, typ: Typ, key: &PublicKey) -> Result<Verified, JwsError> {
        self.verify_by(typ, |kid| (key.kid().as_str() == kid).then_some(key))
    }

    /// Verifies that the key which `find` knows under the header's `kid` signed this as an object of kind `typ`. The kind is
    /// compared before a key is looked up.
    ///
    /// ```
    /// use halligan::protocol::jws::{JwsError, Typ, Unverified, sign};
    /// # use halligan::protocol::key::SigningKey;
    ///
    /// # let [first, second] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]));
    /// let keys = [first.public(), second.public()];
    /// let find = |kid: &str| keys.into_iter().find(|key| key.kid().as_str() == kid);
    ///
    /// let text = sign(Typ::Standard, b"{}", &second);
    /// let parse = || Unverified::parse(text.as_bytes(), 4096);
    /// assert!(parse()?.verify_by(Typ::Standard, find).is_ok());
    /// assert_eq!(parse()?.verify_by(Typ::User, find).err(), Some(JwsError::WrongType(Typ::User)));
    /// assert_eq!(parse()?.verify_by(Typ::Standard, |_| None).err(), Some(JwsError::KeyUnknown));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify_by<'k>(
        self,
        typ: Typ,
        find: impl FnOnce(&str) -> Option<&'k PublicKey>,
    ) -> Result<Verified, JwsError> {
        if self.typ != typ {
            return Err(JwsError::WrongType(typ));
        }
        let key = find(&self.kid).ok_or(JwsError::KeyUnknown)?;
        if !key.accepts(self.signing_input, &self.signature) {
            return Err(JwsError::SignatureInvalid);
        }
        Ok(Verified { typ, kid: key.kid().clone(), payload: self.decoded()? })
    }
}

/// Payload whose signature was valid.
#[derive(Clone, Debug)]
pub struct Verified {
    typ: Typ,
    kid: KeyId,
    payload: Vec<u8>,
}

impl Verified {
    /// Returns the signed bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns the kind as which the payload was signed.
    #[must_use]
    pub fn typ(&self) -> Typ {
        self.typ
    }

    /// Returns the thumbprint of the key that signed it.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// Parses the payload as a JSON object of type `T`. Returns [`JwsError::Claims`] if it is none.
    ///
    /// ```
    /// use halligan::protocol::event::Checkpoint;
    /// use halligan::protocol::jws::{JwsError, Typ, Unverified, sign};
    /// # use halligan::protocol::key::SigningKey;
    ///
    /// # let key = SigningKey::from_seed(&[1; 32]);
    /// let text = sign(Typ::AuditCheckpoint, br#"{"iss":"nod_eu1"}"#, &key);
    /// let verified = Unverified::parse(text.as_bytes(), 4096)?.verify(Typ::AuditCheckpoint, key.public())?;
    /// // A valid signature does not make the claims complete.
    /// assert!(matches!(verified.claims::<Checkpoint>(), Err(JwsError::Claims(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, JwsError> {
        read_claims(&self.payload)
    }
}

fn read_claims<T: DeserializeOwned>(payload: &[u8]) -> Result<T, JwsError> {
    object(payload).map_err(|error| JwsError::Claims(error.to_string()))
}

#[cfg(test)]
mod tests;
