//! Answers: a verdict told over HTTP. Every face tells the same; what it stands in is the face's.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::authorize::Verdict;
use super::decide::Reason;
use super::upstream_identity::UpstreamIdentity;

/// What a face answers.
pub type Answer = Response<Full<Bytes>>;

const REASON: HeaderName = HeaderName::from_static("x-halligan-reason");
const EVENT_ID: HeaderName = HeaderName::from_static("x-halligan-event-id");
const TOKEN_ID: HeaderName = HeaderName::from_static("x-halligan-token-id");
const ROLE: HeaderName = HeaderName::from_static("x-halligan-role");
const REPLICA_AGE: HeaderName = HeaderName::from_static("x-halligan-replica-age");
const DEPLOYMENT: HeaderName = HeaderName::from_static("x-halligan-deployment");

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
        let reason = decision.reason;
        let status = match reason.status() {
            status @ (200 | 401 | 403) => status,
            status if self.pass_status => status,
            _ => 403,
        };
        let body = if decision.allowed() { Full::default() } else { problem(reason, status, event) };
        let mut answer = Response::new(body);
        *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        *answer.headers_mut() = HeaderMap::with_capacity(8);
        let headers = answer.headers_mut();
        headers.insert(REASON, HeaderValue::from_static(reason.code()));
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(EVENT_ID, event);
        if decision.allowed() {
            if let Some(token) = &decision.token {
                set(TOKEN_ID, token.as_str());
            }
            if let Some(role) = &decision.role {
                set(ROLE, &role.to_string());
            }
            if let Some(deployment) = &decision.deployment {
                set(DEPLOYMENT, deployment.as_str());
            }
            // Soon a replica this old will not do any more: told while something can be done about it.
            if let Some(freshness) = decision.freshness.filter(|freshness| freshness.near()) {
                set(REPLICA_AGE, &format!("{};limit={}", freshness.age, freshness.limit));
            }
            // The token is the caller's: what the upstream gets in its place stands here, be it nothing.
            let vouched = self.identity.as_ref().and_then(|identity| identity.authorization(decision));
            headers.insert(header::AUTHORIZATION, vouched.unwrap_or(HeaderValue::from_static("")));
            return answer;
        }
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
}

/// A denial as a problem (RFC 9457).
fn problem(reason: Reason, status: u16, event: &str) -> Full<Bytes> {
    let problem = serde_json::json!({
        "type": format!("urn:halligan:reason:{}", reason.code()),
        "title": reason.title(), "status": status, "code": reason.code(), "event": event,
    });
    Full::from(problem.to_string())
}
