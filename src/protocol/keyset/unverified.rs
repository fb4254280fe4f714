//! A keyset nobody has vouched for: what it says, and who says to have signed it. For people who are about to sign or to
//! judge it; no program takes a key from it.

use super::{
    BASE64URL, General, GeneralSignature, KeysetBody, KeysetError, PublicKey, SigningKey, jws, object, parse,
};
use super::{Typ, signature_of};
use base64::Engine as _;

/// A keyset as it was read.
pub struct UnverifiedKeyset {
    general: General,
    body: KeysetBody,
}

impl UnverifiedKeyset {
    /// Reads a keyset, white space within it or not.
    pub fn parse(text: &str) -> Result<Self, KeysetError> {
        let general = parse(text)?;
        let malformed = |error: &dyn std::fmt::Display| KeysetError::Malformed(error.to_string());
        let payload = BASE64URL.decode(&general.payload).map_err(|error| malformed(&error))?;
        let body = object(&payload).map_err(|error| malformed(&error))?;
        Ok(Self { general, body })
    }

    /// A keyset that nobody has signed yet.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
    pub fn unsigned(body: KeysetBody) -> Self {
        let payload = BASE64URL.encode(serde_json::to_vec(&body).expect("a keyset serializes"));
        Self { general: General { payload, signatures: Vec::new() }, body }
    }

    /// What it says.
    #[must_use]
    pub fn body(&self) -> &KeysetBody {
        &self.body
    }

    /// The signed bytes, base64url: what two copies of one keyset have in common, whoever has signed them.
    #[must_use]
    pub fn payload(&self) -> &str {
        &self.general.payload
    }

    /// Adds a root's signature: how a ceremony with roots in several places goes. A root that has signed adds nothing.
    pub fn sign(&mut self, root: &SigningKey) {
        if !self.signed_by(root.public()) {
            self.general.signatures.push(signature_of(&self.general.payload, root));
        }
    }

    /// Whether a signature of `root` is on it, and holds.
    #[must_use]
    pub fn signed_by(&self, root: &PublicKey) -> bool {
        let signatures = &self.general.signatures;
        let root = std::slice::from_ref(root);
        signatures.iter().any(|signature| signature.signer(&self.general.payload, root).is_some())
    }

    /// The thumbprints its signatures name. A hint for finding the keys, and no more.
    #[must_use]
    pub fn claimed_signers(&self) -> Vec<String> {
        let claimed = |signature: &GeneralSignature| jws::read_header(signature.protected.as_bytes()).ok();
        let signatures = self.general.signatures.iter();
        signatures.filter_map(claimed).filter(|(typ, _)| *typ == Typ::Keyset).map(|(_, kid)| kid).collect()
    }

    /// The keyset as one line, as bundles and chains carry it.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings always serialize")]
    pub fn to_line(&self) -> String {
        serde_json::to_string(&self.general).expect("a JWS serializes")
    }
}
