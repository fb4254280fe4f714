//! Limits the share of one client in a limited number of places, so that it cannot exclude the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client::counted;

/// Number of places that one client may hold at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// This number.
    Fixed(u32),
    /// A quarter of the places that the others leave, and at least one. A fixed quarter would let four clients take all
    /// places. With this share they take two thirds, and each further client leaves three quarters of the rest.
    Quarter,
}

impl From<Option<u32>> for Share {
    /// Returns the share that a configuration sets, or the default.
    fn from(configured: Option<u32>) -> Self {
        configured.map_or(Self::Quarter, Self::Fixed)
    }
}

impl Share {
    /// Returns true if a client with `held` places may take one of `free` places.
    fn admits(self, held: u32, free: u32) -> bool {
        held < match self {
            Self::Fixed(most) => most,
            Self::Quarter => held.saturating_add(free).div_ceil(4),
        }
    }
}

/// Share of each client of a listener, and the clients without one.
#[derive(Clone)]
pub struct Each {
    share: Share,
    exempt: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

impl std::fmt::Debug for Each {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Each").field("share", &self.share).finish_non_exhaustive()
    }
}

impl Each {
    /// Returns a share that every client has.
    #[must_use]
    pub fn everybody(share: Share) -> Self {
        Self::except(share, |_| false)
    }

    /// Returns a share that clients on other hosts have. A proxy on this host brings the connections of many clients.
    #[must_use]
    pub fn other_hosts(share: Share) -> Self {
        Self::except(share, |client| client.is_loopback())
    }

    /// Returns a share that every client has except those for which `exempt` returns true: proxies, which bring the
    /// connections of many clients.
    #[must_use]
    pub fn except(share: Share, exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self { share, exempt: Arc::new(exempt) }
    }

    /// Returns the share of `client`, or `None` if it is exempt.
    pub(super) fn share_of(&self, client: IpAddr) -> Option<Share> {
        (!(self.exempt)(client.to_canonical())).then_some(self.share)
    }
}

/// Places that clients hold, counted as in [`counted`].
#[derive(Debug, Default)]
pub struct Shares {
    taken: Mutex<HashMap<IpAddr, u32>>,
}

/// Place within a client's share. It is free again once this is dropped.
#[derive(Debug)]
pub struct Held {
    shares: Arc<Shares>,
    client: IpAddr,
}

impl Shares {
    /// Takes one of `free` places for `client`. Returns `None` if the client holds its share.
    #[must_use]
    pub fn take_place(self: &Arc<Self>, client: IpAddr, share: Share, free: usize) -> Option<Held> {
        let client = counted(client);
        let mut taken = self.lock();
        let held = taken.get(&client).copied().unwrap_or_default();
        if !share.admits(held, u32::try_from(free).unwrap_or(u32::MAX)) {
            return None;
        }
        taken.insert(client, held + 1);
        Some(Held { shares: Arc::clone(self), client })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
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
        let shares = Arc::<Shares>::default();
        let take = |client: &str| shares.take_place(client.parse().unwrap(), Share::Fixed(2), 9);
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

    #[test]
    fn a_few_clients_do_not_take_all_places() {
        let total = 1024;
        let shares = Arc::<Shares>::default();
        let (mut places, mut each) = (Vec::new(), Vec::new());
        for number in 0..total {
            let client = IpAddr::from([
                10,
                0,
                u8::try_from(number / 256).unwrap(),
                u8::try_from(number % 256).unwrap(),
            ]);
            let before = places.len();
            while places.len() < total
                && let Some(place) = shares.take_place(client, Share::Quarter, total - places.len())
            {
                places.push(place);
            }
            each.push(places.len() - before);
            if places.len() == total {
                break;
            }
        }
        assert_eq!(each[..4], [256, 192, 144, 108]);
        assert!(each.len() > 20 && each.iter().all(|&held| held > 0), "{each:?}");
    }

    #[test]
    fn a_proxy_has_no_share() {
        let each = Each::except(Share::Fixed(3), |client| client == IpAddr::from([10, 0, 0, 1]));
        for (client, share) in
            [("10.0.0.1", None), ("::ffff:10.0.0.1", None), ("10.0.0.2", Some(Share::Fixed(3)))]
        {
            assert_eq!(each.share_of(client.parse().unwrap()), share, "{client}");
        }
        let each = Each::other_hosts(Share::from(None));
        for (client, share) in [
            ("127.0.0.2", None),
            ("::1", None),
            ("::ffff:127.0.0.1", None),
            ("192.0.2.1", Some(Share::Quarter)),
        ] {
            assert_eq!(each.share_of(client.parse().unwrap()), share, "{client}");
        }
    }
}
