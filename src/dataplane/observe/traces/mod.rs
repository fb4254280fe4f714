//! Traces: exports decisions, and rounds with the control plane, as spans (OpenTelemetry, OTLP over HTTP).
//!
//! They help to follow a request through a platform; evidence is in the audit log. Therefore a span holds only words and
//! identifiers from closed lists, as in the decision's event, and nothing that a caller wrote: no token, no path, no
//! `tracestate`. A slow or absent collector loses spans, and never delays an answer. Without a configured collector nothing
//! is done, and without the cargo feature `otel` no code is built.

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

use crate::platform::net::tls::TlsError;

/// Reasons why spans cannot be exported.
#[derive(Debug, Error)]
pub enum TracesError {
    /// The build lacks the feature `otel`.
    #[error(
        "tracing.otlp_endpoint is configured, but this halligand was built without OpenTelemetry (the cargo feature otel)"
    )]
    NotBuilt,
    /// The certificate authorities of the collector cannot be read.
    #[error(transparent)]
    Authorities(#[from] TlsError),
    /// The environment variables `OTEL_EXPORTER_OTLP_*` are invalid.
    #[error("traces can't be sent to tracing.otlp_endpoint: {0}")]
    Exporter(String),
}
