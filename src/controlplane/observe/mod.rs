//! Observation of this control plane by its operators: metrics, readiness and expiry dates.

pub(in crate::controlplane) mod calls;
pub mod ends;
pub(in crate::controlplane) mod export;
pub mod readiness;
