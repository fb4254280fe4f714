//! Nodes as signers: whose signature counts for a revocation, and until when.

use std::collections::BTreeMap;

use super::id::NodeId;
use super::key::PublicKey;
use super::record::NodeRecord;
use super::time::Time;

/// A node's key, and when the node was retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The node.
    pub id: NodeId,
    /// Its key.
    pub key: PublicKey,
    /// From when on its signature does not count.
    pub retired_at: Option<Time>,
}

/// The nodes of a data plane. A host that enrolled twice is two nodes with one key.
#[derive(Clone, Debug, Default)]
pub struct Signers(BTreeMap<NodeId, Signer>);

impl Signers {
    /// Adds a node. One whose key can't be used signs nothing that counts.
    pub fn insert(&mut self, record: &NodeRecord) {
        if let Ok(key) = PublicKey::from_jwk(&record.key) {
            let signer = Signer { id: record.id.clone(), key, retired_at: record.retired_at };
            self.0.insert(record.id.clone(), signer);
        }
    }

    /// The node of this id.
    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<&Signer> {
        self.0.get(id)
    }

    /// The key with this thumbprint, if a node has it.
    #[must_use]
    pub fn key(&self, kid: &str) -> Option<&PublicKey> {
        self.0.values().map(|signer| &signer.key).find(|key| key.kid().as_str() == kid)
    }

    /// How many there are, retired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
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
