//! The replica of each data plane: its versions, and the feed by which nodes follow them.

pub mod feed;
pub mod publish;
pub mod states;
pub(in crate::controlplane) mod versions;
