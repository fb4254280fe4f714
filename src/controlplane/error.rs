//! Errors of the control plane's calls, each answered as a problem that an HTTP client can act on (RFC 9457).

use std::path::PathBuf;

use thiserror::Error;

use crate::platform::cause::has_no_room;
use crate::platform::database::is_disk_fault;
use crate::protocol::deploy::archive::ArchiveError;
use crate::protocol::node_proof::LIFETIME;

/// Reasons to reject a node's proof that has a valid signature. Each has its own remedy.
#[derive(Debug, Error)]
pub enum ProofFault {
    /// The proof is for another control plane.
    #[error(
        "the node's proof is for {got:?}, and this control plane is {own:?}: the host was enrolled under another `issuer`, or its \
         `control_plane.urls` lead to another control plane; if the issuer was changed on purpose, enrol the host anew"
    )]
    Audience {
        /// Audience of the proof.
        got: String,
        /// Issuer of this control plane.
        own: String,
    },
    /// The proof has expired, beyond the tolerated clock difference.
    #[error(
        "the node's proof ended {by} s ago by this control plane's clock; set the host's clock right, or this one"
    )]
    Late {
        /// Seconds since the expiry.
        by: i64,
    },
    /// The proof is dated in the future, beyond the tolerated clock difference.
    #[error(
        "the node's proof was made {by} s ahead of this control plane's clock; set the host's clock right, or this one"
    )]
    Early {
        /// Seconds by which it is ahead.
        by: i64,
    },
    /// The lifetime of the proof is too long.
    #[error("the node's proof is valid for more than {LIFETIME} s, the maximum")]
    Lifetime,
    /// The end of the proof's lifetime is before its start.
    #[error("the node's proof ends before it was made")]
    Backwards,
}

/// Reasons not to use the key of the stored environment variables.
#[derive(Debug, Error)]
pub enum EnvironmentKeyError {
    /// The file cannot be read or written.
    #[error("{path}, the key of the stored environment variables, can't be used: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Cause of the failure.
        source: std::io::Error,
    },
    /// The file is missing, though values are stored under its key.
    #[error(
        "{0}, the key of the stored environment variables, is missing; put it back from a backup. If it is lost for good, run \
         halligan-control forget-variables and set the variables of each deployment again"
    )]
    Missing(PathBuf),
    /// The file has another key than the one that values are stored under.
    #[error(
        "{0} is not the key that the environment variables are stored under; put the right one back from a backup. If it is lost \
         for good, run halligan-control forget-variables and set the variables of each deployment again"
    )]
    Other(PathBuf),
    /// The file can be read by others than its owner.
    #[error("the key file {0} can be read by others than its owner; run chmod 600 on it")]
    Exposed(PathBuf),
    /// The file has no key.
    #[error("{0} must hold 32 bytes in base64; put it back from a backup")]
    Malformed(PathBuf),
    /// A stored value does not open: its row was changed by something else than this program.
    #[error("the stored value of the environment variable {key} of {deployment} does not open; set it again")]
    Damaged {
        /// Id of the deployment.
        deployment: String,
        /// Name of the variable.
        key: String,
    },
}

