//! Code of deployments: the stored deploys, which one is in force, and which archives are deleted.

pub(in crate::controlplane) mod deploys;
pub(in crate::controlplane) mod garbage;
pub(in crate::controlplane) mod inspection;
