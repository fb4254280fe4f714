//! State that a control plane holds in memory, beside its database. A restart loses it; calls and reads of the database
//! restore it.

pub(in crate::controlplane) mod ahead;
pub(in crate::controlplane) mod bookkeeping;
pub(in crate::controlplane) mod complaints;
pub(in crate::controlplane) mod holders;
pub(in crate::controlplane) mod instances;
pub(in crate::controlplane) mod metrics;
pub(in crate::controlplane) mod probe;
pub(in crate::controlplane) mod renamings;
pub(in crate::controlplane) mod uploads;
pub(in crate::controlplane) mod used_proofs;
