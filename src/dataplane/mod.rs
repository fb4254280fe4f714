//! The data plane: what runs on every host that guards deployments.

pub mod decide;
pub mod routes;
pub mod signatures;
pub mod snapshot;
