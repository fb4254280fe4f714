//! Rate limits: the maximum number of uses of a token on this node, from its record.
//!
//! Each token has a bucket, stored as one instant: the time at which the bucket is full again (generic cell rate algorithm,
//! ITU-T I.371). A bucket holds the uses of a minute. Only allowed tokens have one, so that invented tokens fill no memory;
//! the number of buckets is limited as well.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::protocol::id::TokenId;

/// Maximum number of buckets. Each takes about a hundred bytes.
const MAX_BUCKETS: usize = 65_536;
/// Capacity of a bucket, as the time that fills it.
const BURST: Duration = Duration::from_mins(1);

/// Buckets of the tokens with a rate limit, or of what else is counted.
#[derive(Debug)]
pub struct RateLimits<K = TokenId> {
    full_at: Mutex<HashMap<K, Instant>>,
}

impl<K> Default for RateLimits<K> {
    fn default() -> Self {
        Self { full_at: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash> RateLimits<K> {
    /// Returns the time to wait until a use of `token` can be taken, without taking one.
    pub fn check(&self, token: &K, per_minute: u32, now: Instant) -> Result<(), Duration> {
        let one = BURST.checked_div(per_minute).ok_or(BURST)?;
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let before = full_at.get(token).copied().unwrap_or(now).max(now);
        let over = (before + one).saturating_duration_since(now).saturating_sub(BURST);
        if over.is_zero() { Ok(()) } else { Err(over) }
    }

    /// Takes one use of `token` at `now`, with a limit of `per_minute`. Returns the time to wait if the bucket is empty.
    pub fn take_use(&self, token: &K, per_minute: u32, now: Instant) -> Result<(), Duration> {
        // A limit of zero allows no use.
        let one = BURST.checked_div(per_minute).ok_or(BURST)?;
        // No code panics while it holds the lock.
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= MAX_BUCKETS && !full_at.contains_key(token) {
            full_at.retain(|_, full_at| *full_at > now);
            if full_at.len() >= MAX_BUCKETS {
                return Err(BURST);
            }
        }
        let before = full_at.get(token).copied().unwrap_or(now).max(now);
        let after = before + one;
        let over = after.saturating_duration_since(now).saturating_sub(BURST);
        if over.is_zero() {
            full_at.insert(token.clone(), after);
            Ok(())
        } else {
            Err(over)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn token(name: &str) -> TokenId {
        TokenId::new(name).unwrap()
    }

    #[test]
    fn a_minutes_worth_passes_at_once_and_then_one_at_a_time() {
        let (limits, now, a) = (RateLimits::default(), Instant::now(), token("tok_a"));
        for _ in 0..6 {
            assert_eq!(limits.take_use(&a, 6, now), Ok(()));
        }
        assert_eq!(limits.take_use(&a, 6, now), Err(Duration::from_secs(10)));
        assert_eq!(limits.take_use(&token("tok_b"), 6, now), Ok(()), "another token has its own");
        let later = now + Duration::from_secs(10);
        assert_eq!(limits.take_use(&a, 6, later), Ok(()));
        assert!(limits.take_use(&a, 6, later).is_err());
        assert_eq!(limits.take_use(&a, 0, later), Err(BURST));
        // A check takes nothing.
        let b = token("tok_b");
        for _ in 0..10 {
            assert_eq!(limits.check(&b, 6, now), Ok(()));
        }
        assert_eq!(limits.check(&a, 6, later), Err(Duration::from_secs(10)));
    }

    proptest! {
        #[test]
        fn in_no_minute_do_more_than_two_minutes_worth_pass(
            per_minute in 1_u32..50,
            pauses in prop::collection::vec(0_u64..5_000, 1..300),
        ) {
            let (limits, a, mut now) = (RateLimits::default(), token("tok_a"), Instant::now());
            let mut passed: Vec<Instant> = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                if limits.take_use(&a, per_minute, now).is_ok() {
                    passed.push(now);
                }
                let recent = passed.iter().filter(|at| now.duration_since(**at) < BURST).count();
                prop_assert!(recent <= 2 * per_minute as usize);
            }
        }
    }
}
