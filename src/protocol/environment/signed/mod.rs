//! Defines the environment of a deployment as a control plane hands it to one node: signed, and encrypted to the node's key
//! (RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305).
//!
//! The text that is encrypted is 32 bytes that blind its digest, then `NAME=VALUE` and a NUL for each variable, in the order
//! of the names' bytes.

use base64::Engine as _;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::key::{DecryptionKey, EncryptionKey, TAG};
use super::{MAX_TOTAL, MAX_VARIABLES, VariableFault, check_variable_name, check_variable_value};
use crate::protocol::head::base64url;
use crate::protocol::id::{DataPlaneId, DeploymentId, NodeId};
use crate::protocol::jws::{self, BASE64URL, JwsError, Typ};
use crate::protocol::key::SigningKey;
use crate::protocol::keyset::Keyset;
use crate::protocol::time::Time;
use crate::protocol::version::version;

/// Maximum length of the JWS, in bytes. The longest environment that is allowed fits.
pub const MAX_ENVIRONMENT: usize = 512 << 10;
/// Number of random bytes that blind the digest.
const BLINDING: usize = 32;
/// Maximum length of the text that is encrypted, in bytes.
const MAX_TEXT: usize = BLINDING + MAX_TOTAL + 2 * MAX_VARIABLES;

/// Claims (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    /// Issuer: the URL of the control plane.
    iss: String,
    /// Audience: the data plane.
    aud: DataPlaneId,
    /// Subject: the deployment.
    sub: DeploymentId,
    /// Node whose key it is encrypted to.
    node: NodeId,
    /// Version of the deployment's variables. It never decreases.
    #[serde(deserialize_with = "version")]
    version: u64,
    /// Time of the signature.
    iat: Time,
    /// SHA-256 of the text that is encrypted: the same for all nodes.
    #[serde(with = "base64url")]
    digest: [u8; 32],
    /// Encapsulated key of HPKE.
    #[serde(with = "base64url")]
    enc: [u8; 32],
    /// Ciphertext, base64url.
    ciphertext: String,
}

/// Place and version of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentClaims {
    /// URL of the control plane.
    pub issuer: String,
    /// Data plane.
    pub data_plane: DataPlaneId,
    /// Deployment.
    pub deployment: DeploymentId,
    /// Node that can read it.
    pub node: NodeId,
    /// Version of the deployment's variables.
    pub version: u64,
    /// Time of the signature.
    pub iat: Time,
}

impl EnvironmentClaims {
    /// Returns the associated data. No id has a line break.
    fn aad(&self) -> Vec<u8> {
        format!("{}\n{}\n{}\n{}", self.data_plane, self.deployment, self.node, self.version).into_bytes()
    }
}

/// Reasons to reject an environment. None of them quotes a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnvironmentError {
    /// The text is not an environment that a replica key of the keyset signed.
    #[error("the environment is not believed: {0}")]
    Jws(#[from] JwsError),
    /// Its issuer differs from the one that the keyset names.
    #[error("the environment is signed as {0:?}, and the keyset names another issuer")]
    Issuer(String),
    /// It is for another data plane, whose id this is.
    #[error("the environment is for data plane {0}")]
    Audience(DataPlaneId),
    /// It is for another node, whose id this is.
    #[error("the environment is for node {0}")]
    Node(NodeId),
    /// It was not encrypted to this node's key, or was changed.
    #[error("the environment can't be decrypted with this node's key")]
    Sealed,
    /// Its digest is not that of its text.
    #[error("the environment's digest is not that of its variables")]
    Digest,
    /// Its text does not have the form that this module describes.
    #[error("the environment's text is malformed")]
    Text,
    /// It has a variable that none may have.
    #[error("variable {number} of the environment: {fault}")]
    Variable {
        /// Number of the variable, from 1.
        number: usize,
        /// Fault of the variable.
        fault: VariableFault,
    },
}

/// Variable with its value, which is wiped from memory.
pub type Variable = (String, Zeroizing<String>);

/// Encodes variables, which are in the order of their names, behind the bytes that blind the digest.
fn encode(variables: &[Variable], blinding: &[u8; BLINDING]) -> Zeroizing<Vec<u8>> {
    let length: usize = variables.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(BLINDING + length));
    text.extend_from_slice(blinding);
    for (name, value) in variables {
        for part in [name.as_bytes(), b"=", value.as_bytes(), b"\0"] {
            text.extend_from_slice(part);
        }
    }
    text
}

