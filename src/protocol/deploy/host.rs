//! Defines the host's deploy: a host took an archive from the holder of a token while the control plane was away, and its
//! node signs that.

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::MAX_ARCHIVE;
use crate::protocol::head::base64url;
use crate::protocol::id::{DataPlaneId, DeployId, DeploymentId, NodeId, TokenId, is_id};
use crate::protocol::jws::{self, JwsError, Typ};
use crate::protocol::key::SigningKey;
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;
use crate::protocol::version::{number, version};

/// Maximum length of the JWS, in bytes.
pub const MAX_HOST_DEPLOY: usize = 4096;

/// Claims of a host's deploy (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostDeploy {
    /// Issuer: the node of the host that took the archive.
    pub iss: NodeId,
    /// Audience: the data plane.
    pub aud: DataPlaneId,
    /// Subject: the deployment.
    pub sub: DeploymentId,
    /// Id of the deploy, which the node made.
    pub deploy: DeployId,
    /// Version of the signed deploy that the node held, or 0 if it held none.
    #[serde(deserialize_with = "number")]
    pub base: u64,
    /// Number among the host deploys of one `base`: one more than that of the deploy it replaces, or 1.
    #[serde(deserialize_with = "version")]
    pub seq: u64,
    /// Time of the deploy.
    pub iat: Time,
    /// SHA-256 of the archive, base64url on the wire.
    #[serde(with = "base64url")]
    pub digest: [u8; 32],
    /// Size of the archive, in bytes.
    #[serde(deserialize_with = "number")]
    pub size: u64,
    /// Token with which the archive was pushed.
    pub token: TokenId,
    /// Id of the event of the decision in the node's log.
    #[serde(deserialize_with = "id")]
    pub event: String,
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_id(&text) { Ok(text) } else { Err(serde::de::Error::custom("the event is no id")) }
}

/// Reasons to reject a host's deploy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostDeployError {
    /// The text is not a deploy that a node of this data plane signed.
    #[error("the host's deploy is not believed: {0}")]
    Jws(#[from] JwsError),
    /// The key that signed it belongs to another node than the issuer, which this is.
    #[error("the host's deploy names node {0}, which has another key")]
    Issuer(NodeId),
    /// It is for another data plane, whose id this is.
    #[error("the host's deploy is for data plane {0}")]
    Audience(DataPlaneId),
    /// The archive is larger than [`MAX_ARCHIVE`]. The value is its size, in bytes.
    #[error("the archive of the host's deploy has {0} bytes; the maximum is {MAX_ARCHIVE}")]
    Size(u64),
    /// It was signed at or after the retirement of its node.
    #[error("node {node} was retired at {retired_at}, before it signed this deploy")]
    Retired {
        /// Node that signed it.
        node: NodeId,
        /// Time at which the node was retired.
        retired_at: Time,
    },
}

/// Signs a host's deploy, as a compact JWS.
///
/// ```
/// use halligan::protocol::deploy::host::{HostDeploy, SignedHostDeploy, sign_host_deploy};
/// use halligan::protocol::key::SigningKey;
/// use halligan::protocol::record::NodeRecord;
/// use halligan::protocol::signer::Signers;
/// use halligan::protocol::time::Time;
///
/// let deploy = HostDeploy {
///     iss: "nod_a".parse().unwrap(),
///     aud: "dpl_a".parse().unwrap(),
///     sub: "dep_a".parse().unwrap(),
///     deploy: "one".parse().unwrap(),
///     base: 0,
///     seq: 1,
///     iat: Time::from_unix(1_800_000_000),
///     digest: [0; 32],
///     size: 1,
///     token: "tok_a".parse().unwrap(),
///     event: "evt_1-1".into(),
/// };
/// let key = SigningKey::from_seed(&[1; 32]);
/// let jwk = key.public().jwk();
/// let node = NodeRecord { id: "nod_a".parse().unwrap(), name: "a".into(), key: jwk, retired_at: None };
/// let signers: Signers = [&node].into_iter().collect();
/// let text = sign_host_deploy(&deploy, &key);
/// assert_eq!(SignedHostDeploy::verify(&text, &signers, &deploy.aud).unwrap().deploy(), &deploy);
/// ```
#[must_use]
#[expect(clippy::expect_used, reason = "strings and numbers always serialize")]
pub fn sign_host_deploy(deploy: &HostDeploy, key: &SigningKey) -> String {
    jws::sign(Typ::HostDeploy, &serde_json::to_vec(deploy).expect("claims serialize"), key)
}

