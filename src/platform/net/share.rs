//! Limits the share of one client in a limited number of places, so that it cannot exclude the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client::counted;

/// Places that clients hold, counted as in [`counted`].
#[derive(Debug)]
pub struct Shares {
    each: u32,
    taken: Mutex<HashMap<IpAddr, u32>>,
}

/// Place within a client's share. It is free again once this is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    client: IpAddr,
}

impl Shares {
    /// Returns shares of `each` places for each client.
    #[must_use]
    pub fn of(each: u32) -> Arc<Self> {
        Arc::new(Self { each, taken: Mutex::default() })
    }

    /// Takes a place for `client`. Returns `None` if it holds its share.
    #[must_use]
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<Share> {
        let client = counted(client);
        let mut taken = self.lock();
        let count = taken.entry(client).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Share { shares: Arc::clone(self), client })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        if let Some(count) = taken.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_client_has_its_share_and_no_more_and_the_others_have_theirs() {
        let shares = Shares::of(2);
        let take = |client: &str| shares.take(client.parse().unwrap());
        let (first, second) = (take("192.0.2.1").unwrap(), take("::ffff:192.0.2.1").unwrap());
        assert!(take("192.0.2.1").is_none());
        let other = take("192.0.2.2").unwrap();
        // All addresses of a network count as one client.
        let network = [take("2001:db8:1:2::3").unwrap(), take("2001:db8:1:2::4").unwrap()];
        assert!(take("2001:db8:1:2::5").is_none() && take("2001:db8:1:3::5").is_some());
        drop(first);
        drop(take("192.0.2.1").unwrap());
        let again = take("192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_none());
        drop((second, other, network, again));
        assert!(shares.lock().is_empty(), "who has gone costs nothing");
    }
}