/// Decodes the text that [`encode`] returns, and checks each variable.
fn decode(text: &[u8]) -> Result<Vec<Variable>, EnvironmentError> {
    let entries = text.get(BLINDING..).filter(|_| text.len() <= MAX_TEXT).ok_or(EnvironmentError::Text)?;
    let mut variables: Vec<Variable> = Vec::new();
    if entries.is_empty() {
        return Ok(variables);
    }
    let entries = entries.strip_suffix(b"\0").ok_or(EnvironmentError::Text)?;
    for entry in entries.split(|byte| *byte == 0) {
        let entry = std::str::from_utf8(entry).map_err(|_| EnvironmentError::Text)?;
        let (name, value) = entry.split_once('=').ok_or(EnvironmentError::Text)?;
        let number = variables.len() + 1;
        check_variable_name(name)
            .and_then(|()| check_variable_value(value))
            .map_err(|fault| EnvironmentError::Variable { number, fault })?;
        if number > MAX_VARIABLES || variables.last().is_some_and(|(last, _)| last.as_str() >= name) {
            return Err(EnvironmentError::Text);
        }
        variables.push((name.to_owned(), Zeroizing::new(value.to_owned())));
    }
    Ok(variables)
}

/// Encrypts variables, which are in the order of their names, to a node's key, and signs them. `blinding` is the same for
/// every node, and is known to nobody who does not know the variables. Returns `None` if the key can't be encrypted to.
///
/// ```
/// use halligan::protocol::environment::key::DecryptionKey;
/// use halligan::protocol::environment::signed::{EnvironmentClaims, MAX_ENVIRONMENT, sign_environment};
/// use halligan::protocol::jws::{Typ, Unverified};
/// use halligan::protocol::key::SigningKey;
/// use halligan::protocol::time::Time;
///
/// let claims = EnvironmentClaims {
///     issuer: "https://control.example".into(),
///     data_plane: "dpl_a".parse().unwrap(),
///     deployment: "dep_a".parse().unwrap(),
///     node: "nod_a".parse().unwrap(),
///     version: 1,
///     iat: Time::from_unix(1_800_000_000),
/// };
/// let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
/// let (to, signer) = (DecryptionKey::generate(&mut rng), SigningKey::from_seed(&[1; 32]));
/// let variables = [("PASSWORD".to_owned(), "hunter2".to_owned().into())];
/// let keys = (to.public(), &signer);
/// let text = sign_environment(&claims, &variables, &[7; 32], keys, &mut rng).unwrap();
/// let unverified = Unverified::parse(text.as_bytes(), MAX_ENVIRONMENT).unwrap();
/// assert_eq!(unverified.typ(), Typ::Environment);
/// ```
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn sign_environment(
    of: &EnvironmentClaims,
    variables: &[Variable],
    blinding: &[u8; BLINDING],
    (to, signer): (&EncryptionKey, &SigningKey),
    rng: &mut dyn CryptoRng,
) -> Option<String> {
    let text = encode(variables, blinding);
    let (enc, sealed) = to.seal(&text, &of.aad(), rng)?;
    let claims = Claims {
        iss: of.issuer.clone(),
        aud: of.data_plane.clone(),
        sub: of.deployment.clone(),
        node: of.node.clone(),
        version: of.version,
        iat: of.iat,
        digest: Sha256::digest(&*text).into(),
        enc,
        ciphertext: BASE64URL.encode(sealed),
    };
    Some(jws::sign(Typ::Environment, &serde_json::to_vec(&claims).expect("claims serialize"), signer))
}

/// Environment whose signature was verified, still encrypted, together with the signed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedEnvironment {
    of: EnvironmentClaims,
    digest: [u8; 32],
    enc: [u8; 32],
    sealed: Vec<u8>,
    text: String,
}

