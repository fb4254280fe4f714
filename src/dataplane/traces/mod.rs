//! Traces: decisions, and rounds with the control plane, told to a collector as spans (OpenTelemetry, by OTLP over HTTP).
//!
//! They are for whoever follows a request through a whole platform; what counts as proof is the audit log. So a span says
//! what the decision's event says, in words and ids out of closed lists, and nothing a caller wrote: no token, no path, no
//! `tracestate`. A collector that is slow or gone costs spans, never an answer. Where no collector is configured nothing is
//! done, and without the cargo feature `otel` nothing of it is built in.

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod carrier;
pub mod config;
#[cfg(feature = "otel")]
mod spans;

use thiserror::Error;

#[cfg(not(feature = "otel"))]
pub use absent::{Trace, Traces, check};
#[cfg(feature = "otel")]
pub use spans::{Trace, Traces, check};

use super::upstream::UpstreamError;

/// Why no traces can be sent.
#[derive(Debug, Error)]
pub enum TracesError {
    /// It was built without.
    #[error(
        "tracing.otlp_endpoint is configured, but this halligand was built without OpenTelemetry (the cargo feature otel)"
    )]
    NotBuilt,
    /// The authorities of the collector.
    #[error(transparent)]
    Authorities(#[from] UpstreamError),
    /// What the environment says of it (`OTEL_EXPORTER_OTLP_*`).
    #[error("traces can't be sent to tracing.otlp_endpoint: {0}")]
    Exporter(String),
}
