//! State of work that is attempted repeatedly. A lasting failure is logged when it begins and when it ends, not at each attempt:
//! a peer that refuses every call must not fill the log.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};

/// Outcome of the last attempt: true if it failed.
#[derive(Debug, Default)]
pub struct Failing(AtomicBool);

impl Failing {
    /// Returns true if the last attempt failed.
    pub fn lasts(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Records a failed attempt. Returns true if the failure begins with it.
    pub fn begin(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    /// Records a successful attempt. Returns true if a failure ends with it.
    pub fn end(&self) -> bool {
        // Read first: most attempts succeed, and a read does not take the cache line from other cores as a write does.
        self.lasts() && self.0.swap(false, Ordering::Relaxed)
    }

    /// Records the outcome of an attempt. Logs `message` as a warning if a failure begins, at level `debug` while it lasts,
    /// and its end. Returns true if a failure begins.
    pub fn log<T, E: Display>(&self, outcome: &Result<T, E>, message: &str) -> bool {
        match outcome {
            Err(error) if self.begin() => {
                tracing::warn!(%error, "{message}");
                return true;
            }
            Err(error) => tracing::debug!(%error, "{message}"),
            Ok(_) if self.end() => tracing::info!("no longer: {message}"),
            Ok(_) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::logging::captured;

    #[test]
    fn a_failure_is_logged_when_it_begins_and_when_it_ends() {
        let failing = Failing::default();
        let (good, bad): (Result<(), &str>, _) = (Ok(()), Err("refused"));
        let log = captured(|| {
            for outcome in [&good, &bad, &bad, &bad, &good, &good, &bad] {
                failing.log(outcome, "it waits");
            }
        });
        let lines: Vec<_> = log.lines().map(|line| line.trim_start().split(' ').next()).collect();
        assert_eq!(lines, [Some("WARN"), Some("INFO"), Some("WARN")], "{log}");
        assert!(log.contains("it waits error=refused") && log.contains("no longer: it waits"), "{log}");
    }
}
