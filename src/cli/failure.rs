//! Errors of the command line, with their exit codes.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::api::problem::Explanation;
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
    /// The answer lacks a member.
    #[error(
        "{what}'s answer lacks `{member}`: {what} is of another version than this program, or something else answered"
    )]
    Lacks {
        /// Address or socket that was called.
        what: String,
        /// Name of the member.
        member: String,
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
            Self::Data(_) | Self::Refused { .. } | Self::Answer { .. } | Self::Lacks { .. } => exit::DATAERR,
            Self::Dev(_) => exit::SOFTWARE,
        }
    }
}

/// Returns the innermost cause of an HTTP client's error. The outer ones repeat what the error message says already.
pub(super) fn cause(error: &reqwest::Error) -> String {
    innermost(error).to_string()
}

/// Reads an answer. An error names the member that is missing or wrong.
pub(super) fn read<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, Failure> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, why) = (error.path().to_string(), error.inner().to_string());
        let missing = why.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
        let what = what.to_owned();
        match missing {
            Some((member, _)) if path == "." => Failure::Lacks { what, member: member.to_owned() },
            Some((member, _)) => Failure::Lacks { what, member: format!("{path}.{member}") },
            None if path == "." => Failure::Answer { what, why },
            None => Failure::Answer { what, why: format!("{path}: {why}") },
        }
    })
}

/// Turns a problem document (RFC 9457) into an error.
pub(super) fn refused(what: &str, status: u16, body: &[u8]) -> Failure {
    let Explanation { title, code, detail } = Explanation::read(body);
    Failure::Refused {
        what: what.to_owned(),
        status,
        code: code.unwrap_or_else(|| format!("HTTP {status}")),
        detail: detail.or(title).unwrap_or_else(|| "no reason given".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::token::{Effective, TokenPage};

    #[test]
    fn an_answer_that_lacks_a_member_is_no_empty_member() {
        let lacks =
            |body: &str| read::<Effective>("the control plane", body.as_bytes()).map_err(|e| e.to_string());
        assert!(lacks(r#"{"permissions":[],"dags":[]}"#).is_ok());
        let told = lacks(r#"{"permissions":[]}"#).err().unwrap_or_default();
        assert!(told.starts_with("the control plane's answer lacks `dags`: "), "{told}");
        let page = r#"{"tokens":[{"id":"tok_a"}],"totalCount":1,"offset":0,"limit":1}"#;
        let told = read::<TokenPage>("the control plane", page.as_bytes()).map_err(|e| e.to_string());
        let told = told.err().unwrap_or_default();
        assert!(told.contains("lacks `tokens[0].name`"), "{told}");
    }
}
