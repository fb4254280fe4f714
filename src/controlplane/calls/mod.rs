//! What the calls of the API have in common: pages of lists, preconditions (`If-Match`), idempotency keys, numbers.

pub mod idempotency;
pub mod number;
pub mod page;
pub mod precondition;
