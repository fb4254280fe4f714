//! Errors of the command line, with their exit codes.

use std::path::PathBuf;

use thiserror::Error;

use crate::platform::cause::innermost;
use crate::platform::exit;

/// Error of a command, displayed as one sentence.
#[derive(Debug, Error)]
pub enum Failure {
    /// Something is missing from the command line or the environment.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read or written.
    #[error("{path} can't be used: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Cause of the failure.
        source: std::io::Error,
    },
    /// The input data is invalid.
    #[error("{0}")]
    Data(String),
    /// The server did not answer.
    #[error("{what} can't be reached: {why}")]
    Unreachable {
        /// Address or socket that was called.
        what: String,
        /// Cause of the failure.
        why: String,
    },
    /// The server rejected the call.
    #[error("{what} refused: {detail} ({code})")]
    Refused {
        /// Address or socket that was called.
        what: String,
        /// HTTP status of the answer.
        status: u16,
        /// Stable code for programs.
        code: String,
        /// Explanation for people.
        detail: String,
    },
    /// The command has to be repeated after something else has happened, such as an approval.
    #[error("{0}")]
    Pending(String),
    /// The answer is not of the expected form.
    #[error("{what} gave an answer that is not understood: {why}")]
    Answer {
        /// Address or socket that was called.
        what: String,
        /// Fault of the answer.
        why: String,
    },
    /// `halligan dev` cannot run.
    #[error("{0}")]
    Dev(String),
}

impl Failure {
    /// Returns the exit code.
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

/// Returns the innermost cause of an HTTP client's error. The outer ones repeat what the error message says already.
pub(super) fn cause(error: &reqwest::Error) -> String {
    innermost(error).to_string()
}

/// Turns a problem document (RFC 9457) into an error.
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
