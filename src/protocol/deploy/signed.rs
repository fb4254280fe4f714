//! Defines the signed deploy: the control plane's statement of the archive that a deployment shall run.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::MAX_ARCHIVE;
use crate::protocol::head::base64url;
use crate::protocol::id::{DataPlaneId, DeployId, DeploymentId};
use crate::protocol::jws::{self, JwsError, Typ};
use crate::protocol::key::SigningKey;
use crate::protocol::keyset::Keyset;
use crate::protocol::time::Time;
use crate::protocol::version::{number, version};

/// Maximum length of the JWS, in bytes.
pub const MAX_DEPLOY: usize = 4096;

/// Claims of a signed deploy (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// Issuer: the URL of the control plane.
    pub iss: String,
    /// Audience: the data plane.
    pub aud: DataPlaneId,
    /// Subject: the deployment.
    pub sub: DeploymentId,
    /// Deploy whose archive the deployment shall run. A rollback names an old one.
    pub deploy: DeployId,
    /// Version of the deployment's code, from 1. It rises with each deploy and each rollback, and not by one only.
    #[serde(deserialize_with = "version")]
    pub version: u64,
    /// Time of the signature.
    pub iat: Time,
    /// SHA-256 of the archive, base64url on the wire.
    #[serde(with = "base64url")]
    pub digest: [u8; 32],
    /// Size of the archive, in bytes.
    #[serde(deserialize_with = "number")]
    pub size: u64,
}

/// Reasons to reject a signed deploy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeployError {
    /// The text is not a deploy that a replica key of the keyset signed.
    #[error("the deploy is not believed: {0}")]
    Jws(#[from] JwsError),
    /// Its issuer differs from the one that the keyset names.
    #[error("the deploy is signed as {0:?}, and the keyset names another issuer")]
    Issuer(String),
    /// It is for another data plane, whose id this is.
    #[error("the deploy is for data plane {0}")]
    Audience(DataPlaneId),
    /// The archive is larger than [`MAX_ARCHIVE`]. The value is its size, in bytes.
    #[error("the deploy's archive has {0} bytes; the maximum is {MAX_ARCHIVE}")]
    Size(u64),
}

/// Signs a deploy, as a compact JWS.
///
/// ```
/// use halligan::protocol::deploy::signed::{Deploy, MAX_DEPLOY, sign_deploy};
/// use halligan::protocol::jws::{Typ, Unverified};
/// use halligan::protocol::key::SigningKey;
/// use halligan::protocol::time::Time;
///
/// let deploy = Deploy {
///     iss: "https://control.example".into(),
///     aud: "dpl_a".parse().unwrap(),
///     sub: "dep_a".parse().unwrap(),
///     deploy: "one".parse().unwrap(),
///     version: 1,
///     iat: Time::from_unix(1_800_000_000),
///     digest: [0; 32],
///     size: 1,
/// };
/// let key = SigningKey::from_seed(&[1; 32]);
/// let text = sign_deploy(&deploy, &key);
/// let verified = Unverified::parse(text.as_bytes(), MAX_DEPLOY).unwrap().verify(Typ::Deploy, key.public());
/// assert_eq!(verified.unwrap().claims::<Deploy>().unwrap(), deploy);
/// ```
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn sign_deploy(deploy: &Deploy, key: &SigningKey) -> String {
    jws::sign(Typ::Deploy, &serde_json::to_vec(deploy).expect("claims serialize"), key)
}

/// Deploy whose signature was verified, together with the signed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDeploy {
    deploy: Deploy,
    text: String,
}

