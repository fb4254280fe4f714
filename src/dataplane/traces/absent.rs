//! What stands in for traces where they are not built in: nothing is followed, and nothing is told.

use super::TracesError;
use super::config::TracingConfig;
use crate::dataplane::decide::Decision;
use crate::dataplane::identity::Identity;
use crate::dataplane::sync::state::Outcome;

/// Refuses: there is nothing that could send.
pub fn check(_: &TracingConfig) -> Result<(), TracesError> {
    Err(TracesError::NotBuilt)
}

/// Where spans would go.
#[derive(Clone, Debug, Default)]
pub struct Traces;

impl Traces {
    /// Nothing to start; an error if it was asked for.
    pub fn start(config: Option<&TracingConfig>, _: &Identity) -> Result<Self, TracesError> {
        config.map_or(Ok(()), check).map(|()| Self)
    }

    /// Looks at no header.
    #[must_use]
    pub fn request<'h>(&self, _: impl Fn(&'static str) -> Option<&'h str>) -> Trace {
        Trace
    }

    /// Follows no round.
    #[must_use]
    pub fn round(&self, _: &'static str) -> Trace {
        Trace
    }

    /// Nothing waits to be sent.
    pub fn close(&self) {}
}

/// What is not followed.
#[derive(Debug)]
pub struct Trace;

impl Trace {
    /// Tells nobody.
    pub fn decided(self, _: &Decision, _: &str) {}

    /// Tells nobody.
    pub fn synced(self, _: Outcome) {}

    /// Tells nobody.
    pub fn reconciled(self, _: Option<usize>) {}
}
