//! What both planes' listeners share.

pub mod client;
pub mod listener;
pub mod serve;
