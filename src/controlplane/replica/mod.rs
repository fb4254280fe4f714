//! The replica of each data plane: its versions, and what the feed has of each in memory and in files.

pub mod delta;
pub mod publish;
pub mod spool;
pub mod states;
pub(in crate::controlplane) mod versions;
