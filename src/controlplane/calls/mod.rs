//! Parts that calls of the API share: pages of lists, preconditions (`If-Match`), idempotency keys, the subjects of changes, the
//! threads that calls run on, and the answer when too many nodes call.

mod blocking;
mod busy;
pub mod idempotency;
pub mod page;
pub mod precondition;
pub mod subjects;
