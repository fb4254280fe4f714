//! Observation of this control plane by its operators: metrics, readiness and expiry dates.

pub mod ends;
pub mod metrics;
pub mod readiness;
