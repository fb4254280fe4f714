//! Defines Ed25519 keys (RFC 8032). People and `openssl` exchange them as PEM (RFC 8410), programs as JWK (RFC 8037);
//! each has the RFC 7638 thumbprint of its public key as a name.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

/// Reasons to reject a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The text is not a PEM block of the expected kind, which this names.
    #[error("not an Ed25519 key in PEM ({0})")]
    Pem(&'static str),
    /// The JWK is not `OKP` with `Ed25519`, or its `x` is not 32 bytes of base64url.
    #[error("not an Ed25519 public key in JWK form (kty OKP, crv Ed25519)")]
    Jwk,
    /// The bytes are not the canonical encoding of a point on the curve (RFC 8032 section 5.1.3).
    #[error("the public key is not a canonical point on the curve")]
    NotCanonical,
    /// The point has small order. Such a key accepts signatures that nobody made.
    #[error("the public key has small order")]
    SmallOrder,
    /// The JWK's `kid` is not the thumbprint of its key.
    #[error("the key's kid is not its RFC 7638 thumbprint")]
    WrongKid,
}

/// RFC 7638 thumbprint of a public key: SHA-256 in base64url, 43 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Returns the thumbprint as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Public key as a JSON Web Key (RFC 8037 section 2). [`PublicKey::from_jwk`] validates it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct Jwk {
    /// Key type: `OKP`.
    pub kty: String,
    /// Curve: `Ed25519`.
    pub crv: String,
    /// The key's 32 bytes in base64url.
    pub x: String,
    /// RFC 7638 thumbprint. It is optional, and must be right where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
}

/// Valid public key: a canonical point that has not small order, with its thumbprint.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: ed25519_dalek::VerifyingKey,
    kid: KeyId,
}

impl PublicKey {
    /// Validates the 32 bytes of a public key (RFC 8032). Rejects other encodings of a point, and points of small order.
    ///
    /// ```
    /// use halligan::protocol::key::{KeyError, PublicKey, SigningKey};
    ///
    /// let bytes = SigningKey::from_seed(&[1; 32]).public().to_bytes();
    /// assert!(PublicKey::from_bytes(&bytes).is_ok());
    /// // The neutral point has order 1.
    /// let mut neutral = [0; 32];
    /// neutral[0] = 1;
    /// assert_eq!(PublicKey::from_bytes(&neutral), Err(KeyError::SmallOrder));
    /// ```
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotCanonical)?;
        if key.is_weak() {
            return Err(KeyError::SmallOrder);
        }
        // Decompression reduces y modulo p, so it accepts several encodings of one point. Only the one that compression
        // returns is canonical.
        if key.to_edwards().compress().to_bytes() != *bytes {
            return Err(KeyError::NotCanonical);
        }
        let kid = thumbprint(&URL_SAFE_NO_PAD.encode(bytes));
        Ok(Self { key, kid })
    }

    /// Parses a SubjectPublicKeyInfo PEM, as `openssl pkey -pubout` writes it (RFC 8410).
    ///
    /// ```
    /// use halligan::protocol::key::{KeyError, PublicKey};
    ///
    /// let pem = "-----BEGIN PUBLIC KEY-----\n\
    ///            MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
    ///            -----END PUBLIC KEY-----\n";
    /// assert_eq!(PublicKey::from_pem(pem)?.to_pem(), pem);
    /// let openssh = PublicKey::from_pem("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA operator@host");
    /// assert_eq!(openssh, Err(KeyError::Pem("expected BEGIN PUBLIC KEY")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_public_key_pem(pem)
            .map_err(|_| KeyError::Pem("expected BEGIN PUBLIC KEY"))?;
        Self::from_bytes(key.as_bytes())
    }

    /// Encodes the key as a SubjectPublicKeyInfo PEM.
    #[must_use]
    #[expect(clippy::expect_used, reason = "encoding 32 bytes in a fixed frame has no failing input")]
    pub fn to_pem(&self) -> String {
        self.key.to_public_key_pem(LineEnding::LF).expect("an Ed25519 key always encodes")
    }

    /// Validates a JWK. Its `kid`, if it has one, must be the thumbprint of the key.
    ///
    /// ```
    /// use halligan::protocol::key::{Jwk, KeyError, PublicKey};
    ///
    /// // The key and its thumbprint are those of RFC 8037 appendix A.
    /// let jwk: Jwk = serde_json::from_str(
    ///     r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    /// )?;
    /// let key = PublicKey::from_jwk(&jwk)?;
    /// assert_eq!(key.kid().as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    /// let renamed = Jwk { kid: Some("production".into()), ..jwk };
    /// assert_eq!(PublicKey::from_jwk(&renamed), Err(KeyError::WrongKid));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        if jwk.kty != "OKP" || jwk.crv != "Ed25519" {
            return Err(KeyError::Jwk);
        }
        let bytes = URL_SAFE_NO_PAD.decode(&jwk.x).map_err(|_| KeyError::Jwk)?;
        let key = Self::from_bytes(bytes.as_slice().try_into().map_err(|_| KeyError::Jwk)?)?;
        match &jwk.kid {
            Some(kid) if *kid != key.kid.0 => Err(KeyError::WrongKid),
            _ => Ok(key),
        }
    }

    /// Returns the key as a JWK with its thumbprint as `kid`.
    #[must_use]
    pub fn jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: URL_SAFE_NO_PAD.encode(self.to_bytes()),
            kid: Some(self.kid.0.clone()),
        }
    }

    /// Returns the thumbprint of the key.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// Returns the key's 32 bytes (RFC 8032).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Returns true if `signature` is valid over `message`, by the strict rules: R and S are canonical and no point has
    /// small order.
    ///
    /// ```
    /// use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let (token, key) = (world::token(), world::key("token"));
    /// // The last part of a token signs the parts before it (RFC 7515 section 5.1).
    /// let (message, signature) = token.rsplit_once('.').unwrap();
    /// let signature: [u8; 64] = BASE64_URL_SAFE_NO_PAD.decode(signature)?.as_slice().try_into()?;
    /// assert!(key.public().accepts(message.as_bytes(), &signature));
    /// assert!(!key.public().accepts(b"another message", &signature));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn accepts(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.kid)
    }
}

