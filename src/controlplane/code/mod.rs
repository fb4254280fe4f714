//! Code of deployments: where its archives are kept, what the database has of each deploy, and which one is in force.

pub mod archives;
pub(in crate::controlplane) mod deploys;
pub(in crate::controlplane) mod garbage;
pub(in crate::controlplane) mod inspection;
