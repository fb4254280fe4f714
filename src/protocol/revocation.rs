//! Defines local revocations: an operator revokes a token on a host, and the host's node signs it. A revocation only
//! removes access; it has no member that could grant any.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::id::{NodeId, TokenId};
use super::jws::{self, JwsError, Typ, Unverified};
use super::key::SigningKey;
use super::signer::Signers;
use super::time::Time;

/// Maximum length of a revocation's JWS, in bytes. The longest reason fits in its longest JSON spelling.
pub const MAX_REVOCATION: usize = 8 * 1024;
/// Maximum length of a reason, in characters.
pub const MAX_REASON: usize = 500;

/// Claims of a revocation (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Issuer: the node on which the revocation was made.
    pub iss: NodeId,
    /// Subject: the token that it revokes.
    pub sub: TokenId,
    /// Time of the revocation.
    pub iat: Time,
    /// Identifier of the revocation.
    pub jti: String,
    /// User who made it, by the kernel's credentials of the admin socket.
    pub operator: String,
    /// The operator's reason.
    pub reason: String,
}

/// Reasons to reject a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RevocationError {
    /// The text is not a revocation that a node of this data plane signed.
    #[error("the revocation is not believed: {0}")]
    Jws(#[from] JwsError),
    /// The key that signed it belongs to another node than the issuer, which this is.
    #[error("the revocation names node {0}, which has another key")]
    Issuer(NodeId),
    /// The revocation was signed at or after the retirement of its node.
    #[error("node {node} was retired at {retired_at}, before it signed this revocation")]
    Retired {
        /// Node that signed the revocation.
        node: NodeId,
        /// Time at which the node was retired.
        retired_at: Time,
    },
    /// The reason breaks the rules of [`check_reason`].
    #[error("the reason is empty, longer than {MAX_REASON} characters, or more than one line")]
    Reason,
}

impl Revocation {
    /// Parses the claims of `text` without verifying the signature. Unverified claims may remove access, and must never
    /// grant any.
    ///
    /// ```
    /// use halligan::protocol::revocation::{Revocation, sign_revocation};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let signers = world::signers();
    /// # let [eu1_key, eu2_key, stranger] = ["eu1", "eu2", "other"].map(world::key);
    /// # let revocation = Revocation {
    /// #     iss: "nod_eu1".parse()?,
    /// #     sub: "tok_etl".parse()?,
    /// #     iat: world::NOW,
    /// #     jti: "1".into(),
    /// #     operator: "uid 0".into(),
    /// #     reason: "laptop stolen".into(),
    /// # };
    /// let forged = sign_revocation(&revocation, &stranger);
    /// // The claims are readable, although the signature of nod_eu1 is missing.
    /// assert_eq!(Revocation::claimed(&forged), Some(revocation));
    /// assert_eq!(Revocation::claimed("tok_etl"), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn claimed(text: &str) -> Option<Self> {
        Unverified::parse(text.as_bytes(), MAX_REVOCATION).ok()?.claimed().ok()
    }
}

/// Checks a reason: one line of 1 to [`MAX_REASON`] characters that are not all white space, without control characters.
///
/// ```
/// use halligan::protocol::revocation::check_reason;
///
/// assert!(check_reason("laptop stolen").is_ok());
/// assert!(check_reason(" ").is_err() && check_reason("two\nlines").is_err());
/// ```
pub fn check_reason(reason: &str) -> Result<(), RevocationError> {
    let readable = !reason.trim().is_empty()
        && reason.chars().count() <= MAX_REASON
        && !reason.chars().any(char::is_control);
    if readable { Ok(()) } else { Err(RevocationError::Reason) }
}