/// Private key. Its memory is zeroed on drop, and `Debug` shows only the public key's thumbprint.
#[derive(Clone)]
pub struct SigningKey {
    key: ed25519_dalek::SigningKey,
    public: PublicKey,
}

impl SigningKey {
    /// Generates a key with random bytes of `rng`.
    ///
    /// ```
    /// use halligan::protocol::key::SigningKey;
    ///
    /// let key = SigningKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng));
    /// // Logs and errors show the public key's thumbprint only.
    /// assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.public().kid()));
    /// ```
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self::from_seed(&seed)
    }

    /// Derives the key from a 32-byte seed (RFC 8032 section 5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self::own(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Parses a PKCS#8 PEM, as `openssl genpkey -algorithm ed25519` writes it (RFC 8410).
    ///
    /// ```
    /// use halligan::protocol::key::{KeyError, SigningKey};
    ///
    /// let key = SigningKey::from_seed(&[1; 32]);
    /// let read = SigningKey::from_pkcs8_pem(&key.to_pkcs8_pem())?;
    /// assert_eq!(read.public(), key.public());
    /// // The PEM of a public key holds no private key.
    /// let public = SigningKey::from_pkcs8_pem(&key.public().to_pem());
    /// assert_eq!(public.err(), Some(KeyError::Pem("expected BEGIN PRIVATE KEY")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(pem)
            .map_err(|_| KeyError::Pem("expected BEGIN PRIVATE KEY"))?;
        Ok(Self::own(key))
    }

    /// Encodes the private key as a PKCS#8 PEM. The text is a secret: write it only to a file of mode 0600.
    #[must_use]
    #[expect(clippy::expect_used, reason = "encoding 32 bytes in a fixed frame has no failing input")]
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        // PKCS#8 version 1, without the public key: openssl 1.1 and 3 both read this form.
        let bytes = ed25519_dalek::pkcs8::KeypairBytes { secret_key: self.key.to_bytes(), public_key: None };
        bytes.to_pkcs8_pem(LineEnding::LF).expect("an Ed25519 key always encodes")
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message` with pure Ed25519 (RFC 8032).
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    fn own(key: ed25519_dalek::SigningKey) -> Self {
        let verifying = key.verifying_key();
        let kid = thumbprint(&URL_SAFE_NO_PAD.encode(verifying.as_bytes()));
        Self { key, public: PublicKey { key: verifying, kid } }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.kid)
    }
}

/// Computes the RFC 7638 thumbprint: SHA-256 over the required members in lexical order, without white space.
fn thumbprint(x: &str) -> KeyId {
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    KeyId(URL_SAFE_NO_PAD.encode(Sha256::digest(members)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rfc8037_key() -> PublicKey {
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        PublicKey::from_jwk(&serde_json::from_str(jwk).unwrap()).unwrap()
    }

    #[test]
    fn thumbprint_is_that_of_rfc8037_appendix_a3() {
        assert_eq!(rfc8037_key().kid().as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn survives_pem_and_jwk() {
        let key = SigningKey::from_seed(&[7; 32]);
        let read = SigningKey::from_pkcs8_pem(&key.to_pkcs8_pem()).unwrap();
        assert_eq!(read.public(), key.public());
        assert_eq!(PublicKey::from_pem(&key.public().to_pem()).unwrap(), *key.public());
        assert_eq!(PublicKey::from_jwk(&key.public().jwk()).unwrap(), *key.public());
    }

    #[test]
    fn refuses_small_order_and_other_encodings() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(&identity), Err(KeyError::SmallOrder));
        assert_eq!(PublicKey::from_bytes(&[0; 32]), Err(KeyError::SmallOrder));
        // y = p + 3 stands for the point with y = 3 and is not how that point is written.
        let mut above_p = [0xff; 32];
        above_p[0] = 0xf0;
        above_p[31] = 0x7f;
        assert_eq!(PublicKey::from_bytes(&above_p), Err(KeyError::NotCanonical));
        let wrong_kid = Jwk { kid: Some("other".into()), ..rfc8037_key().jwk() };
        assert_eq!(PublicKey::from_jwk(&wrong_kid), Err(KeyError::WrongKid));
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = SigningKey::from_seed(&[7; 32]);
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.public().kid()));
    }
}
