//! Signatures that have been verified: spares the curve arithmetic for a token seen before, and nothing else.
//!
//! A fixed number of slots, one per hash value; a newcomer takes the place of whoever sits there. So the memory is
//! bounded, nothing is ever waited for, and an attacker who floods it with valid tokens gains slower answers at most.
//! Only tokens whose signature held get in, and a hit compares every byte. A cache belongs to one keyset.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use zeroize::Zeroizing;

use crate::protocol::keyset::Keyset;
use crate::protocol::token::{self, TokenError, VerifiedToken};

/// Slots: at some 1.5 KiB a token, 6 MiB when full.
const SLOTS: usize = 4096;

struct Entry {
    bytes: Zeroizing<Box<[u8]>>,
    token: Arc<VerifiedToken>,
}

/// How often a signature was known, and how often it had to be verified.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}

/// Tokens whose signature held under one keyset.
pub struct Signatures {
    slots: Box<[ArcSwapOption<Entry>]>,
    // Seeded at random for each cache: nobody outside can choose tokens that share a slot.
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
    /// An empty one for another keyset, which goes on counting.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self { lookups: Arc::clone(&self.lookups), ..Self::default() }
    }

    /// What was counted.
    pub(super) fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// Verifies `bytes` under `keys`, or knows that it has been done.
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