/// Signs a revocation, as a compact JWS.
///
/// ```
/// use halligan::protocol::key::SigningKey;
/// use halligan::protocol::record::NodeRecord;
/// use halligan::protocol::revocation::{Revocation, SignedRevocation, sign_revocation};
/// use halligan::protocol::signer::Signers;
/// use halligan::protocol::time::Time;
///
/// let revocation = Revocation {
///     iss: "nod_a".parse().unwrap(),
///     sub: "tok_a".parse().unwrap(),
///     iat: Time::from_unix(1_800_000_000),
///     jti: "1".into(),
///     operator: "uid 0".into(),
///     reason: "laptop stolen".into(),
/// };
/// let key = SigningKey::from_seed(&[1; 32]);
/// let jwk = key.public().jwk();
/// let node = NodeRecord { id: "nod_a".parse().unwrap(), name: "a".into(), key: jwk, retired_at: None };
/// let signers: Signers = [&node].into_iter().collect();
/// let signed = SignedRevocation::verify(&sign_revocation(&revocation, &key), &signers).unwrap();
/// assert_eq!(signed.revocation(), &revocation);
/// ```
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn sign_revocation(revocation: &Revocation, key: &SigningKey) -> String {
    jws::sign(Typ::LocalRevocation, &serde_json::to_vec(revocation).expect("a revocation serializes"), key)
}

/// A revocation whose signature was verified, together with the signed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRevocation {
    revocation: Revocation,
    text: String,
}

