//! The node: one host of a data plane, with its identity, its databases, and the state that all other parts share.

pub mod alarm;
pub mod connection;
pub mod credential;
pub mod ends;
pub mod identity;
pub mod inventory;
pub mod membership;
pub mod schema;
pub mod session_key;
pub mod state;