impl SignedDeploy {
    /// Verifies that a replica key of `keys` signed `text` as a deploy for `data_plane`, under the issuer that the keyset
    /// names.
    ///
    /// ```
    /// use halligan::protocol::deploy::signed::{Deploy, DeployError, SignedDeploy, sign_deploy};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let keyset = world::keyset();
    /// # let [root, token_key, replica_key] = ["root", "token", "replica"].map(world::key);
    /// # let deploy = Deploy {
    /// #     iss: "https://control.example".into(),
    /// #     aud: "dpl_eu".parse()?,
    /// #     sub: "dep_sales".parse()?,
    /// #     deploy: "dpy_42".parse()?,
    /// #     version: 3,
    /// #     iat: world::NOW,
    /// #     digest: [0; 32],
    /// #     size: 48_000,
    /// # };
    /// let text = sign_deploy(&deploy, &replica_key);
    /// let signed = SignedDeploy::verify(&text, &keyset, &"dpl_eu".parse()?)?;
    /// assert_eq!(signed.deploy().deploy.as_str(), "dpy_42");
    ///
    /// let elsewhere = SignedDeploy::verify(&text, &keyset, &"dpl_us".parse()?);
    /// assert_eq!(elsewhere, Err(DeployError::Audience("dpl_eu".parse()?)));
    /// let staging = Deploy { iss: "https://staging.example".into(), ..deploy };
    /// let refused = SignedDeploy::verify(&sign_deploy(&staging, &replica_key), &keyset, &staging.aud);
    /// assert_eq!(refused, Err(DeployError::Issuer("https://staging.example".into())));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(text: &str, keys: &Keyset, data_plane: &DataPlaneId) -> Result<Self, DeployError> {
        let deploy: Deploy = keys.verify_by_replica_key(text, MAX_DEPLOY, Typ::Deploy)?.claims()?;
        if keys.other_issuer(&deploy.iss).is_some() {
            return Err(DeployError::Issuer(deploy.iss));
        }
        if deploy.aud != *data_plane {
            return Err(DeployError::Audience(deploy.aud));
        }
        if deploy.size > MAX_ARCHIVE {
            return Err(DeployError::Size(deploy.size));
        }
        Ok(Self { deploy, text: text.into() })
    }

    /// Returns true if both have one deployment and version and name different archives: a proof that the replica key
    /// signed two histories.
    ///
    /// ```
    /// use halligan::protocol::deploy::signed::{Deploy, SignedDeploy, sign_deploy};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let keyset = world::keyset();
    /// # let [root, token_key, replica_key] = ["root", "token", "replica"].map(world::key);
    /// # let deploy = Deploy {
    /// #     iss: "https://control.example".into(),
    /// #     aud: "dpl_eu".parse()?,
    /// #     sub: "dep_sales".parse()?,
    /// #     deploy: "dpy_42".parse()?,
    /// #     version: 3,
    /// #     iat: world::NOW,
    /// #     digest: [0; 32],
    /// #     size: 48_000,
    /// # };
    /// let signed = |deploy: &Deploy| {
    ///     SignedDeploy::verify(&sign_deploy(deploy, &replica_key), &keyset, &deploy.aud)
    /// };
    /// let first = signed(&deploy)?;
    /// let next = Deploy { version: 4, digest: [1; 32], ..deploy.clone() };
    /// assert!(!first.contradicts(&signed(&next)?));
    /// // Version 3 with another archive is another history.
    /// let other = Deploy { digest: [1; 32], ..deploy.clone() };
    /// assert!(first.contradicts(&signed(&other)?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        let (a, b) = (&self.deploy, &other.deploy);
        (&a.sub, a.version) == (&b.sub, b.version)
            && (&a.deploy, &a.digest, a.size) != (&b.deploy, &b.digest, b.size)
    }

    /// Returns the verified claims.
    #[must_use]
    pub fn deploy(&self) -> &Deploy {
        &self.deploy
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

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::keyset::{KeyUse, KeysetBody, KeysetKey, RootSet, sign_keyset};
    use crate::protocol::version::MAX_VERSION;

    const NOW: Time = Time::from_unix(1_800_000_000);

    fn seed(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn keyset() -> Keyset {
        let root = seed(1);
        let listed = |key_use, key: &SigningKey| KeysetKey { key_use, jwk: key.public().jwk() };
        let body = KeysetBody {
            iss: Some("https://control.example".into()),
            version: 1,
            iat: NOW,
            exp: NOW.plus(1000),
            keys: vec![listed(KeyUse::Token, &seed(2)), listed(KeyUse::Replica, &seed(3))],
            roots: vec![root.public().jwk()],
            threshold: 1,
        };
        let pinned = RootSet::new(vec![root.public().clone()], 1).unwrap();
        Keyset::verify_first(&sign_keyset(&body, &[&root]), &pinned).unwrap()
    }

    fn deploy() -> Deploy {
        Deploy {
            iss: "https://control.example".into(),
            aud: "dpl_a".parse().unwrap(),
            sub: "dep_a".parse().unwrap(),
            deploy: "c1".parse().unwrap(),
            version: 7,
            iat: NOW,
            digest: [5; 32],
            size: 100,
        }
    }

    fn verify(text: &str) -> Result<SignedDeploy, DeployError> {
        SignedDeploy::verify(text, &keyset(), &"dpl_a".parse().unwrap())
    }

    fn changed(change: impl FnOnce(&mut Deploy)) -> String {
        let mut deploy = deploy();
        change(&mut deploy);
        sign_deploy(&deploy, &seed(3))
    }

    #[test]
    fn only_a_replica_key_of_the_keyset_chooses_the_code_of_its_data_plane() {
        let text = sign_deploy(&deploy(), &seed(3));
        let read = verify(&text).unwrap();
        assert_eq!((read.deploy(), read.as_str()), (&deploy(), &*text));
        for signer in [seed(2), seed(4)] {
            assert_eq!(verify(&sign_deploy(&deploy(), &signer)).unwrap_err(), JwsError::KeyUnknown.into());
        }
        let elsewhere = changed(|deploy| deploy.aud = "dpl_b".parse().unwrap());
        assert_eq!(verify(&elsewhere).unwrap_err(), DeployError::Audience("dpl_b".parse().unwrap()));
        let impostor = changed(|deploy| deploy.iss = "https://other.example".into());
        assert!(matches!(verify(&impostor), Err(DeployError::Issuer(_))));
    }

    #[test]
    fn a_size_or_a_version_out_of_bounds_is_refused() {
        assert!(verify(&changed(|deploy| deploy.size = MAX_ARCHIVE)).is_ok());
        assert_eq!(
            verify(&changed(|deploy| deploy.size = MAX_ARCHIVE + 1)).unwrap_err(),
            DeployError::Size(MAX_ARCHIVE + 1)
        );
        for version in [0, MAX_VERSION + 1] {
            let text = changed(|deploy| deploy.version = version);
            assert!(matches!(verify(&text), Err(DeployError::Jws(JwsError::Claims(_)))), "{version}");
        }
    }

    #[test]
    fn nothing_but_the_known_claims_is_taken() {
        let claims = serde_json::to_string(&deploy()).unwrap().replace("{\"iss\"", "{\"new\":1,\"iss\"");
        let text = jws::sign(Typ::Deploy, claims.as_bytes(), &seed(3));
        assert!(matches!(verify(&text), Err(DeployError::Jws(JwsError::Claims(_)))));
        let kind = jws::sign(Typ::Environment, &serde_json::to_vec(&deploy()).unwrap(), &seed(3));
        assert!(matches!(verify(&kind), Err(DeployError::Jws(JwsError::WrongType(_)))));
    }

    #[test]
    fn two_archives_of_one_version_contradict_each_other() {
        let first = verify(&sign_deploy(&deploy(), &seed(3))).unwrap();
        let contradicts = |text: &str| first.contradicts(&verify(text).unwrap());
        assert!(!contradicts(&changed(|deploy| deploy.iat = NOW.plus(9))));
        assert!(!contradicts(&changed(|deploy| (deploy.version, deploy.size) = (8, 1))));
        assert!(contradicts(&changed(|deploy| deploy.digest = [6; 32])));
        assert!(contradicts(&changed(|deploy| deploy.deploy = "c2".parse().unwrap())));
    }

    proptest! {
        #[test]
        fn no_deploy_with_a_flipped_bit_is_believed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = sign_deploy(&deploy(), &seed(3)).into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(text) = String::from_utf8(bytes) {
                prop_assert!(verify(&text).is_err());
            }
        }
    }
}
