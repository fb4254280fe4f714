//! What can go wrong at the command line, and the exit code for it.

use std::path::PathBuf;

use thiserror::Error;

use crate::exit;

/// A failure, in a sentence.
#[derive(Debug, Error)]
pub enum Failure {
    /// Something is missing from the command line or the environment.
    #[error("{0}")]
    Usage(String),
    /// A file can't be read or written.
    #[error("{path} can't be used: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was given is not what it should be.
    #[error("{0}")]
    Data(String),
    /// No answer.
    #[error("{what} can't be reached: {why}")]
    Unreachable {
        /// What was called.
        what: String,
        /// Why.
        why: String,
    },
    /// A refusal.
    #[error("{what} refused: {detail} ({code})")]
    Refused {
        /// What was called.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The stable code.
        code: String,
        /// In words.
        detail: String,
    },
    /// Something has to happen first.
    #[error("{0}")]
    Pending(String),
    /// An answer that is none.
    #[error("{what} gave an answer that is not understood: {why}")]
    Answer {
        /// What was called.
        what: String,
        /// Why.
        why: String,
    },
    /// `halligan dev` can't run.
    #[error("{0}")]
    Dev(String),
}

impl Failure {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::File { .. } => exit::NOINPUT,
            Self::Unreachable { .. } => exit::UNAVAILABLE,
            Self::Refused { status: 401 | 403, .. } => exit::NOPERM,
            Self::Refused { status: 429 | 500.., .. } | Self::Pending(_) => exit::TEMPFAIL,
            Self::Data(_) | Self::Refused { .. } | Self::Answer { .. } => exit::DATAERR,
            Self::Dev(_) => exit::SOFTWARE,
        }
    }
}

/// The innermost cause of an HTTP client's error: what the outer ones say, the sentence around it says already.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Makes a refusal of a problem (RFC 9457).
pub(super) fn refused(what: &str, status: u16, body: &[u8]) -> Failure {
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |member: &str| problem[member].as_str().map(str::to_owned);
    Failure::Refused {
        what: what.to_owned(),
        status,
        code: text("code").unwrap_or_else(|| format!("HTTP {status}")),
        detail: text("detail").or_else(|| text("title")).unwrap_or_else(|| "no reason given".into()),
    }
}
