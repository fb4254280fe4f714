//! Reasons why a dialogue with a peer fails.

use thiserror::Error;

use super::MAX_REVOCATIONS;
use super::authentication::PeerRefusal;
use crate::dataplane::replica::store::StoreError;
use crate::dataplane::revocations::LedgerError;

/// Reasons why a peer's answer cannot be used.
#[derive(Debug, Error)]
pub enum DialogueError {
    /// The answer does not come from a node of this data plane.
    #[error(transparent)]
    Peer(#[from] PeerRefusal),
    /// The HTTP status is not the expected one.
    #[error("it answered {0}")]
    Status(u16),
    /// The answer cannot be parsed.
    #[error("its answer is not understood: {0}")]
    Answer(#[from] serde_json::Error),
    /// The peer sent more than it may.
    #[error("it sent more than {MAX_REVOCATIONS} revocations at once")]
    TooMany,
    /// The local revocations cannot be read or written.
    #[error(transparent)]
    Revocations(#[from] LedgerError),
    /// The host deploys that the peer told cannot be stored.
    #[error("its host deploys can't be stored: {0}; free space on the disk of code.directory")]
    Code(#[from] std::io::Error),
    /// The store rejects the bundle that the peer sent.
    #[error(transparent)]
    Store(#[from] StoreError),
}