/// Host's deploy whose signature was verified, together with the signed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHostDeploy {
    deploy: HostDeploy,
    text: String,
}

impl SignedHostDeploy {
    /// Verifies that the issuer signed `text` for `data_plane`, whether or not that node was retired meanwhile. Use it for
    /// a deploy that was admitted before, and [`Self::admit`] for a new one.
    ///
    /// ```
    /// use halligan::protocol::deploy::host::{HostDeploy, HostDeployError};
    /// use halligan::protocol::deploy::host::{SignedHostDeploy, sign_host_deploy};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let signers = world::signers();
    /// # let [eu1_key, eu2_key, stranger] = ["eu1", "eu2", "other"].map(world::key);
    /// # let deploy = HostDeploy {
    /// #     iss: "nod_eu1".parse()?,
    /// #     aud: "dpl_eu".parse()?,
    /// #     sub: "dep_sales".parse()?,
    /// #     deploy: "dpy_42".parse()?,
    /// #     base: 3,
    /// #     seq: 1,
    /// #     iat: world::NOW,
    /// #     digest: [0; 32],
    /// #     size: 48_000,
    /// #     token: "tok_etl".parse()?,
    /// #     event: "evt_1-1".into(),
    /// # };
    /// let text = sign_host_deploy(&deploy, &eu1_key);
    /// let signed = SignedHostDeploy::verify(&text, &signers, &"dpl_eu".parse()?)?;
    /// assert_eq!(signed.deploy().token.as_str(), "tok_etl");
    ///
    /// // Node nod_eu2 must not deploy in the name of nod_eu1.
    /// let text = sign_host_deploy(&deploy, &eu2_key);
    /// let refused = SignedHostDeploy::verify(&text, &signers, &"dpl_eu".parse()?);
    /// assert_eq!(refused, Err(HostDeployError::Issuer("nod_eu1".parse()?)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(text: &str, signers: &Signers, data_plane: &DataPlaneId) -> Result<Self, HostDeployError> {
        let verified = signers.verify(text, MAX_HOST_DEPLOY, Typ::HostDeploy)?;
        let deploy: HostDeploy = verified.claims()?;
        if !signers.is_by(&deploy.iss, &verified) {
            return Err(HostDeployError::Issuer(deploy.iss));
        }
        if deploy.aud != *data_plane {
            return Err(HostDeployError::Audience(deploy.aud));
        }
        if deploy.size > MAX_ARCHIVE {
            return Err(HostDeployError::Size(deploy.size));
        }
        Ok(Self { deploy, text: text.into() })
    }

    /// Verifies that the issuer signed `text` before its retirement.
    ///
    /// ```
    /// use halligan::protocol::deploy::host::{HostDeploy, HostDeployError};
    /// use halligan::protocol::deploy::host::{SignedHostDeploy, sign_host_deploy};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let signers = world::signers();
    /// # let [eu1_key, eu2_key, stranger] = ["eu1", "eu2", "other"].map(world::key);
    /// # let deploy = HostDeploy {
    /// #     iss: "nod_eu1".parse()?,
    /// #     aud: "dpl_eu".parse()?,
    /// #     sub: "dep_sales".parse()?,
    /// #     deploy: "dpy_42".parse()?,
    /// #     base: 3,
    /// #     seq: 1,
    /// #     iat: world::NOW,
    /// #     digest: [0; 32],
    /// #     size: 48_000,
    /// #     token: "tok_etl".parse()?,
    /// #     event: "evt_1-1".into(),
    /// # };
    /// # let retired = world::NOW;
    /// // Node nod_eu2 was retired at `retired`.
    /// let late = HostDeploy { iss: "nod_eu2".parse()?, iat: retired.plus(60), ..deploy };
    /// let text = sign_host_deploy(&late, &eu2_key);
    /// let refused = SignedHostDeploy::admit(&text, &signers, &late.aud);
    /// assert!(matches!(refused, Err(HostDeployError::Retired { retired_at, .. }) if retired_at == retired));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn admit(text: &str, signers: &Signers, data_plane: &DataPlaneId) -> Result<Self, HostDeployError> {
        let signed = Self::verify(text, signers, data_plane)?;
        let node = &signed.deploy.iss;
        match signers.retired_by(node, signed.deploy.iat) {
            Some(retired_at) => Err(HostDeployError::Retired { node: node.clone(), retired_at }),
            None => Ok(signed),
        }
    }

    /// Returns the verified claims.
    #[must_use]
    pub fn deploy(&self) -> &HostDeploy {
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
    use crate::protocol::record::NodeRecord;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn signers(retired_at: Option<i64>) -> Signers {
        let node = |id: &str, seed, retired_at: Option<i64>| NodeRecord {
            id: id.parse().unwrap(),
            name: id.into(),
            key: key(seed).public().jwk(),
            retired_at: retired_at.map(Time::from_unix),
        };
        [&node("nod_a", 1, retired_at), &node("nod_b", 2, None)].into_iter().collect()
    }

    fn deploy() -> HostDeploy {
        HostDeploy {
            iss: "nod_a".parse().unwrap(),
            aud: "dpl_a".parse().unwrap(),
            sub: "dep_a".parse().unwrap(),
            deploy: "c1".parse().unwrap(),
            base: 0,
            seq: 1,
            iat: Time::from_unix(100),
            digest: [5; 32],
            size: 100,
            token: "tok_a".parse().unwrap(),
            event: "evt_1-2".into(),
        }
    }

    fn admit(text: &str, signers: &Signers) -> Result<SignedHostDeploy, HostDeployError> {
        SignedHostDeploy::admit(text, signers, &"dpl_a".parse().unwrap())
    }

    #[test]
    fn only_the_node_it_names_can_have_signed_it() {
        let signers = signers(None);
        let text = sign_host_deploy(&deploy(), &key(1));
        let read = admit(&text, &signers).unwrap();
        assert_eq!((read.deploy(), read.as_str()), (&deploy(), &*text));
        let others = sign_host_deploy(&deploy(), &key(2));
        assert_eq!(admit(&others, &signers), Err(HostDeployError::Issuer("nod_a".parse().unwrap())));
        let stranger = sign_host_deploy(&deploy(), &key(3));
        assert_eq!(admit(&stranger, &signers), Err(JwsError::KeyUnknown.into()));
    }

    #[test]
    fn a_retired_node_deploys_nothing_new() {
        let text = sign_host_deploy(&deploy(), &key(1));
        assert!(admit(&text, &signers(Some(101))).is_ok());
        let retired = signers(Some(100));
        assert!(matches!(admit(&text, &retired), Err(HostDeployError::Retired { .. })));
        assert!(SignedHostDeploy::verify(&text, &retired, &"dpl_a".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_claim_out_of_bounds_is_refused() {
        let signers = signers(None);
        let changed = |change: &dyn Fn(&mut HostDeploy)| {
            let mut deploy = deploy();
            change(&mut deploy);
            admit(&sign_host_deploy(&deploy, &key(1)), &signers)
        };
        assert!(changed(&|deploy| (deploy.base, deploy.size) = (9, MAX_ARCHIVE)).is_ok());
        let elsewhere = changed(&|deploy| deploy.aud = "dpl_b".parse().unwrap());
        assert!(matches!(elsewhere, Err(HostDeployError::Audience(_))));
        let large = changed(&|deploy| deploy.size = MAX_ARCHIVE + 1);
        assert_eq!(large, Err(HostDeployError::Size(MAX_ARCHIVE + 1)));
        for bad in [changed(&|deploy| deploy.event = "a\nb".into()), changed(&|deploy| deploy.seq = 0)] {
            assert!(matches!(bad, Err(HostDeployError::Jws(JwsError::Claims(_)))), "{bad:?}");
        }
        let unknown = serde_json::to_string(&deploy()).unwrap().replace("{\"iss\"", "{\"role\":1,\"iss\"");
        let text = jws::sign(Typ::HostDeploy, unknown.as_bytes(), &key(1));
        assert!(matches!(admit(&text, &signers), Err(HostDeployError::Jws(JwsError::Claims(_)))));
    }

    proptest! {
        #[test]
        fn no_host_deploy_with_a_flipped_bit_is_believed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = sign_host_deploy(&deploy(), &key(1)).into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(text) = String::from_utf8(bytes) {
                prop_assert!(admit(&text, &signers(None)).is_err());
            }
        }
    }
}
