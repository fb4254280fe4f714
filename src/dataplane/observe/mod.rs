//! Metrics of the running daemon, and spans that it sends to a collector.

pub mod metrics;
pub mod traces;