/// Error of a call.
#[derive(Debug, Error)]
pub enum Error {
    /// The call has no valid bearer token.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// The node's proof has a valid signature, but another audience or a wrong time.
    #[error(transparent)]
    Proof(#[from] ProofFault),
    /// The caller's roles do not allow the operation.
    #[error("{detail}")]
    Forbidden {
        /// Stable code for programs.
        code: &'static str,
        /// Sentence for the caller: what is forbidden, and why.
        detail: String,
    },
    /// No object has this id.
    #[error("there is no {0} of this id here")]
    NotFound(&'static str),
    /// No object has the id in this field.
    #[error("{field}: there is no {what} of this id here")]
    NoSuch {
        /// Name of the field.
        field: &'static str,
        /// Kind of the object.
        what: &'static str,
    },
    /// A field has an invalid value.
    #[error("{field}: {detail}")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// Fault of its value.
        detail: String,
    },
    /// The call conflicts with the present state.
    #[error("{detail}")]
    Conflict {
        /// Stable code for programs.
        code: &'static str,
        /// Sentence for the caller: what conflicts, and what to do.
        detail: String,
    },
    /// Dual control is enabled, and the call would create a direct-access token without a second owner.
    #[error(
        "a direct-access token needs a second owner's approval here; ask for it, and collect it once it is approved"
    )]
    ApprovalNeeded,
    /// The request cannot be parsed.
    #[error("{0}")]
    Malformed(String),
    /// The object has changed since the caller read it (`If-Match`).
    #[error("the object has changed since you read it; read it again, and send its new ETag in If-Match")]
    Stale,
    /// The idempotency key was used for a different call.
    #[error("this idempotency key was used for another call; use each for one call and its repeats")]
    KeyReused,
    /// The caller has made too many calls; the number of seconds to wait.
    #[error("too many calls; try again in {0} seconds")]
    RateLimited(u64),
    /// Too many nodes are being sent snapshots, or send events; the number of seconds to wait.
    #[error("too many nodes call at once; try again in {0} seconds")]
    Busy(u64),
    /// Too many archives are being received; the number of seconds to wait.
    #[error("too many archives are being received; try again in {0} seconds")]
    Receiving(u64),
    /// An archive of code is refused.
    #[error("{0}")]
    Archive(#[from] ArchiveError),
    /// The object store of the archives failed.
    #[error("the object store of deploys failed: {0}")]
    Archives(object_store::Error),
    /// The database failed.
    #[error("the store failed: {0}")]
    Store(#[from] rusqlite::Error),
    /// The key of the stored environment variables cannot be used.
    #[error(transparent)]
    EnvironmentKey(#[from] EnvironmentKeyError),
    /// A bundle cannot be written.
    #[error("the answer could not be written: {0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    pub(super) fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { field, detail: detail.into() }
    }

    /// Names the field that has the id of an object that was not found. Other errors stay as they are.
    pub(super) fn in_field(self, field: &'static str) -> Self {
        match self {
            Self::NotFound(what) => Self::NoSuch { field, what },
            other => other,
        }
    }

    /// Returns the refusal of a role that allows more than the caller's own.
    pub(super) fn role_exceeds_yours() -> Self {
        let detail = "this role allows more than your own; only someone who may do all of it can hand it out";
        Self::Forbidden { code: "role_exceeds_yours", detail: detail.into() }
    }

    /// Returns the HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Unauthenticated(_) | Self::Proof(_) => 401,
            Self::Forbidden { .. } => 403,
            Self::NotFound(_) | Self::NoSuch { .. } => 404,
            Self::Archive(ArchiveError::Io(_)) => 500,
            Self::Invalid { .. } | Self::KeyReused | Self::Archive(_) => 422,
            Self::Conflict { .. } | Self::ApprovalNeeded => 409,
            Self::Malformed(_) => 400,
            Self::Stale => 412,
            Self::RateLimited(_) => 429,
            Self::Busy(_) | Self::Receiving(_) | Self::EnvironmentKey(_) | Self::Archives(_) => 503,
            Self::Store(error) if is_disk_fault(error) => 503,
            Self::Io(error) if has_no_room(error) => 503,
            Self::Store(_) | Self::Io(_) => 500,
        }
    }

    /// Returns the cause of an internal failure and the remedy, without details that callers must not learn.
    #[must_use]
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Store(error) if is_disk_fault(error) => {
                "the control plane cannot use its database; nothing was changed: free space on the disk of its state directory, check its permissions, and try again"
            }
            Self::Io(error) if has_no_room(error) => {
                "the control plane cannot write a temporary file; nothing was changed: free space on the disk of its temporary directory, and try again"
            }
            Self::Archives(_) => {
                "the control plane cannot use its object store of deploys; nothing was changed: look for \"deploys\" in the control plane's log"
            }
            Self::EnvironmentKey(_) => {
                "the control plane cannot use its key of the stored environment variables; nothing was changed: look for \"environment\" in the control plane's log"
            }
            Self::Store(_) => {
                "the control plane's database failed at this call: look for \"a call failed\" in the control plane's log"
            }
            _ => {
                "the control plane could not write its answer: look for \"a call failed\" in the control plane's log"
            }
        }
    }

    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated(_) | Self::Proof(_) => "unauthenticated",
            Self::Forbidden { code, .. } | Self::Conflict { code, .. } => code,
            Self::NotFound(_) | Self::NoSuch { .. } => "not_found",
            Self::Invalid { .. } => "invalid",
            Self::ApprovalNeeded => "approval_needed",
            Self::Malformed(_) => "malformed",
            Self::Stale => "stale",
            Self::KeyReused => "idempotency_key_reused",
            Self::RateLimited(_) => "rate_limited",
            Self::Busy(_) | Self::Receiving(_) => "busy",
            Self::Archive(error) if error.is_refusal() => "archive_refused",
            Self::Archives(_) => "deploys_unavailable",
            Self::EnvironmentKey(_) => "environment_key_unusable",
            Self::Store(error) if is_disk_fault(error) => "store_unavailable",
            Self::Io(error) if has_no_room(error) => "store_unavailable",
            Self::Store(_) | Self::Io(_) | Self::Archive(_) => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use rusqlite::ErrorCode;

    use super::*;

    #[test]
    fn a_failure_inside_says_what_failed_and_what_to_do() {
        let store = |code| {
            let failure = rusqlite::ffi::Error { code, extended_code: 0 };
            Error::from(rusqlite::Error::SqliteFailure(failure, None))
        };
        let io = |kind: ErrorKind| Error::from(std::io::Error::from(kind));
        for (error, status, words) in [
            (store(ErrorCode::DiskFull), 503, "free space on the disk of its state directory"),
            (store(ErrorCode::ReadOnly), 503, "check its permissions"),
            (store(ErrorCode::DatabaseCorrupt), 500, "database failed at this call"),
            (io(ErrorKind::StorageFull), 503, "free space on the disk of its temporary directory"),
            (io(ErrorKind::QuotaExceeded), 503, "temporary file"),
            (io(ErrorKind::NotFound), 500, "could not write its answer"),
        ] {
            assert_eq!(error.status(), status, "{error}");
            assert!(error.outcome().contains(words), "{error}: {}", error.outcome());
        }
    }
}
