//! Finds the keys of nodes, to verify what nodes sign.

use std::collections::BTreeMap;

use super::id::NodeId;
use super::jws::{JwsError, Typ, Unverified, Verified};
use super::key::PublicKey;
use super::record::NodeRecord;
use super::time::Time;

/// Public key of a node, and the time of the node's retirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Identifier of the node.
    pub id: NodeId,
    /// Public key of the node.
    pub key: PublicKey,
    /// Time at which the node was retired. Signatures from then on are rejected.
    pub retired_at: Option<Time>,
}

/// Keys of all nodes of a data plane. A host that enrolled twice is two nodes with one key.
#[derive(Clone, Debug, Default)]
pub struct Signers(BTreeMap<NodeId, Signer>);

impl Signers {
    /// Adds a node. A node with an invalid key is left out, so that every signature of it is rejected.
    ///
    /// ```
    /// use halligan::protocol::key::{Jwk, SigningKey};
    /// use halligan::protocol::record::NodeRecord;
    /// use halligan::protocol::signer::Signers;
    ///
    /// let mut signers = Signers::default();
    /// let jwk = SigningKey::from_seed(&[1; 32]).public().jwk();
    /// let id = "nod_eu1".parse()?;
    /// let node = NodeRecord { id, name: "eu-1".into(), key: jwk.clone(), retired_at: None };
    /// signers.insert(&node);
    /// assert!(signers.get(&node.id).is_some());
    /// // A key of another curve verifies nothing, so its node is left out.
    /// let wrong = Jwk { crv: "X25519".into(), ..jwk };
    /// signers.insert(&NodeRecord { id: "nod_eu2".parse()?, key: wrong, ..node });
    /// assert_eq!(signers.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert(&mut self, record: &NodeRecord) {
        if let Ok(key) = PublicKey::from_jwk(&record.key) {
            let signer = Signer { id: record.id.clone(), key, retired_at: record.retired_at };
            self.0.insert(record.id.clone(), signer);
        }
    }

    /// Rejects the signatures of a node from `at` on, or from its retirement on if that was earlier.
    ///
    /// ```
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let signers = world::signers();
    /// # let [eu1_key, eu2_key, stranger] = ["eu1", "eu2", "other"].map(world::key);
    /// let (mut signers, node, now) = (signers, "nod_eu1".parse()?, world::NOW);
    /// signers.retire(&node, now);
    /// // The earliest known retirement counts.
    /// signers.retire(&node, now.plus(60));
    /// assert_eq!(signers.retired_by(&node, now), Some(now));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retire(&mut self, id: &NodeId, at: Time) {
        if let Some(signer) = self.0.get_mut(id) {
            signer.retired_at = Some(signer.retired_at.map_or(at, |known| known.min(at)));
        }
    }

    /// Removes a node.
    pub fn remove(&mut self, id: &NodeId) {
        self.0.remove(id);
    }

    /// Returns the node with this id.
    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<&Signer> {
        self.0.get(id)
    }

    /// Returns the key with this thumbprint, if a node has it.
    #[must_use]
    pub fn key(&self, kid: &str) -> Option<&PublicKey> {
        self.0.values().map(|signer| &signer.key).find(|key| key.kid().as_str() == kid)
    }

    /// Verifies that a node signed `text`, a compact JWS of the kind `typ` and at most `max` bytes. [`Self::is_by`] says
    /// whether it was the one that `text` names.
    ///
    /// ```
    /// use halligan::protocol::jws::{JwsError, Typ, sign};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let signers = world::signers();
    /// # let [eu1_key, eu2_key, stranger] = ["eu1", "eu2", "other"].map(world::key);
    /// let text = sign(Typ::AuditCheckpoint, br#"{"iss":"nod_eu1"}"#, &eu1_key);
    /// assert!(signers.verify(&text, 4096, Typ::AuditCheckpoint).is_ok());
    /// let text = sign(Typ::AuditCheckpoint, br#"{"iss":"nod_eu1"}"#, &stranger);
    /// let refused = signers.verify(&text, 4096, Typ::AuditCheckpoint);
    /// assert_eq!(refused.err(), Some(JwsError::KeyUnknown));
    /// ```
    pub fn verify(&self, text: &str, max: usize, typ: Typ) -> Result<Verified, JwsError> {
        Unverified::parse(text.as_bytes(), max)?.verify_by(typ, |kid| self.key(kid))
    }

    /// Returns true if the key of this node signed what was verified.
    ///
    /// ```
    /// use halligan::protocol::jws::{Typ, sign};
    ///
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let signers = world::signers();
    /// # let [eu1_key, eu2_key, stranger] = ["eu1", "eu2", "other"].map(world::key);
    /// // Node nod_eu2 signs a statement that names nod_eu1.
    /// let text = sign(Typ::AuditCheckpoint, br#"{"iss":"nod_eu1"}"#, &eu2_key);
    /// let verified = signers.verify(&text, 4096, Typ::AuditCheckpoint)?;
    /// assert!(!signers.is_by(&"nod_eu1".parse()?, &verified));
    /// assert!(signers.is_by(&"nod_eu2".parse()?, &verified));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_by(&self, id: &NodeId, verified: &Verified) -> bool {
        self.get(id).is_some_and(|signer| signer.key.kid() == verified.kid())
    }

    /// Returns the time at which the node was retired, if that was not after `time`.
    ///
    /// ```
    /// # mod world { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs")); }
    /// # let signers = world::signers();
    /// # let [eu1_key, eu2_key, stranger] = ["eu1", "eu2", "other"].map(world::key);
    /// # let retired = world::NOW;
    /// let node = "nod_eu2".parse()?;
    /// assert_eq!(signers.retired_by(&node, retired.plus(-1)), None);
    /// // A signature in the second of the retirement is rejected.
    /// assert_eq!(signers.retired_by(&node, retired), Some(retired));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn retired_by(&self, id: &NodeId, time: Time) -> Option<Time> {
        self.get(id)?.retired_at.filter(|retired_at| *retired_at <= time)
    }

    /// Returns the number of nodes, including retired ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'r> FromIterator<&'r NodeRecord> for Signers {
    fn from_iter<I: IntoIterator<Item = &'r NodeRecord>>(records: I) -> Self {
        let mut signers = Self::default();
        records.into_iter().for_each(|record| signers.insert(record));
        signers
    }
}
