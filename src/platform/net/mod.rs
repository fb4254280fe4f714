//! Reading of what HTTP peers say about a request: header fields, the bearer token, and the client's address.

pub mod bearer;
pub mod fields;
pub mod forwarded;
