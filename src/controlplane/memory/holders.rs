//! Holders of node keys, in memory. Thousands of nodes authenticate each minute, and their keys hardly ever change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::protocol::key::PublicKey;
use crate::protocol::time::Time;

/// Maximum number of keys in memory. All are forgotten when there are more.
const KEPT: usize = 100_000;

/// Host that holds a node key. A host that enrolled twice is two nodes with the same key.
#[derive(Debug)]
pub(in crate::controlplane) struct Holder {
    pub(in crate::controlplane) key: PublicKey,
    pub(in crate::controlplane) nodes: Vec<Known>,
}

/// Node of a holder.
#[derive(Debug)]
pub(in crate::controlplane) struct Known {
    pub(in crate::controlplane) id: String,
    pub(in crate::controlplane) data_plane: String,
    pub(in crate::controlplane) retired_at: Option<Time>,
}

/// Holders by the identifiers of their keys, as of one state of the table of nodes.
#[derive(Debug, Default)]
struct Kept {
    as_of: u64,
    holders: HashMap<String, Arc<Holder>>,
}

/// Cached holders of keys.
#[derive(Debug, Default)]
pub(in crate::controlplane) struct Holders(Mutex<Kept>);

impl Holders {
    /// Returns the holder of a key that was read when the table was in the state `as_of`.
    pub(in crate::controlplane) fn get(&self, kid: &str, as_of: u64) -> Option<Arc<Holder>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.holders.get(kid).filter(|_| kept.as_of == as_of).cloned()
    }

    /// Keeps a holder that was read when the table was in the state `as_of`. A later state makes all earlier holders void.
    pub(in crate::controlplane) fn keep(&self, kid: &str, holder: &Arc<Holder>, as_of: u64) {
        // A poisoned lock is safe to use: an entry is whole or absent.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_of < as_of || kept.holders.len() >= KEPT {
            *kept = Kept { as_of, holders: HashMap::new() };
        }
        if kept.as_of == as_of {
            kept.holders.insert(kid.to_owned(), Arc::clone(holder));
        }
    }
}
