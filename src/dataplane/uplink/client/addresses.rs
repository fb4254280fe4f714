//! Addresses of a control plane: the one that answered last comes first, those that failed come last.

use std::sync::{Mutex, PoisonError};

/// Addresses, and the order in which they are tried.
pub(super) struct Addresses {
    urls: Vec<String>,
    order: Mutex<Vec<usize>>,
}

impl Addresses {
    /// Returns the addresses in the order of the configuration.
    pub(super) fn new(urls: Vec<String>) -> Self {
        let order = Mutex::new((0..urls.len()).collect());
        let urls = urls.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Self { urls, order }
    }

    /// Returns all addresses in the present order, with their indices in the configuration.
    pub(super) fn in_turn(&self) -> Vec<(usize, &str)> {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner).clone();
        order.into_iter().map(|place| (place, &*self.urls[place])).collect()
    }

    /// Moves an address that answered to the front.
    pub(super) fn prefer(&self, place: usize) {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.retain(|other| *other != place);
        order.insert(0, place);
    }

    /// Moves an address that failed to the end.
    pub(super) fn put_last(&self, place: usize) {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.retain(|other| *other != place);
        order.push(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_answered_last_is_asked_first() {
        let addresses = Addresses::new(vec!["a/".into(), "b".into(), "c".into()]);
        let order = || addresses.in_turn().into_iter().map(|(_, url)| url).collect::<String>();
        assert_eq!(order(), "abc");
        addresses.put_last(0);
        assert_eq!(order(), "bca");
        addresses.prefer(2);
        assert_eq!(order(), "cba");
        addresses.put_last(2);
        assert_eq!(order(), "bac");
    }
}