impl SignedEnvironment {
    /// Verifies that a replica key of `keys` signed `text` as an environment for this node of this data plane, under the
    /// issuer that the keyset names.
    ///
    /// ```
    /// use halligan::protocol::environment::signed::{EnvironmentError, SignedEnvironment};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let keyset = world::keyset();
    /// # let [root, token_key, replica_key] = ["root", "token", "replica"].map(world::key);
    /// # use halligan::protocol::environment::key::DecryptionKey;
    /// # use halligan::protocol::environment::signed::{EnvironmentClaims, sign_environment};
    /// # let claims = EnvironmentClaims {
    /// #     issuer: "https://control.example".into(),
    /// #     data_plane: "dpl_eu".parse()?,
    /// #     deployment: "dep_sales".parse()?,
    /// #     node: "nod_eu1".parse()?,
    /// #     version: 3,
    /// #     iat: world::NOW,
    /// # };
    /// # let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
    /// # let node_key = DecryptionKey::generate(&mut rng);
    /// # let keys = (node_key.public(), &replica_key);
    /// # let variables = [("DB_PASSWORD".to_owned(), "hunter2".to_owned().into())];
    /// let text = sign_environment(&claims, &variables, &[7; 32], keys, &mut rng).unwrap();
    /// let signed = SignedEnvironment::verify(&text, &keyset, &"dpl_eu".parse()?, &"nod_eu1".parse()?)?;
    /// assert_eq!(signed.claims().version, 3);
    ///
    /// let other = SignedEnvironment::verify(&text, &keyset, &"dpl_eu".parse()?, &"nod_eu2".parse()?);
    /// assert_eq!(other, Err(EnvironmentError::Node("nod_eu1".parse()?)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(
        text: &str,
        keys: &Keyset,
        data_plane: &DataPlaneId,
        node: &NodeId,
    ) -> Result<Self, EnvironmentError> {
        let claims: Claims = keys.verify_by_replica_key(text, MAX_ENVIRONMENT, Typ::Environment)?.claims()?;
        if keys.other_issuer(&claims.iss).is_some() {
            return Err(EnvironmentError::Issuer(claims.iss));
        }
        if claims.aud != *data_plane {
            return Err(EnvironmentError::Audience(claims.aud));
        }
        if claims.node != *node {
            return Err(EnvironmentError::Node(claims.node));
        }
        let sealed = BASE64URL.decode(&claims.ciphertext).map_err(|_| EnvironmentError::Text)?;
        if sealed.len() > MAX_TEXT + TAG {
            return Err(EnvironmentError::Text);
        }
        let of = EnvironmentClaims {
            issuer: claims.iss,
            data_plane: claims.aud,
            deployment: claims.sub,
            node: claims.node,
            version: claims.version,
            iat: claims.iat,
        };
        Ok(Self { of, digest: claims.digest, enc: claims.enc, sealed, text: text.into() })
    }

    /// Decrypts the variables, and checks them. They are in the order of their names.
    ///
    /// ```
    /// use halligan::protocol::environment::signed::{EnvironmentError, SignedEnvironment};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let keyset = world::keyset();
    /// # let [root, token_key, replica_key] = ["root", "token", "replica"].map(world::key);
    /// # use halligan::protocol::environment::key::DecryptionKey;
    /// # use halligan::protocol::environment::signed::{EnvironmentClaims, sign_environment};
    /// # let claims = EnvironmentClaims {
    /// #     issuer: "https://control.example".into(),
    /// #     data_plane: "dpl_eu".parse()?,
    /// #     deployment: "dep_sales".parse()?,
    /// #     node: "nod_eu1".parse()?,
    /// #     version: 3,
    /// #     iat: world::NOW,
    /// # };
    /// # let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
    /// # let node_key = DecryptionKey::generate(&mut rng);
    /// # let keys = (node_key.public(), &replica_key);
    /// # let variables = [("DB_PASSWORD".to_owned(), "hunter2".to_owned().into())];
    /// let text = sign_environment(&claims, &variables, &[7; 32], keys, &mut rng).unwrap();
    /// let signed = SignedEnvironment::verify(&text, &keyset, &claims.data_plane, &claims.node)?;
    /// let variables = signed.open(&node_key)?;
    /// assert_eq!((variables[0].0.as_str(), variables[0].1.as_str()), ("DB_PASSWORD", "hunter2"));
    ///
    /// let other_key = DecryptionKey::generate(&mut rng);
    /// assert_eq!(signed.open(&other_key), Err(EnvironmentError::Sealed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(&self, key: &DecryptionKey) -> Result<Vec<Variable>, EnvironmentError> {
        let text = key.open(&self.enc, &self.sealed, &self.of.aad()).ok_or(EnvironmentError::Sealed)?;
        if Sha256::digest(&*text)[..] != self.digest {
            return Err(EnvironmentError::Digest);
        }
        decode(&text)
    }

    /// Returns the place and version.
    #[must_use]
    pub fn claims(&self) -> &EnvironmentClaims {
        &self.of
    }

    /// Returns the digest, which all nodes are given for one version.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Returns the signed text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests;
