//! Parts that calls of the API share: pages of lists, preconditions (`If-Match`), idempotency keys, generations of tokens, the subjects of changes, the
//! threads that calls run on, and the answer when too many nodes call.

mod blocking;
mod busy;
pub(in crate::controlplane) mod generation;
pub mod idempotency;
pub mod page;
pub mod precondition;
pub mod subjects;
