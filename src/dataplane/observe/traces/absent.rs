//! Replaces tracing in a build without it: no span is made or sent.

use super::TracesError;
use super::config::TracingConfig;
use crate::dataplane::decide::Decision;
use crate::dataplane::node::connection::Outcome;
use crate::dataplane::node::identity::Identity;

/// Returns an error: this build cannot export spans.
pub fn check(_: &TracingConfig) -> Result<(), TracesError> {
    Err(TracesError::NotBuilt)
}

/// Exporter that sends nothing.
#[derive(Clone, Debug, Default)]
pub struct Traces;

impl Traces {
    /// Returns an exporter that sends nothing, or an error if tracing is configured.
    pub fn start(config: Option<&TracingConfig>, _: &Identity) -> Result<Self, TracesError> {
        config.map_or(Ok(()), check).map(|()| Self)
    }

    /// Returns an empty trace.
    #[must_use]
    pub fn request<'h>(&self, _: impl Fn(&'static str) -> Option<&'h str>) -> Trace {
        Trace
    }

    /// Returns an empty trace.
    #[must_use]
    pub fn round(&self, _: &'static str) -> Trace {
        Trace
    }

    /// Does nothing: no span waits.
    pub fn close(&self) {}
}

/// Empty trace of a request or round.
#[derive(Debug)]
pub struct Trace;

impl Trace {
    /// Records no span.
    pub fn decided(self, _: &Decision, _: &str) {}

    /// Records no span.
    pub fn synced(self, _: Outcome) {}

    /// Records no span.
    pub fn reconciled(self, _: Option<usize>) {}
}
