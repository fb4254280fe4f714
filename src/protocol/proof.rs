//! Rules of a node's proof (RFC 7523), for everyone who takes one: the control plane and peers.
//!
//! A proof is good for one call. It says when it was made and when it ends, at most [`LIFETIME`] later, and is refused once it
//! has ended. There is no leeway on its end: the lifetime is the leeway of a node whose clock is behind. A node whose clock is
//! ahead has [`LEEWAY`].

use std::collections::HashMap;

use super::time::Time;

/// The longest proof, in bytes.
pub const MAX_PROOF: usize = 2048;
/// The longest that a proof is good for, in seconds.
pub const LIFETIME: i64 = 300;
/// A proof is made less than this ahead of the receiver's clock, in seconds.
pub const LEEWAY: i64 = 300;

/// Calls of one node that are remembered: more than it may make while a proof is good.
const MAX_SEEN: usize = 60_000;

/// Why the times of a proof are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untimely {
    /// It ends before it was made.
    Backwards,
    /// It is good for longer than any proof may be.
    Long,
    /// It has ended.
    Late {
        /// How long ago, in seconds.
        by: i64,
    },
    /// It is from the future.
    Early {
        /// How far ahead it was made, in seconds.
        by: i64,
    },
}

/// Checks that a proof that was made at `iat` and ends at `exp` is good.
pub fn check_times(iat: Time, exp: Time, now: Time) -> Result<(), Untimely> {
    if exp <= iat {
        return Err(Untimely::Backwards);
    }
    if exp.since(iat) > LIFETIME {
        return Err(Untimely::Long);
    }
    if exp <= now {
        return Err(Untimely::Late { by: now.since(exp) });
    }
    if iat >= now.plus(LEEWAY) {
        return Err(Untimely::Early { by: iat.since(now) });
    }
    Ok(())
}

/// Returns true while a proof that was made at `iat` and ends at `exp` is good.
#[must_use]
pub fn timely(iat: Time, exp: Time, now: Time) -> bool {
    check_times(iat, exp, now).is_ok()
}

/// The calls that one node has proved, each by the digest of its `jti`, until its proof has ended.
///
/// They are in memory: after a restart of the receiver, a proof that has not ended counts once more.
#[derive(Debug, Default)]
pub struct Seen {
    until: HashMap<[u8; 16], Time>,
    /// How many there may be before those that have ended are forgotten.
    sweep_at: usize,
}

impl Seen {
    /// Notes a call whose proof ends at `exp`. Returns false for a call that was made before, and for one too many.
    #[must_use]
    pub fn note(&mut self, jti: &str, exp: Time, now: Time) -> bool {
        if self.until.len() >= self.sweep_at {
            self.until.retain(|_, until| now < *until);
            // Twice what is left: each call pays for a share of the sweep only.
            self.sweep_at = (2 * self.until.len()).clamp(64, MAX_SEEN);
        }
        if self.until.len() >= MAX_SEEN {
            return false;
        }
        let mut name = [0; 16];
        name.copy_from_slice(&blake3::hash(jti.as_bytes()).as_bytes()[..16]);
        self.until.insert(name, exp).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_from_when_it_was_made_until_it_ends() {
        let now = Time::from_unix(1_800_000_000);
        for (iat, exp, good, what) in [
            (0, 300, true, "fresh"),
            (-299, 1, true, "about to end"),
            (-300, 0, false, "ended now"),
            (-599, -299, false, "ended 299 s ago"),
            (0, 301, false, "good for too long"),
            (0, 0, false, "good for no time"),
            (10, 5, false, "ends before it was made"),
            (299, 599, true, "of a clock that is ahead"),
            (300, 600, false, "of the future"),
            (i64::MIN, i64::MAX, false, "everything"),
            (i64::MAX, i64::MIN, false, "nothing"),
        ] {
            let at = |offset: i64| Time::from_unix(now.unix().saturating_add(offset));
            assert_eq!(timely(at(iat), at(exp), now), good, "{what}");
        }
    }

    #[test]
    fn a_call_counts_once_until_its_proof_has_ended() {
        let (mut seen, now) = (Seen::default(), Time::from_unix(1_800_000_000));
        for number in 0..MAX_SEEN {
            assert!(seen.note(&number.to_string(), now.plus(300), now));
        }
        assert!(!seen.note("0", now.plus(300), now), "made before");
        assert!(!seen.note("another", now.plus(300), now), "one too many");
        assert!(seen.note("another", now.plus(600), now.plus(300)), "those before have ended");
        assert!(!seen.note("another", now.plus(600), now.plus(301)));
        assert!(seen.until.len() < 100);
    }
}
