//! What the calls of the API have in common: pages of lists, preconditions (`If-Match`), idempotency keys, and who
//! did something.

pub mod idempotency;
pub mod page;
pub mod precondition;
pub mod subjects;
