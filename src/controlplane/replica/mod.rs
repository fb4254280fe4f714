//! The replica of each data plane: its versions, and the feed by which nodes follow them.

pub mod environments;
pub mod feed;
pub mod publish;
pub mod states;
