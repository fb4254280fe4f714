//! Parts that calls of the API share: pages of lists, preconditions (`If-Match`), idempotency keys, and the subjects of
//! changes.

pub mod idempotency;
pub mod page;
pub mod precondition;
pub mod subjects;
