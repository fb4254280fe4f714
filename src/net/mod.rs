//! What both planes' listeners share.

pub mod client;
