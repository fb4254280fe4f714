//! The uplink: everything that a node asks of its control plane or tells it.

pub mod client;
pub mod deploys;
mod environment;
mod error;
pub mod membership;
pub mod outage;
pub mod reconcile;
pub mod sync;
