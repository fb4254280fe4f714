//! Errors of calls to the control plane.

use std::time::Duration;

use hyper::{HeaderMap, StatusCode};
use hyper_util::client::legacy;
use thiserror::Error;

use super::download::Fault;
use crate::api::problem::Explanation;
use crate::dataplane::node::connection::Outcome;
use crate::platform::cause::innermost;
use crate::platform::net::fields::retry_after;
use crate::platform::net::tls::TlsError;

/// Maximum wait that an answer can ask for: whatever answers in the control plane's place must not silence a host for long.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Reasons why a call to the control plane failed.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// The certificate authorities cannot be read.
    #[error(transparent)]
    Authorities(#[from] TlsError),
    /// No answer arrived in time.
    #[error("{url} did not answer within {} seconds", .after.as_secs_f32())]
    Timeout {
        /// URL of the call.
        url: String,
        /// Time that was waited.
        after: Duration,
    },
    /// There is no connection, or it broke.
    #[error("{url} can't be reached: {}", innermost(&**source))]
    Transport {
        /// URL of the call.
        url: String,
        /// Cause of the error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The body broke off, was too slow, or too large.
    #[error("the answer of {url} was given up: {fault}")]
    Body {
        /// URL of the call.
        url: String,
        /// Fault of the body.
        fault: Fault,
    },
    /// The status is not the expected one.
    #[error("{url} answered {status}: {detail}")]
    Answer {
        /// URL of the call.
        url: String,
        /// Status of the answer.
        status: StatusCode,
        /// Stable code of a refusal, or empty if there is none.
        code: String,
        /// Beginning of the answer's body.
        detail: String,
        /// Time after which the control plane asks to be called again (RFC 9110 section 10.2.3).
        retry_after: Option<Duration>,
    },
    /// The media type is not that of a bundle.
    #[error(
        "{url} answered with {kind}, which is no bundle: something else answers in the control plane's place"
    )]
    Kind {
        /// URL of the call.
        url: String,
        /// Media type of the answer.
        kind: String,
    },
}

impl UpstreamError {
    /// Returns the outcome for the state of sync. A refusal is an answer of the control plane itself; an error page of a
    /// gateway, or a login page, is not.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Answer { status, .. } if status.is_client_error() => Outcome::Refused,
            Self::Body { fault: Fault::Disk(_) | Fault::TooLarge(_), .. } => Outcome::Refused,
            _ => Outcome::Unreachable,
        }
    }

    /// Returns the control plane's statement that this node was retired, if the error is one. It is unsigned, so it raises
    /// an alarm and has no other effect.
    #[must_use]
    pub fn retired(&self) -> Option<&str> {
        match self {
            Self::Answer { code, detail, .. } if code == "node_retired" => Some(detail),
            _ => None,
        }
    }

    /// Returns the time after which the control plane asks to be called again, at most a minute.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answer { retry_after, .. } => retry_after.map(|wait| wait.min(LONGEST_WAIT)),
            _ => None,
        }
    }

    /// Returns true if a retry is useless: the state of this host contradicts that of the control plane.
    #[must_use]
    pub fn contradicts(&self) -> bool {
        matches!(self, Self::Answer { status, code, .. } if *status == StatusCode::CONFLICT && !code.is_empty())
    }

    /// Returns true if the control plane could not be reached, as opposed to a call that broke off.
    #[must_use]
    pub fn nobody_there(&self) -> bool {
        let Self::Transport { source, .. } = self else { return false };
        source.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect)
    }
}

/// Returns the error of an answer with another status than the expected one.
pub(super) fn refusal(url: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> UpstreamError {
    let Explanation { code, detail, .. } = Explanation::read(body);
    UpstreamError::Answer {
        url: url.into(),
        status,
        code: printable(code.unwrap_or_default().as_bytes()),
        detail: printable(detail.as_ref().map_or(body, String::as_bytes)),
        retry_after: retry_after(headers),
    }
}

/// Returns the beginning of unverified text, without characters that could harm a log or a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' };
    bytes[..bytes.len().min(300)].iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use hyper::header;

    use super::*;

    #[test]
    fn a_busy_control_plane_is_given_the_time_it_asks_for_within_bounds() {
        let wait = |value: &'static str| {
            let headers =
                HeaderMap::from_iter([(header::RETRY_AFTER, header::HeaderValue::from_static(value))]);
            refusal("https://control.example", StatusCode::SERVICE_UNAVAILABLE, &headers, b"{}").retry_after()
        };
        assert_eq!(wait("17"), Some(Duration::from_secs(17)));
        assert_eq!(wait("0"), Some(Duration::ZERO));
        for long in ["61", "86400", "18446744073709551615"] {
            assert_eq!(wait(long), Some(LONGEST_WAIT), "{long}");
        }
        for none in ["", "-1", "1.5", "soon", "18446744073709551616", "Fri, 27 Nov 2026 23:25:10 GMT"] {
            assert_eq!(wait(none), None, "{none}");
        }
    }
}
