//! The data plane: what runs on every host that guards deployments.

pub mod audit;
pub mod config;
pub mod daemon;
pub mod decide;
pub mod http;
pub mod identity;
pub mod live;
pub mod routes;
pub mod signatures;
pub mod snapshot;
pub mod store;
pub mod sync;
pub mod upstream;
