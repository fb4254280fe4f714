//! Shows keysets to people before their signatures are verified: to those who are about to sign one, or to inspect one.
//! No program takes a key from here.

use base64::Engine as _;

use super::general::{General, GeneralSignature, parse, signature_of};
use super::{KeysetBody, KeysetError};
use crate::protocol::jws::{self, BASE64URL, Typ};
use crate::protocol::key::{PublicKey, SigningKey};

/// Keyset before the verification of its signatures.
///
/// ```
/// use halligan::protocol::key::SigningKey;
/// use halligan::protocol::keyset::{KeysetBody, UnverifiedKeyset};
/// use halligan::protocol::time::Time;
///
/// let root = SigningKey::from_seed(&[1; 32]);
/// let body = KeysetBody {
///     iss: None,
///     version: 1,
///     iat: Time::from_unix(1_800_000_000),
///     exp: Time::from_unix(1_900_000_000),
///     keys: Vec::new(),
///     roots: vec![root.public().jwk()],
///     threshold: 1,
/// };
/// let mut keyset = UnverifiedKeyset::unsigned(body);
/// assert!(!keyset.signed_by(root.public()));
/// keyset.sign(&root);
/// let read = UnverifiedKeyset::parse(&keyset.to_line()).unwrap();
/// assert!(read.signed_by(root.public()));
/// ```
pub struct UnverifiedKeyset {
    general: General,
    body: KeysetBody,
}

impl UnverifiedKeyset {
    /// Parses a keyset. White space between the JSON tokens is allowed.
    pub fn parse(text: &str) -> Result<Self, KeysetError> {
        let (general, body) = parse(text)?;
        Ok(Self { general, body })
    }

    /// Returns a keyset without signatures.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
    pub fn unsigned(body: KeysetBody) -> Self {
        let payload = BASE64URL.encode(serde_json::to_vec(&body).expect("a keyset serializes"));
        Self { general: General { payload, signatures: Vec::new() }, body }
    }

    /// Returns the unverified content.
    #[must_use]
    pub fn body(&self) -> &KeysetBody {
        &self.body
    }

    /// Returns the payload in base64url. It is equal in two copies of one keyset, whoever has signed them.
    #[must_use]
    pub fn payload(&self) -> &str {
        &self.general.payload
    }

    /// Adds the signature of a root, so that a ceremony can gather signatures in several places. Does nothing if the root
    /// has signed.
    ///
    /// ```
    /// use halligan::protocol::keyset::UnverifiedKeyset;
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let keyset = world::keyset();
    /// # let [root, token_key, replica_key] = ["root", "token", "replica"].map(world::key);
    /// # let (body, second_root) = (keyset.body().clone(), world::key("root 2"));
    /// let mut keyset = UnverifiedKeyset::unsigned(body);
    /// keyset.sign(&root);
    /// // The line is carried to the machine of the second root.
    /// let mut keyset = UnverifiedKeyset::parse(&keyset.to_line())?;
    /// keyset.sign(&second_root);
    /// keyset.sign(&second_root);
    /// assert_eq!(keyset.claimed_signers().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sign(&mut self, root: &SigningKey) {
        if !self.signed_by(root.public()) {
            self.general.signatures.push(signature_of(&self.general.payload, root));
        }
    }

    /// Returns true if the keyset has a valid signature of `root`.
    #[must_use]
    pub fn signed_by(&self, root: &PublicKey) -> bool {
        let signatures = &self.general.signatures;
        let root = std::slice::from_ref(root);
        signatures.iter().any(|signature| signature.signer(&self.general.payload, root).is_some())
    }

    /// Returns the thumbprints that the signatures claim. They are unverified: use them only to find the keys.
    #[must_use]
    pub fn claimed_signers(&self) -> Vec<String> {
        let claimed = |signature: &GeneralSignature| jws::read_header(signature.protected.as_bytes()).ok();
        let signatures = self.general.signatures.iter();
        signatures.filter_map(claimed).filter(|(typ, _)| *typ == Typ::Keyset).map(|(_, kid)| kid).collect()
    }

    /// Encodes the keyset as one line, the form in bundles and chains.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings always serialize")]
    pub fn to_line(&self) -> String {
        serde_json::to_string(&self.general).expect("a JWS serializes")
    }
}
