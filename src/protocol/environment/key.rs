//! Defines the X25519 keys to which environments are encrypted (RFC 7748), and the statement in which a node names its own.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use crate::protocol::id::NodeId;
use crate::protocol::jws::{self, BASE64URL, JwsError, Typ, Unverified};
use crate::protocol::key::{Jwk, PublicKey, SigningKey};
use crate::protocol::time::Time;

type PublicHalf = <X25519HkdfSha256 as Kem>::PublicKey;
type PrivateHalf = <X25519HkdfSha256 as Kem>::PrivateKey;
type Encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Maximum length of a statement's JWS, in bytes.
pub const MAX_KEY_STATEMENT: usize = 1024;
/// Length of a key, and of an encapsulated key, in bytes.
const LENGTH: usize = 32;
/// Length of what encryption adds to a text, in bytes.
pub(super) const TAG: usize = 16;
/// Use of the key, the `info` of HPKE.
const INFO: &[u8] = b"halligan deployment environment 1";
/// DER of a private key up to its 32 bytes (RFC 8410 section 7).
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20];
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Reasons to reject a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncryptionKeyError {
    /// The text is not the PEM of a private key.
    #[error("not an X25519 private key in PEM")]
    Pem,
    /// The JWK is not `OKP` with `X25519`, or its `x` is not 32 bytes of base64url.
    #[error("not an X25519 public key in JWK form (kty OKP, crv X25519)")]
    Jwk,
}

/// Public key to which a node's environments are encrypted.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey(PublicHalf);

impl EncryptionKey {
    /// Validates a JWK (RFC 8037).
    ///
    /// ```
    /// use halligan::protocol::environment::key::{DecryptionKey, EncryptionKey, EncryptionKeyError};
    /// use halligan::protocol::key::SigningKey;
    ///
    /// let key = DecryptionKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng));
    /// assert_eq!(EncryptionKey::from_jwk(&key.public().jwk()), Ok(key.public().clone()));
    /// // A key that signs is of another curve: nothing can be encrypted to it.
    /// let signing = SigningKey::from_seed(&[1; 32]).public().jwk();
    /// assert_eq!(EncryptionKey::from_jwk(&signing), Err(EncryptionKeyError::Jwk));
    /// ```
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, EncryptionKeyError> {
        if jwk.kty != "OKP" || jwk.crv != "X25519" {
            return Err(EncryptionKeyError::Jwk);
        }
        let bytes = BASE64URL.decode(&jwk.x).map_err(|_| EncryptionKeyError::Jwk)?;
        let key = Self(PublicHalf::from_bytes(&bytes).map_err(|_| EncryptionKeyError::Jwk)?);
        // A point of small order yields a secret that everybody knows. HPKE rejects it when it encrypts, with any randomness.
        let probe = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>;
        probe(&OpModeS::Base, &key.0, INFO, &[], &[], &mut Fixed).map_err(|_| EncryptionKeyError::Jwk)?;
        Ok(key)
    }

    /// Returns the key as a JWK.
    #[must_use]
    pub fn jwk(&self) -> Jwk {
        Jwk { kty: "OKP".into(), crv: "X25519".into(), x: BASE64URL.encode(self.0.to_bytes()), kid: None }
    }

    /// Encrypts `text` to the key and binds it to `aad`. Returns the encapsulated key and the ciphertext.
    pub(super) fn seal(
        &self,
        text: &[u8],
        aad: &[u8],
        mut rng: &mut dyn CryptoRng,
    ) -> Option<([u8; LENGTH], Vec<u8>)> {
        let seal = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>;
        let (encapsulated, sealed) = seal(&OpModeS::Base, &self.0, INFO, text, aad, &mut rng).ok()?;
        Some((encapsulated.to_bytes().into(), sealed))
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "EncryptionKey({})", BASE64URL.encode(self.0.to_bytes()))
    }
}

/// Randomness of the probe of a key, which protects nothing.
struct Fixed;

impl rand_core::TryRng for Fixed {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(7)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(7)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.fill(7);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Fixed {}

/// Private key of a node, which never leaves its host.
pub struct DecryptionKey {
    private: PrivateHalf,
    public: EncryptionKey,
}

impl DecryptionKey {
    /// Creates a key.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; LENGTH]);
        rng.fill_bytes(&mut seed[..]);
        let (private, public) = X25519HkdfSha256::derive_keypair(&seed[..]);
        Self { private, public: EncryptionKey(public) }
    }

