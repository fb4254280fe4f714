//! Result of the last try to write to the database.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time for which the result of a probe is reused. Anybody may request `/readyz`, and a request must not cost a write
/// each time.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// Result of the last probe.
#[derive(Debug, Default)]
pub(in crate::controlplane) struct Probe(Mutex<Option<(Instant, Result<(), String>)>>);

impl Probe {
    /// Returns the result of the last probe if that is recent, and otherwise the result of `probe`. Callers wait for a probe in
    /// progress.
    pub(in crate::controlplane) fn result(
        &self,
        probe: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, outcome)) = &*last
            && at.elapsed() < PROBE_INTERVAL
        {
            return outcome.clone();
        }
        let outcome = probe();
        *last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    /// Drops the result, as if its time had passed.
    #[cfg(test)]
    pub(in crate::controlplane) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
