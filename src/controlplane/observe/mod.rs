//! What operators see of this control plane: metrics, readiness, expiry dates, lost bookkeeping.

pub mod bookkeeping;
pub mod ends;
pub mod metrics;
pub mod readiness;
