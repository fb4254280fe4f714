//! Answers: a verdict told over HTTP. Every face tells the same; what it stands in is the face's.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::authorize::Verdict;
use super::decide::{Decision, Reason};
use super::upstream_identity::UpstreamIdentity;
use crate::protocol::id::{DeploymentId, TokenId};

/// What a face answers.
pub type Answer = Response<Full<Bytes>>;

static REASON: HeaderName = HeaderName::from_static("x-halligan-reason");
static EVENT_ID: HeaderName = HeaderName::from_static("x-halligan-event-id");
static TOKEN_ID: HeaderName = HeaderName::from_static("x-halligan-token-id");
static ROLE: HeaderName = HeaderName::from_static("x-halligan-role");
static REPLICA_AGE: HeaderName = HeaderName::from_static("x-halligan-replica-age");
static DEPLOYMENT: HeaderName = HeaderName::from_static("x-halligan-deployment");

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
    pub fn tell(&self, verdict: &Verdict) -> Answer {
        if !verdict.decision.allowed() {
            return self.deny(verdict).map(Full::from);
        }
        let mut answer = Response::new(Full::default());
        self.allow(verdict, |name, value| {
            if let Ok(mut value) = HeaderValue::from_bytes(value) {
                value.set_sensitive(name == header::AUTHORIZATION);
                answer.headers_mut().insert(name.clone(), value);
            }
        });
        answer
    }

    /// Why not, for the caller: a problem (RFC 9457).
    #[must_use]
    pub fn deny(&self, verdict: &Verdict) -> Response<Bytes> {
        let status = match verdict.decision.reason.status() {
            status @ (401 | 403) => status,
            status if self.pass_status => status,
            _ => 403,
        };
        self.denied(verdict, status)
    }

    /// The same with a status that HTTP asks for.
    #[must_use]
    pub fn denied(&self, Verdict { decision, event, .. }: &Verdict, status: u16) -> Response<Bytes> {
        let reason = decision.reason;
        let mut answer = Response::new(problem(decision, status, event));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        let headers = answer.headers_mut();
        headers.insert(&REASON, HeaderValue::from_static(reason.code()));
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(EVENT_ID.clone(), event);
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

    /// What an allow tells, field by field: who came, for the upstream to know.
    pub fn allow(
        &self,
        Verdict { decision, event, .. }: &Verdict,
        mut field: impl FnMut(&HeaderName, &[u8]),
    ) {
        field(&REASON, decision.reason.code().as_bytes());
        field(&EVENT_ID, event.as_bytes());
        field(&TOKEN_ID, decision.token.as_ref().map_or("", TokenId::as_str).as_bytes());
        // A standard token carries no role.
        if let Some(role) = &decision.role {
            field(&ROLE, role.text().as_bytes());
        }
        field(&DEPLOYMENT, decision.deployment.as_ref().map_or("", DeploymentId::as_str).as_bytes());
        // The token is the caller's: what the upstream gets in its place stands here, be it nothing.
        let vouched = self.identity.as_ref().and_then(|identity| identity.authorization(decision));
        field(&header::AUTHORIZATION, vouched.as_ref().map_or(b"", HeaderValue::as_bytes));
        // Soon a replica this old will not do any more: told while something can be done about it.
        if let Some(freshness) = decision.freshness.filter(|freshness| freshness.near()) {
            field(&REPLICA_AGE, format!("{};limit={}", freshness.age, freshness.limit).as_bytes());
        }
    }
}

/// A denial as a problem (RFC 9457).
fn problem(decision: &Decision, status: u16, event: &str) -> Bytes {
    let reason = decision.reason;
    let mut problem = serde_json::json!({
        "type": format!("urn:halligan:reason:{}", reason.code()),
        "title": reason.title(), "status": status, "code": reason.code(), "event": event,
    });
    if let (Some(detail), Some(problem)) = (decision.detail(), problem.as_object_mut()) {
        problem.insert("detail".into(), detail.into());
    }
    Bytes::from(problem.to_string())
}
