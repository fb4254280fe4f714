//! Bookkeeping: writes that inform people and decide nothing. A failure of one is logged and counted, and never fails the
//! call that caused it: on a full disk, reads go on and tokens stay valid.

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::counter::Counter;

use super::error::Error;

/// State of the bookkeeping.
#[derive(Debug, Default)]
pub(super) struct Bookkeeping {
    failing: AtomicBool,
    /// Number of writes that were given up.
    pub(super) lost: Counter,
}

impl Bookkeeping {
    /// Takes the outcome of a write. Logs when writes begin to fail and when they succeed again, not each failure: there is
    /// one for every call.
    pub(super) fn settle(&self, what: &str, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => {
                if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(what, "bookkeeping works again");
                }
            }
            Err(error) => {
                self.lost.inc();
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, what, "bookkeeping fails; calls are answered without it");
                }
            }
        }
    }
}
