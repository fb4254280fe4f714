//! Rate limits: calls of one caller, and failed authentications from one address.
//!
//! Guessing an Ed25519 signature is not feasible; the second limit protects the store and the log against noise.
//! Therefore it applies only to calls that fail: a call with a valid token succeeds, even from an address with many
//! failures.

use std::hash::Hash;
use std::net::IpAddr;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::controlplane::config;
use crate::controlplane::error::Error;
use crate::platform::net::client::counted;

/// Number of keys above which those without recent calls are removed.
const REMEMBERED: usize = 10_000;

struct Limit<K: Hash + Eq + Clone>(RateLimiter<K, HashMapStateStore<K>, DefaultClock>);

impl<K: Hash + Eq + Clone> Limit<K> {
    fn new(quota: Quota) -> Self {
        Self(RateLimiter::hashmap(quota))
    }

    fn count(&self, key: &K) -> Result<(), Error> {
        if self.0.len() > REMEMBERED {
            self.0.retain_recent();
        }
        self.0.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(self.0.clock().now());
            Error::RateLimited(wait.as_secs() + 1)
        })
    }
}

/// Rate limits in force.
pub(super) struct Limits {
    callers: Limit<String>,
    failures: Limit<IpAddr>,
}

impl Limits {
    pub(super) fn new(limits: config::Limits) -> Self {
        Self {
            callers: Limit::new(Quota::per_minute(limits.calls_per_minute)),
            failures: Limit::new(Quota::per_minute(limits.failures_per_minute)),
        }
    }

    /// Counts a call of a user or token. Fails if the limit is exceeded.
    pub(super) fn called(&self, caller: &str) -> Result<(), Error> {
        self.callers.count(&caller.to_owned())
    }

    /// Counts a failed authentication from an address. Fails if the limit is exceeded.
    pub(super) fn failed(&self, address: IpAddr) -> Result<(), Error> {
        self.failures.count(&counted(address))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_calls_too_often_is_told_when_to_come_back_and_others_are_not_held_up() {
        let two = std::num::NonZeroU32::MIN.saturating_add(1);
        let limits = Limits::new(config::Limits {
            calls_per_minute: two,
            failures_per_minute: two,
            ..config::Limits::default()
        });
        assert!(limits.called("usr_a").is_ok() && limits.called("usr_a").is_ok());
        let third = limits.called("usr_a");
        assert!(matches!(third, Err(Error::RateLimited(1..=31))), "{third:?}");
        assert!(limits.called("usr_b").is_ok());
    }

    #[test]
    fn who_has_a_network_of_ipv6_addresses_has_one_share() {
        let two = std::num::NonZeroU32::MIN.saturating_add(1);
        let limits = Limits::new(config::Limits {
            calls_per_minute: two,
            failures_per_minute: two,
            ..config::Limits::default()
        });
        let failed = |address: String| limits.failed(address.parse().unwrap()).is_ok();
        let passed = (0..1000).filter(|number| failed(format!("2001:db8::{number:x}:{number:x}"))).count();
        assert_eq!(passed, 2);
        assert!(failed("2001:db8:0:1::1".into()) && failed("192.0.2.1".into()), "others are not held up");
    }
}
