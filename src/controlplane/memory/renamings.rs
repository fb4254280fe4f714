//! Renamings of nodes, which are limited: each is a change of the replica that every host of the data plane fetches.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::protocol::time::Time;

/// Time in which a node may be renamed once more, in seconds. A name that is stated too early takes effect with a later
/// statement.
pub(in crate::controlplane) const INTERVAL: i64 = 60;
/// Number of renamings of a node at once, for an operator who corrects a name.
pub(in crate::controlplane) const BURST: i64 = 10;

/// Times at which nodes have their full number of renamings again.
#[derive(Debug, Default)]
pub(in crate::controlplane) struct Renamings(Mutex<HashMap<String, Time>>);

impl Renamings {
    /// Returns true if a node may be renamed now, and counts the renaming.
    pub(in crate::controlplane) fn begin(&self, node: &str, now: Time) -> bool {
        // A poisoned lock is safe to use: a panic loses at most one renaming.
        let mut full_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not block renamings for years.
        full_at.retain(|_, at| (1..=BURST * INTERVAL).contains(&at.since(now)));
        let full = full_at.get(node).copied().unwrap_or(now).plus(INTERVAL);
        let may = full.since(now) <= BURST * INTERVAL;
        if may {
            full_at.insert(node.to_owned(), full);
        }
        may
    }
}
