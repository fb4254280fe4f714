//! Answers: a verdict told over HTTP. Every face tells the same; what it stands in is the face's.

use std::fmt::{Display, Write as _};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::authorize::Verdict;
use super::decide::{Decision, Reason};
use super::upstream_identity::UpstreamIdentity;
use crate::protocol::id::{DeploymentId, TokenId};

/// What a face answers.
pub type Answer = Response<Full<Bytes>>;

const REASON: HeaderName = HeaderName::from_static("x-halligan-reason");
const EVENT_ID: HeaderName = HeaderName::from_static("x-halligan-event-id");
const TOKEN_ID: HeaderName = HeaderName::from_static("x-halligan-token-id");
const ROLE: HeaderName = HeaderName::from_static("x-halligan-role");
const REPLICA_AGE: HeaderName = HeaderName::from_static("x-halligan-replica-age");
const DEPLOYMENT: HeaderName = HeaderName::from_static("x-halligan-deployment");

/// What an allow is told in.
const ALLOW: [HeaderName; 6] = [REASON, EVENT_ID, TOKEN_ID, ROLE, DEPLOYMENT, header::AUTHORIZATION];
/// The same with nothing in it. Most answers are allows: the names are hashed once.
static FORM: LazyLock<HeaderMap> =
    LazyLock::new(|| ALLOW.into_iter().map(|name| (name, HeaderValue::from_static(""))).collect());

/// How verdicts are told.
pub struct Answers {
    /// Whether 503 may be answered.
    pub pass_status: bool,
    /// What the upstream gets in place of the caller's token.
    pub identity: Option<Arc<UpstreamIdentity>>,
}

impl Answers {
    /// Tells a verdict: who came, for the upstream to know; or why not, for the caller.
    #[must_use]
    pub fn tell(&self, Verdict { decision, event }: &Verdict) -> Answer {
        if decision.allowed() {
            return self.allow(decision, event);
        }
        let reason = decision.reason;
        let status = match reason.status() {
            status @ (401 | 403) => status,
            status if self.pass_status => status,
            _ => 403,
        };
        let mut answer = Response::new(problem(reason, status, event));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        let headers = answer.headers_mut();
        headers.insert(REASON, HeaderValue::from_static(reason.code()));
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(EVENT_ID, event);
        set(header::CONTENT_TYPE, "application/problem+json");
        if let Some(seconds) = decision.retry_after {
            set(header::RETRY_AFTER, &seconds.to_string());
        }
        if status == 401 {
            // RFC 6750 section 3.1: without a token, no error code.
            let missing = reason == Reason::TokenMissing;
            set(header::WWW_AUTHENTICATE, if missing { "Bearer" } else { "Bearer error=\"invalid_token\"" });
        }
        answer
    }

    /// An allow: who came, for the upstream to know.
    fn allow(&self, decision: &Decision, event: &str) -> Answer {
        // One piece of memory for all that is told.
        let mut text = String::with_capacity(256);
        let event = put(&mut text, event);
        let token = put(&mut text, decision.token.as_ref().map_or("", TokenId::as_str));
        let role = decision.role.as_ref().map_or(0..0, |role| put(&mut text, role));
        let deployment = put(&mut text, decision.deployment.as_ref().map_or("", DeploymentId::as_str));
        let text = Bytes::from(text);
        let value = |range| HeaderValue::from_maybe_shared(text.slice(range)).ok();
        // The token is the caller's: what the upstream gets in its place stands here, be it nothing.
        let vouched = self.identity.as_ref().and_then(|identity| identity.authorization(decision));
        let reason = HeaderValue::from_static(decision.reason.code());
        let values = [Some(reason), value(event), value(token), value(role), value(deployment), vouched];

        let mut answer = Response::new(Full::default());
        let headers = answer.headers_mut();
        *headers = FORM.clone();
        for ((name, blank), (expected, value)) in headers.iter_mut().zip(ALLOW.iter().zip(values)) {
            debug_assert_eq!(name, expected, "a form keeps its order");
            if let Some(value) = value {
                *blank = value;
            }
        }
        // A standard token carries no role.
        if decision.role.is_none() {
            headers.remove(ROLE);
        }
        // Soon a replica this old will not do any more: told while something can be done about it.
        if let Some(freshness) = decision.freshness.filter(|freshness| freshness.near())
            && let Ok(age) = HeaderValue::try_from(format!("{};limit={}", freshness.age, freshness.limit))
        {
            headers.insert(REPLICA_AGE, age);
        }
        answer
    }
}

/// Appends to `text`; where it stands there.
fn put(text: &mut String, value: impl Display) -> Range<usize> {
    let start = text.len();
    // Writing to a String can't fail.
    let _ = write!(text, "{value}");
    start..text.len()
}

/// A denial as a problem (RFC 9457).
fn problem(reason: Reason, status: u16, event: &str) -> Full<Bytes> {
    let problem = serde_json::json!({
        "type": format!("urn:halligan:reason:{}", reason.code()),
        "title": reason.title(), "status": status, "code": reason.code(), "event": event,
    });
    Full::from(problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_has_its_blanks_in_their_order() {
        assert!(FORM.keys().eq(&ALLOW));
    }
}
