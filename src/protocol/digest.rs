//! Computes the digest of a replica: LtHash with 1024 lanes of 16 bits over BLAKE3 (Lewi, Kim, Maykov, Weis, "Securing
//! Update Propagation with Homomorphic Hashing", 2019).
//!
//! BLAKE3 expands each record to 1024 lanes. The digest is the sum of these vectors, lane by lane, modulo 2^16. The order
//! of additions does not matter, and adding or removing one record costs the same at any size of the replica.
//!
//! The paper's proof is about sets. The caller must therefore reject a second record of the same kind and key before it
//! compares the digest.

use std::fmt;

use super::record::Record;

/// Number of 16-bit lanes. With 1024 lanes, a collision costs about 2^200 operations (section 4 of the paper).
const LANES: usize = 1024;

/// LtHash sum of a set of records.
///
/// ```
/// use halligan::protocol::digest::ReplicaDigest;
/// use halligan::protocol::record::{Record, RecordKind};
///
/// let [a, b] = ["tok_a", "tok_b"].map(|key| Record::new(RecordKind::Token, key, "{}"));
/// let mut digest: ReplicaDigest = [&a, &b].into_iter().collect();
/// assert_eq!(digest, [&b, &a].into_iter().collect());
/// digest.remove(&b);
/// assert_eq!(digest, [&a].into_iter().collect());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ReplicaDigest(Box<[u16; LANES]>);

impl ReplicaDigest {
    /// Length of [`Self::to_bytes`], in bytes.
    pub const BYTES: usize = LANES * 2;

    /// Returns the digest of the empty set.
    #[must_use]
    pub fn empty() -> Self {
        Self(Box::new([0; LANES]))
    }

    /// Adds the lanes of one record.
    ///
    /// ```
    /// use halligan::protocol::digest::ReplicaDigest;
    /// use halligan::protocol::record::{Record, RecordKind};
    ///
    /// let old = Record::new(RecordKind::Token, "tok_etl", r#"{"generation":1}"#);
    /// let new = Record::new(RecordKind::Token, "tok_etl", r#"{"generation":2}"#);
    /// let mut digest: ReplicaDigest = [&old].into_iter().collect();
    /// // A change of one record costs two steps, whatever the size of the replica.
    /// digest.remove(&old);
    /// digest.add(&new);
    /// assert_eq!(digest, [&new].into_iter().collect());
    /// ```
    pub fn add(&mut self, record: &Record) {
        for (lane, term) in self.0.iter_mut().zip(element(record).as_chunks::<2>().0) {
            *lane = lane.wrapping_add(u16::from_le_bytes(*term));
        }
    }

    /// Subtracts the lanes of one record, which must have been added before.
    pub fn remove(&mut self, record: &Record) {
        for (lane, term) in self.0.iter_mut().zip(element(record).as_chunks::<2>().0) {
            *lane = lane.wrapping_sub(u16::from_le_bytes(*term));
        }
    }

    /// Adds the digest of a disjoint set of records.
    ///
    /// ```
    /// use halligan::protocol::digest::ReplicaDigest;
    /// use halligan::protocol::record::{Record, RecordKind};
    ///
    /// let records = ["tok_a", "tok_b", "tok_c"].map(|key| Record::new(RecordKind::Token, key, "{}"));
    /// // Two threads each compute the digest of a half.
    /// let (left, right) = records.split_at(1);
    /// let mut digest: ReplicaDigest = left.iter().collect();
    /// digest.combine(&right.iter().collect());
    /// assert_eq!(digest.checksum(), records.iter().collect::<ReplicaDigest>().checksum());
    /// ```
    pub fn combine(&mut self, other: &Self) {
        for (lane, term) in self.0.iter_mut().zip(other.0.iter()) {
            *lane = lane.wrapping_add(*term);
        }
    }

    /// Returns the BLAKE3 hash of the lanes: the 32 bytes that a head carries as `digest`.
    #[must_use]
    pub fn checksum(&self) -> [u8; 32] {
        *blake3::hash(&self.to_bytes()).as_bytes()
    }

    /// Encodes the lanes as little-endian bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (chunk, lane) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(self.0.iter()) {
            *chunk = lane.to_le_bytes();
        }
        bytes
    }

    /// Decodes the bytes of [`Self::to_bytes`]. Returns `None` if the length is not [`Self::BYTES`].
    ///
    /// ```
    /// use halligan::protocol::digest::ReplicaDigest;
    ///
    /// let digest = ReplicaDigest::empty();
    /// assert_eq!(ReplicaDigest::from_bytes(&digest.to_bytes()), Some(digest.clone()));
    /// // A checksum has 32 bytes. The lanes can't be computed from it.
    /// assert_eq!(ReplicaDigest::from_bytes(&digest.checksum()), None);
    /// ```
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let mut digest = Self::empty();
        for (lane, chunk) in digest.0.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *lane = u16::from_le_bytes(*chunk);
        }
        Some(digest)
    }
}

impl<'a> FromIterator<&'a Record> for ReplicaDigest {
    fn from_iter<I: IntoIterator<Item = &'a Record>>(records: I) -> Self {
        let mut digest = Self::empty();
        records.into_iter().for_each(|record| digest.add(record));
        digest
    }
}

impl fmt::Debug for ReplicaDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaDigest({})", blake3::Hash::from_bytes(self.checksum()).to_hex())
    }
}

/// Expands a record to lanes. The length precedes each of kind, key and body, so that different records never hash the
/// same bytes.
fn element(record: &Record) -> [u8; ReplicaDigest::BYTES] {
    let mut hasher = blake3::Hasher::new();
    for part in [record.kind.as_str(), &record.key, &record.body] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut lanes = [0; ReplicaDigest::BYTES];
    hasher.finalize_xof().fill(&mut lanes);
    lanes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::record::RecordKind;

    fn record() -> impl Strategy<Value = Record> {
        ("[a-z]{0,6}", ".{0,20}").prop_map(|(key, body)| Record::new(RecordKind::Token, key, body))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn order_and_path_do_not_matter(
            records in prop::collection::vec(record(), 0..12).prop_shuffle(),
            extra in record(),
            cut in 0..12_usize,
        ) {
            let straight: ReplicaDigest = records.iter().collect();
            let backwards: ReplicaDigest = records.iter().rev().collect();
            prop_assert_eq!(&straight, &backwards);
            let (left, right) = records.split_at(cut.min(records.len()));
            let mut joined: ReplicaDigest = left.iter().collect();
            joined.add(&extra);
            joined.combine(&right.iter().collect());
            prop_assert_ne!(&joined, &straight);
            joined.remove(&extra);
            prop_assert_eq!(&joined, &straight);
            prop_assert_eq!(ReplicaDigest::from_bytes(&straight.to_bytes()).unwrap(), straight);
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let digest = |key: &str, body: &str| {
            [Record::new(RecordKind::Token, key, body)].iter().collect::<ReplicaDigest>()
        };
        assert_ne!(digest("ab", "c"), digest("a", "bc"));
        assert_ne!(
            digest("a", "b"),
            [Record::new(RecordKind::Role, "a", "b")].iter().collect::<ReplicaDigest>()
        );
    }
}
