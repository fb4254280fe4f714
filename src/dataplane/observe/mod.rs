//! What operators observe of a running daemon: metrics, and spans for a collector.

pub mod metrics;
pub mod traces;