    /// Parses a PKCS#8 PEM, as `openssl genpkey -algorithm x25519` writes it (RFC 8410).
    ///
    /// ```
    /// use halligan::protocol::environment::key::{DecryptionKey, EncryptionKeyError};
    /// use halligan::protocol::key::SigningKey;
    ///
    /// let key = DecryptionKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng));
    /// assert_eq!(DecryptionKey::from_pem(&key.to_pem())?.public(), key.public());
    /// // An Ed25519 key has the same PEM label and another algorithm inside.
    /// let signing = SigningKey::from_seed(&[1; 32]).to_pkcs8_pem();
    /// assert_eq!(DecryptionKey::from_pem(&signing).err(), Some(EncryptionKeyError::Pem));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_pem(pem: &str) -> Result<Self, EncryptionKeyError> {
        let body = || pem.trim().strip_prefix(BEGIN)?.strip_suffix(END);
        let text: Zeroizing<String> =
            Zeroizing::new(body().ok_or(EncryptionKeyError::Pem)?.split_whitespace().collect());
        let bytes = Zeroizing::new(STANDARD.decode(text.as_bytes()).map_err(|_| EncryptionKeyError::Pem)?);
        let key =
            bytes.strip_prefix(&PKCS8).filter(|key| key.len() == LENGTH).ok_or(EncryptionKeyError::Pem)?;
        let private = PrivateHalf::from_bytes(key).map_err(|_| EncryptionKeyError::Pem)?;
        let public = EncryptionKey(X25519HkdfSha256::sk_to_pk(&private));
        Ok(Self { private, public })
    }

    /// Encodes the key as a PKCS#8 PEM.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut key = self.private.to_bytes();
        let mut bytes = Zeroizing::new(PKCS8.to_vec());
        bytes.extend_from_slice(&key);
        key.as_mut_slice().zeroize();
        // 48 bytes are 64 characters, one line.
        let text = Zeroizing::new(STANDARD.encode(&*bytes));
        Zeroizing::new(format!("{BEGIN}\n{}\n{END}\n", *text))
    }

    /// Returns the public half.
    #[must_use]
    pub fn public(&self) -> &EncryptionKey {
        &self.public
    }

    /// Decrypts what was encrypted to the public half. Returns `None` unless it was, and was bound to `aad`.
    pub(super) fn open(&self, encapsulated: &[u8], sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let encapsulated = Encapsulated::from_bytes(encapsulated).ok()?;
        let open = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>;
        open(&OpModeR::Base, &self.private, &encapsulated, INFO, sealed, aad).ok().map(Zeroizing::new)
    }
}

impl fmt::Debug for DecryptionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DecryptionKey of {:?}", self.public)
    }
}

/// Claims of a node's statement of its key (RFC 7519).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyStatement {
    iss: NodeId,
    iat: Time,
    key: Jwk,
}

/// Signs the statement that environments of `node` are to be encrypted to `key`.
///
/// ```
/// use halligan::protocol::environment::key::{DecryptionKey, sign_encryption_key, verify_encryption_key};
/// use halligan::protocol::key::SigningKey;
/// use halligan::protocol::time::Time;
///
/// let key = DecryptionKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng));
/// let (node, signer) = ("nod_a".parse().unwrap(), SigningKey::from_seed(&[1; 32]));
/// let text = sign_encryption_key(&node, key.public(), Time::from_unix(1_800_000_000), &signer);
/// assert!(verify_encryption_key(&text, &node, signer.public()).unwrap() == *key.public());
/// ```
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn sign_encryption_key(node: &NodeId, key: &EncryptionKey, iat: Time, signer: &SigningKey) -> String {
    let statement = KeyStatement { iss: node.clone(), iat, key: key.jwk() };
    jws::sign(Typ::EncryptionKey, &serde_json::to_vec(&statement).expect("a statement serializes"), signer)
}

