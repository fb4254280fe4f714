//! Errors of statements, and of the questions that follow from their answers.

use thiserror::Error;

use super::client::UpstreamError;

/// Reasons why a statement, or a question that follows from its answer, failed.
#[derive(Debug, Error)]
pub(super) enum StatementError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the control plane's answer is not understood: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("the thread of the databases ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
    #[error("the disk does not answer")]
    Disk,
}