impl SignedRevocation {
    /// Verifies that the issuer signed `text`, whether or not that node was retired meanwhile. Use it for a revocation
    /// that was admitted before, and [`Self::admit`] for a new one.
    ///
    /// ```
    /// use halligan::protocol::revocation::{Revocation, RevocationError, SignedRevocation, sign_revocation};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let signers = world::signers();
    /// # let [eu1_key, eu2_key, stranger] = ["eu1", "eu2", "other"].map(world::key);
    /// # let revocation = Revocation {
    /// #     iss: "nod_eu1".parse()?,
    /// #     sub: "tok_etl".parse()?,
    /// #     iat: world::NOW,
    /// #     jti: "1".into(),
    /// #     operator: "uid 0".into(),
    /// #     reason: "laptop stolen".into(),
    /// # };
    /// let signed = SignedRevocation::verify(&sign_revocation(&revocation, &eu1_key), &signers)?;
    /// assert_eq!(signed.revocation().sub.as_str(), "tok_etl");
    ///
    /// // Node nod_eu2 must not revoke in the name of nod_eu1.
    /// let refused = SignedRevocation::verify(&sign_revocation(&revocation, &eu2_key), &signers);
    /// assert_eq!(refused, Err(RevocationError::Issuer("nod_eu1".parse()?)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(text: &str, signers: &Signers) -> Result<Self, RevocationError> {
        let verified = signers.verify(text, MAX_REVOCATION, Typ::LocalRevocation)?;
        let revocation: Revocation = verified.claims()?;
        check_reason(&revocation.reason)?;
        if !signers.is_by(&revocation.iss, &verified) {
            return Err(RevocationError::Issuer(revocation.iss));
        }
        Ok(Self { revocation, text: text.into() })
    }

    /// Verifies that the issuer signed `text` before its retirement. A revocation that was admitted stays in force when
    /// its node is retired later.
    ///
    /// ```
    /// use halligan::protocol::revocation::{Revocation, RevocationError, SignedRevocation, sign_revocation};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let signers = world::signers();
    /// # let [eu1_key, eu2_key, stranger] = ["eu1", "eu2", "other"].map(world::key);
    /// # let revocation = Revocation {
    /// #     iss: "nod_eu1".parse()?,
    /// #     sub: "tok_etl".parse()?,
    /// #     iat: world::NOW,
    /// #     jti: "1".into(),
    /// #     operator: "uid 0".into(),
    /// #     reason: "laptop stolen".into(),
    /// # };
    /// # let retired = world::NOW;
    /// // Node nod_eu2 was retired at `retired`.
    /// let revoke_at = |iat| {
    ///     let revocation = Revocation { iss: "nod_eu2".parse().unwrap(), iat, ..revocation.clone() };
    ///     SignedRevocation::admit(&sign_revocation(&revocation, &eu2_key), &signers)
    /// };
    /// assert!(revoke_at(retired.plus(-1)).is_ok());
    /// let late = RevocationError::Retired { node: "nod_eu2".parse()?, retired_at: retired };
    /// assert_eq!(revoke_at(retired), Err(late));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn admit(text: &str, signers: &Signers) -> Result<Self, RevocationError> {
        let signed = Self::verify(text, signers)?;
        let node = &signed.revocation.iss;
        match signers.retired_by(node, signed.revocation.iat) {
            Some(retired_at) => Err(RevocationError::Retired { node: node.clone(), retired_at }),
            None => Ok(signed),
        }
    }

    /// Returns the verified claims.
    #[must_use]
    pub fn revocation(&self) -> &Revocation {
        &self.revocation
    }

    /// Returns the compact JWS, byte for byte as it was received.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::record::NodeRecord;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn node(id: &str, seed: u8, retired_at: Option<i64>) -> NodeRecord {
        NodeRecord {
            id: id.parse().unwrap(),
            name: id.into(),
            key: key(seed).public().jwk(),
            retired_at: retired_at.map(Time::from_unix),
        }
    }

    fn revocation(iss: &str, iat: i64) -> Revocation {
        Revocation {
            iss: iss.parse().unwrap(),
            sub: "tok_a".parse().unwrap(),
            iat: Time::from_unix(iat),
            jti: "a-1".into(),
            operator: "uid 0".into(),
            reason: "lost laptop".into(),
        }
    }

    #[test]
    fn only_the_node_it_names_can_have_signed_it() {
        let signers: Signers = [&node("nod_a", 1, None), &node("nod_b", 2, None)].into_iter().collect();
        let good = sign_revocation(&revocation("nod_a", 10), &key(1));
        assert_eq!(SignedRevocation::admit(&good, &signers).unwrap().as_str(), good);
        let others = sign_revocation(&revocation("nod_a", 10), &key(2));
        assert!(matches!(SignedRevocation::admit(&others, &signers), Err(RevocationError::Issuer(_))));
        let stranger = sign_revocation(&revocation("nod_a", 10), &key(3));
        assert_eq!(
            SignedRevocation::admit(&stranger, &signers),
            Err(RevocationError::Jws(JwsError::KeyUnknown))
        );
        let mut bent = good.into_bytes();
        let middle = bent.len() / 2;
        bent[middle] = if bent[middle] == b'A' { b'B' } else { b'A' };
        assert!(SignedRevocation::admit(std::str::from_utf8(&bent).unwrap(), &signers).is_err());
    }

    #[test]
    fn a_host_that_enrolled_twice_signs_for_both_its_nodes() {
        let signers: Signers = [&node("nod_a", 1, Some(5)), &node("nod_b", 1, None)].into_iter().collect();
        for iss in ["nod_a", "nod_b"] {
            let text = sign_revocation(&revocation(iss, 1), &key(1));
            assert!(SignedRevocation::admit(&text, &signers).is_ok(), "{iss}");
        }
    }

    #[test]
    fn a_retired_nodes_signature_does_not_count_from_its_retirement_on() {
        let signers: Signers = [&node("nod_a", 1, Some(10))].into_iter().collect();
        let at = |iat| sign_revocation(&revocation("nod_a", iat), &key(1));
        assert!(SignedRevocation::admit(&at(9), &signers).is_ok());
        for iat in [10, 11] {
            let refused = SignedRevocation::admit(&at(iat), &signers);
            assert!(matches!(refused, Err(RevocationError::Retired { .. })), "{iat}");
            assert!(SignedRevocation::verify(&at(iat), &signers).is_ok(), "what was admitted is kept");
        }
    }

    #[test]
    fn a_reason_is_one_readable_line() {
        assert!(check_reason(&"é".repeat(MAX_REASON)).is_ok());
        for bad in ["", "  ", "two\nlines", "bell\u{7}", &"x".repeat(MAX_REASON + 1)] {
            assert_eq!(check_reason(bad), Err(RevocationError::Reason), "{bad:?}");
        }
        let longest = Revocation { reason: "\u{10ffff}".repeat(MAX_REASON), ..revocation("nod_a", 1) };
        assert!(sign_revocation(&longest, &key(1)).len() < MAX_REVOCATION, "the longest reason fits");
    }

    #[test]
    fn nothing_but_the_known_claims_is_taken() {
        let signers: Signers = [&node("nod_a", 1, None)].into_iter().collect();
        let mut claims = serde_json::to_value(revocation("nod_a", 1)).unwrap();
        claims["role"] = "DEPLOYMENT_ADMIN@1".into();
        let text = jws::sign(Typ::LocalRevocation, claims.to_string().as_bytes(), &key(1));
        assert!(matches!(
            SignedRevocation::admit(&text, &signers),
            Err(RevocationError::Jws(JwsError::Claims(_)))
        ));
    }
}