/// Verifies that `node`, whose key is `signer`, signed `text`. Returns the key that it names.
///
/// ```
/// use halligan::protocol::environment::key::{DecryptionKey, sign_encryption_key, verify_encryption_key};
/// use halligan::protocol::key::SigningKey;
/// use halligan::protocol::time::Time;
///
/// let key = DecryptionKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng));
/// let (node, signer) = ("nod_a".parse().unwrap(), SigningKey::from_seed(&[1; 32]));
/// let text = sign_encryption_key(&node, key.public(), Time::from_unix(1_800_000_000), &signer);
/// assert!(verify_encryption_key(&text, &node, signer.public()).is_ok());
/// let other = "nod_b".parse().unwrap();
/// assert!(verify_encryption_key(&text, &other, signer.public()).is_err());
/// ```
pub fn verify_encryption_key(
    text: &str,
    node: &NodeId,
    signer: &PublicKey,
) -> Result<EncryptionKey, JwsError> {
    let verified =
        Unverified::parse(text.as_bytes(), MAX_KEY_STATEMENT)?.verify(Typ::EncryptionKey, signer)?;
    let statement: KeyStatement = verified.claims()?;
    if statement.iss != *node {
        return Err(JwsError::Claims(format!("iss is {}", statement.iss)));
    }
    EncryptionKey::from_jwk(&statement.key).map_err(|error| JwsError::Claims(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    use super::*;

    #[test]
    fn a_key_goes_through_its_file_and_opens_what_was_sealed_to_it_alone() {
        let mut rng = UnwrapErr(SysRng);
        let key = DecryptionKey::generate(&mut rng);
        let again = DecryptionKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(&EncryptionKey::from_jwk(&key.public().jwk()).unwrap(), key.public());
        let (encapsulated, sealed) = key.public().seal(b"text", b"aad", &mut rng).unwrap();
        assert_eq!(sealed.len(), 4 + TAG);
        assert_eq!(again.open(&encapsulated, &sealed, b"aad").unwrap().as_slice(), b"text");
        assert!(again.open(&encapsulated, &sealed, b"other").is_none());
        assert!(DecryptionKey::generate(&mut rng).open(&encapsulated, &sealed, b"aad").is_none());
        assert!(again.open(&encapsulated[1..], &sealed, b"aad").is_none());
        let pem = key.to_pem();
        assert!(!format!("{key:?}").contains(&pem.lines().nth(1).unwrap()[22..]));
        let one_line = pem.replace('\n', "");
        assert!(DecryptionKey::from_pem(&one_line).is_ok());
        for bad in
            ["", BEGIN, &pem[1..], &pem.replace("MC4C", "MC4D"), &pem.replace("-----END", "AAAA-----END")]
        {
            assert_eq!(DecryptionKey::from_pem(bad).unwrap_err(), EncryptionKeyError::Pem, "{bad}");
        }
    }

    /// RFC 9180 appendix A.2.1: its key pair of the recipient.
    #[test]
    fn a_key_of_openssl_and_of_the_rfc_is_read() {
        let private = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb";
        let public = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a";
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let pem = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode([&PKCS8[..], &hex(private)].concat()));
        let key = DecryptionKey::from_pem(&pem).unwrap();
        assert_eq!(key.public().jwk().x, BASE64URL.encode(hex(public)));
    }

    #[test]
    fn a_key_of_small_order_or_of_another_curve_is_none() {
        let jwk = |crv: &str, x: &[u8]| Jwk {
            kty: "OKP".into(),
            crv: crv.into(),
            x: BASE64URL.encode(x),
            kid: None,
        };
        let good = DecryptionKey::generate(&mut UnwrapErr(SysRng)).public().jwk();
        assert!(EncryptionKey::from_jwk(&good).is_ok());
        let mut one = [0; 32];
        one[0] = 1;
        for bad in
            [jwk("X25519", &[0; 32]), jwk("X25519", &one), jwk("X25519", &[9; 31]), jwk("Ed25519", &[9; 32])]
        {
            assert_eq!(EncryptionKey::from_jwk(&bad).unwrap_err(), EncryptionKeyError::Jwk, "{bad:?}");
        }
    }

    #[test]
    fn a_node_states_its_own_key_and_no_other_nodes() {
        let signer = SigningKey::from_seed(&[1; 32]);
        let key = DecryptionKey::generate(&mut UnwrapErr(SysRng));
        let (node, now): (NodeId, _) = ("nod_a".parse().unwrap(), Time::from_unix(1_800_000_000));
        let text = sign_encryption_key(&node, key.public(), now, &signer);
        assert_eq!(&verify_encryption_key(&text, &node, signer.public()).unwrap(), key.public());
        let other = "nod_b".parse().unwrap();
        assert!(matches!(verify_encryption_key(&text, &other, signer.public()), Err(JwsError::Claims(_))));
        let stranger = SigningKey::from_seed(&[2; 32]);
        assert_eq!(verify_encryption_key(&text, &node, stranger.public()), Err(JwsError::KeyUnknown));
        let proof = jws::sign(Typ::NodeAuth, b"{}", &signer);
        let refused = verify_encryption_key(&proof, &node, signer.public());
        assert_eq!(refused, Err(JwsError::WrongType(Typ::EncryptionKey)));
    }
}
