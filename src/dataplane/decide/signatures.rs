//! Cache of tokens whose signature was verified. A hit saves only the signature check.
//!
//! The cache has a fixed number of slots, one for each hash value, and a new token replaces the one in its slot. Its memory
//! is bounded, no lookup waits, and an attacker who floods it with valid tokens only slows answers down. Only tokens with a
//! valid signature are stored, and a hit compares every byte. Each cache belongs to one keyset.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use zeroize::Zeroizing;

use crate::protocol::keyset::Keyset;
use crate::protocol::token::{self, TokenError, VerifiedToken};

/// Number of slots. A token takes about 1.5 KiB, so a full cache takes 6 MiB.
const SLOTS: usize = 4096;

struct Entry {
    bytes: Zeroizing<Box<[u8]>>,
    token: Arc<VerifiedToken>,
}

/// Counts of hits and misses.
#[derive(Debug, Default)]
pub(in crate::dataplane) struct Lookups {
    pub(in crate::dataplane) hits: AtomicU64,
    pub(in crate::dataplane) misses: AtomicU64,
}

/// Tokens whose signature was verified under one keyset.
pub struct Signatures {
    slots: Box<[ArcSwapOption<Entry>]>,
    // Seeded at random for each cache, so that an attacker cannot choose tokens that share a slot.
    hasher: foldhash::quality::RandomState,
    lookups: Arc<Lookups>,
}

impl Default for Signatures {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| ArcSwapOption::empty()).collect(),
            hasher: foldhash::quality::RandomState::default(),
            lookups: Arc::default(),
        }
    }
}

impl Signatures {
    /// Returns an empty cache for another keyset. It continues the counts.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self { lookups: Arc::clone(&self.lookups), ..Self::default() }
    }

    /// Returns the counts.
    pub(in crate::dataplane) fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// Verifies `bytes` under `keys`. Returns the cached result for bytes that were verified before.
    pub fn verify(&self, bytes: &[u8], keys: &Keyset) -> Result<Arc<VerifiedToken>, TokenError> {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits choose the slot")]
        let slot = &self.slots[self.hasher.hash_one(bytes) as usize % SLOTS];
        if let Some(entry) = slot.load().as_ref().filter(|entry| **entry.bytes == *bytes) {
            self.lookups.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Arc::clone(&entry.token));
        }
        self.lookups.misses.fetch_add(1, Ordering::Relaxed);
        let token = Arc::new(token::verify(bytes, keys)?);
        slot.store(Some(Arc::new(Entry { bytes: Zeroizing::new(bytes.into()), token: Arc::clone(&token) })));
        Ok(token)
    }
}
