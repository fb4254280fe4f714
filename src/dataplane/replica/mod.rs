//! The replica: the verified copy of a data plane's records, the time floor, and the trust that both rest on.

mod recent_deltas;
pub mod replication;
pub mod scrub;
pub mod store;
pub mod timekeeper;
pub mod trust;
