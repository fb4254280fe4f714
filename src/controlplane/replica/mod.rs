//! The replica of each data plane: its versions, and the changes and answers that the feed keeps.

pub mod delta;
pub mod publish;
pub mod spool;
pub mod states;
pub(in crate::controlplane) mod versions;
