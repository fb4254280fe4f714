//! Cache of tokens whose signature was verified. A hit saves only the signature check.
//!
//! Only tokens with a valid signature are stored (`slots.rs` beside this). Each cache belongs to one keyset.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::slots::Slots;
use crate::protocol::keyset::Keyset;
use crate::protocol::token::{self, TokenError, VerifiedToken};

/// Number of slots. A token takes about 1.5 KiB, so a full cache takes 6 MiB. Tests have a cache that is cheap to drop, since
/// dropping a slot looks at every thread's loads, and whose slots they do fill.
const SLOTS: usize = if cfg!(debug_assertions) { 64 } else { 4096 };

/// Counts of hits and misses.
#[derive(Debug, Default)]
pub(in crate::dataplane) struct Lookups {
    pub(in crate::dataplane) hits: AtomicU64,
    pub(in crate::dataplane) misses: AtomicU64,
}

/// Tokens whose signature was verified under one keyset.
pub struct Signatures {
    tokens: Slots<VerifiedToken>,
    lookups: Arc<Lookups>,
}

impl Default for Signatures {
    fn default() -> Self {
        Self { tokens: Slots::new(SLOTS), lookups: Arc::default() }
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

    /// Returns the token of bytes that were verified before. Their signature was valid under the keyset of this cache.
    #[must_use]
    pub fn known(&self, bytes: &[u8]) -> Option<Arc<VerifiedToken>> {
        let token = self.tokens.slot_for(bytes).get(bytes)?;
        self.lookups.hits.fetch_add(1, Ordering::Relaxed);
        Some(token)
    }

    /// Verifies `bytes` under `keys`. Returns the cached result for bytes that were verified before.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use halligan::dataplane::decide::signatures::Signatures;
    /// use halligan::protocol::token::TokenError;
    ///
    /// # mod world {
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_examples.rs"));
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/doc_snapshot.rs"));
    /// # }
    /// let (cache, keyset, token) = (Signatures::default(), world::keyset(), world::token());
    /// assert!(cache.known(token.as_bytes()).is_none());
    /// let first = cache.verify(token.as_bytes(), &keyset)?;
    /// let second = cache.verify(token.as_bytes(), &keyset)?;
    /// assert!(Arc::ptr_eq(&first, &second));
    ///
    /// // Only valid tokens are stored, so nobody can fill the cache with others.
    /// let error = cache.verify(b"no token", &keyset).err();
    /// assert_eq!(error, Some(TokenError::Malformed));
    /// assert!(cache.known(b"no token").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(&self, bytes: &[u8], keys: &Keyset) -> Result<Arc<VerifiedToken>, TokenError> {
        let slot = self.tokens.slot_for(bytes);
        if let Some(token) = slot.get(bytes) {
            self.lookups.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(token);
        }
        self.lookups.misses.fetch_add(1, Ordering::Relaxed);
        let token = Arc::new(token::verify(bytes, keys)?);
        slot.put(bytes, &token);
        Ok(token)
    }
}
