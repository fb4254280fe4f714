//! Root keys, a threshold of which must sign a keyset.

use std::collections::BTreeSet;

use super::KeysetError;
use super::general::General;
use crate::protocol::key::PublicKey;

/// Root keys and the number of them that must sign. A host pins one such set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootSet {
    keys: Vec<PublicKey>,
    threshold: u32,
}

impl RootSet {
    /// Validates a set of root keys. Returns [`KeysetError::Unreachable`] unless the keys differ and `threshold` is from
    /// 1 to their number.
    ///
    /// ```
    /// use halligan::protocol::key::SigningKey;
    /// use halligan::protocol::keyset::{KeysetError, RootSet};
    ///
    /// let roots = [1, 2, 3].map(|seed| SigningKey::from_seed(&[seed; 32]).public().clone());
    /// assert_eq!(RootSet::new(roots.to_vec(), 2)?.threshold(), 2);
    /// // Three roots never reach a threshold of four.
    /// let unreachable = KeysetError::Unreachable { threshold: 4, roots: 3 };
    /// assert_eq!(RootSet::new(roots.to_vec(), 4), Err(unreachable));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(keys: Vec<PublicKey>, threshold: u32) -> Result<Self, KeysetError> {
        let different: BTreeSet<_> = keys.iter().map(PublicKey::kid).collect();
        let (roots, reachable) = (different.len(), threshold as usize);
        if reachable == 0 || reachable > roots || roots != keys.len() {
            return Err(KeysetError::Unreachable { threshold, roots });
        }
        Ok(Self { keys, threshold })
    }

    /// Returns the root keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Returns the number of roots that must sign.
    #[must_use]
    pub fn threshold(&self) -> u32 {
        self.threshold
    }

    /// Verifies that a threshold of the roots signed. Keys are counted, not signatures: two signatures of one root count
    /// once.
    pub(super) fn check(&self, general: &General, who: &'static str) -> Result<(), KeysetError> {
        let signers: BTreeSet<_> = general
            .signatures
            .iter()
            .filter_map(|signature| signature.signer(&general.payload, &self.keys))
            .collect();
        if signers.len() < self.threshold as usize {
            return Err(KeysetError::Threshold { who, valid: signers.len(), threshold: self.threshold });
        }
        Ok(())
    }
}
