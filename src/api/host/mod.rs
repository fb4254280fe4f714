//! Types of the admin socket of a host, as JSON carries them. The daemon serializes them and the command line deserializes
//! them. There is one file for each noun.
//!
//! Instants are seconds since 1970, as in events and records.

pub mod audit;
pub mod check;
pub mod clock;
pub mod glass;
pub mod reload;
pub mod replica;
pub mod revocation;
pub mod session;
pub mod status;
