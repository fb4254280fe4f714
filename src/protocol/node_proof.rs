//! Defines the rules of node proofs (RFC 7523), by which a node authenticates to the control plane and to its peers.
//!
//! A proof authenticates one call. It states its time of signature and its end, at most [`LIFETIME`] later, and is
//! rejected after its end without leeway: the lifetime itself is the leeway for a node whose clock is behind. A node
//! whose clock is ahead has [`LEEWAY`].

use std::collections::HashMap;

use rand_core::CryptoRng;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::id::random_id;
use super::time::Time;

/// Maximum length of a proof's JWS, in bytes.
pub const MAX_PROOF: usize = 2048;
/// Maximum time from a proof's signature to its end, in seconds.
pub const LIFETIME: i64 = 300;
/// A proof's signature must be less than this many seconds ahead of the receiver's clock.
pub const LEEWAY: i64 = 300;

/// Maximum length of an [`Instance`], in bytes.
const MAX_INSTANCE: usize = 64;

/// Number of calls that are remembered for each node. A node that makes more within the lifetime of a proof is rejected.
const MAX_SEEN: usize = 60_000;

/// Claim `instance`: one start of a daemon, at most 64 bytes of text. A longer one makes the claims unreadable, like a claim of
/// another type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance(String);

impl Instance {
    /// Draws the instance of a start.
    pub fn random(rng: &mut dyn CryptoRng) -> Self {
        Self(random_id("", rng))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Instance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() > MAX_INSTANCE {
            return Err(D::Error::custom(format_args!("an instance of more than {MAX_INSTANCE} bytes")));
        }
        Ok(Self(text))
    }
}

/// Reasons to reject the times of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untimely {
    /// The end is not after the signature.
    Backwards,
    /// The lifetime exceeds [`LIFETIME`].
    Long,
    /// The proof has ended.
    Late {
        /// Seconds since the end.
        by: i64,
    },
    /// The signature is in the future by [`LEEWAY`] or more.
    Early {
        /// Seconds until the time of the signature.
        by: i64,
    },
}

/// Checks the times of a proof that was signed at `iat` and ends at `exp`, at the receiver's time `now`.
///
/// ```
/// use halligan::protocol::node_proof::{LIFETIME, Untimely, check_times};
/// use halligan::protocol::time::Time;
///
/// let signed = Time::from_unix(1_800_000_000);
/// let end = signed.plus(LIFETIME);
/// assert_eq!(check_times(signed, end, signed), Ok(()));
/// assert_eq!(check_times(signed, end, end.plus(2)), Err(Untimely::Late { by: 2 }));
/// assert_eq!(check_times(signed, end.plus(1), signed), Err(Untimely::Long));
/// ```
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

/// Returns true if [`check_times`] accepts the times.
///
/// ```
/// use halligan::protocol::node_proof::{LIFETIME, timely};
/// use halligan::protocol::time::Time;
///
/// let signed = Time::from_unix(1_800_000_000);
/// let end = signed.plus(LIFETIME);
/// assert!(timely(signed, end, signed) && !timely(signed, end, end));
/// ```
#[must_use]
pub fn timely(iat: Time, exp: Time, now: Time) -> bool {
    check_times(iat, exp, now).is_ok()
}

/// Calls that one node has proved. Each is stored as a digest of its `jti` until its proof ends, to detect replays.
///
/// The calls are in memory only: after a restart of the receiver, a proof that has not ended is accepted once more.
///
/// ```
/// use halligan::protocol::node_proof::Seen;
/// use halligan::protocol::time::Time;
///
/// let (now, mut seen) = (Time::from_unix(1_800_000_000), Seen::default());
/// assert!(seen.note("call 1", now.plus(300), now));
/// assert!(!seen.note("call 1", now.plus(300), now.plus(1)), "a replay");
/// ```
#[derive(Debug, Default)]
pub struct Seen {
    until: HashMap<[u8; 16], Time>,
    /// Number of entries at which the next insertion first deletes those that have ended.
    sweep_at: usize,
}

impl Seen {
    /// Records a call whose proof ends at `exp`. Returns false if the call is a replay, or if the node has made too many
    /// calls.
    ///
    /// ```
    /// use halligan::protocol::node_proof::Seen;
    /// use halligan::protocol::time::Time;
    ///
    /// let (now, mut seen) = (Time::from_unix(1_800_000_000), Seen::default());
    /// assert!(seen.note("call 1", now.plus(300), now));
    /// assert!(seen.note("call 2", now.plus(300), now));
    /// // An attacker replays the proof of the first call.
    /// assert!(!seen.note("call 1", now.plus(300), now.plus(60)));
    /// ```
    #[must_use]
    pub fn note(&mut self, jti: &str, exp: Time, now: Time) -> bool {
        if self.until.len() >= self.sweep_at {
            self.until.retain(|_, until| now < *until);
            // Twice the remaining entries: the cost of a sweep is spread over as many insertions.
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
