//! Data planes and the nodes that hold their replicas: enrolment, proofs, what each node says of itself.

pub mod ahead;
pub mod checkpoints;
pub mod data_planes;
pub mod enrolment;
pub mod environments;
pub(in crate::controlplane) mod holders;
pub mod instances;
pub mod log_faults;
pub mod membership;
pub mod recover;
