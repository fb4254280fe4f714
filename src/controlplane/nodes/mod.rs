//! Data planes and the nodes that hold their replicas: enrolment, proofs, and the nodes' statements.

pub mod ahead;
pub mod checkpoints;
pub mod data_planes;
pub(in crate::controlplane) mod deploys;
pub mod enrolment;
pub mod environments;
pub(in crate::controlplane) mod holders;
pub(in crate::controlplane) mod host_deploys;
pub mod instances;
pub mod log_faults;
pub mod membership;
pub mod recover;
pub(in crate::controlplane) mod renaming;
