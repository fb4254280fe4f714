//! A counter for what happens at every decision: each thread counts in a place of its own, so that no two cores pass one
//! cache line back and forth. Reading it adds up the places.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Places. Threads beyond so many share them: slower, and as right.
const PLACES: usize = 16;

/// As large as what the cores of x86-64 and aarch64 fetch at once: two lines of 64 bytes.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place(AtomicU64);

/// A counter.
#[derive(Debug, Default)]
pub(super) struct Tally([Place; PLACES]);

thread_local! {
    static OWN: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % PLACES
    };
}

impl Tally {
    /// Counts one.
    pub(super) fn count(&self) {
        self.0[OWN.with(|own| *own)].0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many have been counted.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|place| place.0.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn nothing_is_lost_with_more_threads_than_places() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            for _ in 0..3 * PLACES {
                scope.spawn(|| (0..1000).for_each(|_| tally.count()));
            }
        });
        assert_eq!(tally.total(), 3 * PLACES as u64 * 1000);
    }
}
