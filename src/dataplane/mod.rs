//! The data plane: the part of the system that runs on every host that guards deployments.

pub mod admin;
pub mod alarm;
pub mod answer;
pub mod audit;
pub mod authorize;
mod bounds;
pub mod config;
pub mod daemon;
pub mod decide;
pub mod ends;
#[cfg(feature = "grpc")]
pub mod ext_authz;
pub mod gateway;
pub mod glass;
pub mod http;
pub mod identity;
pub mod introspection;
pub mod inventory;
pub mod listening;
pub mod live;
pub mod membership;
pub mod metrics;
pub mod new_identity;
pub mod outage;
pub mod peers;
pub mod proof;
pub mod rate;
mod readable;
mod recent;
pub mod reconcile;
pub mod reload;
pub mod replication;
pub mod reserved;
pub mod revocation;
pub mod routes;
pub mod schema;
pub mod signatures;
pub mod snapshot;
pub mod staleness;
pub mod store;
pub mod sync;
pub mod timekeeper;
pub mod traces;
pub mod trust;
pub mod upstream;
pub mod upstream_identity;
pub mod watchdog;

use std::sync::Arc;

use crate::protocol::time::Time;

/// Function that reads the wall clock.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;
