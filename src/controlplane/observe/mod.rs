//! Observation of this control plane by its operators: metrics, readiness, expiry dates, lost bookkeeping.

pub mod bookkeeping;
pub mod ends;
pub mod metrics;
pub mod readiness;
