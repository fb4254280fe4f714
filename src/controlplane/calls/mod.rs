//! Parts that calls of the API share: pages of lists, preconditions (`If-Match`), idempotency keys, the subjects of changes, and
//! the answer when too many nodes call.

mod busy;
pub mod idempotency;
pub mod page;
pub mod precondition;
pub mod subjects;
