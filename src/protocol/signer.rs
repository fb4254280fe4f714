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
    pub fn insert(&mut self, record: &NodeRecord) {
        if let Ok(key) = PublicKey::from_jwk(&record.key) {
            let signer = Signer { id: record.id.clone(), key, retired_at: record.retired_at };
            self.0.insert(record.id.clone(), signer);
        }
    }

    /// Rejects the signatures of a node from `at` on, or from its retirement on if that was earlier.
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
    pub fn verify(&self, text: &str, max: usize, typ: Typ) -> Result<Verified, JwsError> {
        Unverified::parse(text.as_bytes(), max)?.verify_by(typ, |kid| self.key(kid))
    }

    /// Returns true if the key of this node signed what was verified.
    #[must_use]
    pub fn is_by(&self, id: &NodeId, verified: &Verified) -> bool {
        self.get(id).is_some_and(|signer| signer.key.kid() == verified.kid())
    }

    /// Returns the time at which the node was retired, if that was not after `time`.
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
