//! Cache of verified bytes with a fixed number of slots.
//!
//! There is one slot for each hash value, and new bytes replace those in their slot. The memory is bounded, no lookup waits,
//! and an attacker who floods the cache with valid bytes only slows answers down. A hit compares every byte.

use std::hash::BuildHasher;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use zeroize::Zeroizing;

struct Entry<T> {
    bytes: Zeroizing<Box<[u8]>>,
    value: Arc<T>,
}

/// Values by the bytes that they were verified from.
pub(in crate::dataplane) struct Slots<T> {
    slots: Box<[ArcSwapOption<Entry<T>>]>,
    // Seeded at random for each cache, so that an attacker cannot choose bytes that share a slot.
    hasher: foldhash::quality::RandomState,
}

impl<T> Slots<T> {
    /// Returns a cache with this number of slots, at least one.
    pub(in crate::dataplane) fn new(count: usize) -> Self {
        let slots = (0..count.max(1)).map(|_| ArcSwapOption::empty()).collect();
        Self { slots, hasher: foldhash::quality::RandomState::default() }
    }

    /// Returns the slot of `bytes`. A caller looks it up once for a read and a write.
    pub(in crate::dataplane) fn slot_for(&self, bytes: &[u8]) -> Slot<'_, T> {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits choose the slot")]
        let hash = self.hasher.hash_one(bytes) as usize;
        Slot(&self.slots[hash % self.slots.len()])
    }
}

/// Slot of some bytes.
pub(in crate::dataplane) struct Slot<'s, T>(&'s ArcSwapOption<Entry<T>>);

impl<T> Slot<'_, T> {
    /// Returns the value, if the slot holds these very bytes.
    pub(in crate::dataplane) fn get(&self, bytes: &[u8]) -> Option<Arc<T>> {
        let entry = self.0.load();
        entry.as_ref().filter(|entry| **entry.bytes == *bytes).map(|entry| Arc::clone(&entry.value))
    }

    /// Stores the value of verified bytes.
    pub(in crate::dataplane) fn put(&self, bytes: &[u8], value: &Arc<T>) {
        let entry = Entry { bytes: Zeroizing::new(bytes.into()), value: Arc::clone(value) };
        self.0.store(Some(Arc::new(entry)));
    }
}
