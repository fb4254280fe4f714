//! Answers: a verdict as an HTTP response. Every interface sends the same fields in its own message.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::browser::Extras;
use super::upstream_identity::UpstreamIdentity;
use crate::api::problem::{MEDIA_TYPE, Problem};
use crate::dataplane::authorize::Verdict;
use crate::dataplane::decide::{Allowed, Authority, Decision, Denied, Reason};

/// HTTP response to a proxy or client.
pub type Answer = Response<Full<Bytes>>;

static REASON: HeaderName = HeaderName::from_static("x-halligan-reason");
static EVENT_ID: HeaderName = HeaderName::from_static("x-halligan-event-id");
static TOKEN_ID: HeaderName = HeaderName::from_static("x-halligan-token-id");
static ROLE: HeaderName = HeaderName::from_static("x-halligan-role");
static REPLICA_AGE: HeaderName = HeaderName::from_static("x-halligan-replica-age");
static DEPLOYMENT: HeaderName = HeaderName::from_static("x-halligan-deployment");

/// Writes verdicts as responses.
pub struct Answers {
    /// True if every status may be sent: 429 and 503, and 303 to lead a browser.
    pub pass_status: bool,
    /// Mints the token that the upstream gets in place of the caller's.
    pub identity: Option<Arc<UpstreamIdentity>>,
}

impl Answers {
    /// Returns the response for a verdict: the caller's identity for the upstream, or the reason of a denial.
    #[must_use]
    pub fn for_verdict(&self, verdict: &Verdict, extras: &Extras) -> Answer {
        let allowed = match &verdict.decision {
            Decision::Allowed(allowed) => allowed,
            Decision::Denied(denied) => return self.deny(denied, &verdict.event, extras).map(Full::from),
        };
        let mut answer = Response::new(Full::default());
        self.allow(allowed, &verdict.event, extras, |name, value| {
            if let Ok(mut value) = HeaderValue::from_bytes(value) {
                value.set_sensitive([header::AUTHORIZATION, header::SET_COOKIE].contains(name));
                answer.headers_mut().insert(name.clone(), value);
            }
        });
        answer
    }

    /// Returns a denial as a problem document (RFC 9457). If a person opens a page, the answer redirects the browser to a
    /// page of the daemon. Where a proxy would turn the redirect's status into an error, the proxy's own configuration
    /// redirects to the same `Location`.
    #[must_use]
    pub fn deny(&self, denied: &Denied, event: &str, extras: &Extras) -> Response<Bytes> {
        let status = match (denied.reason().status(), &extras.lead) {
            (_, Some(_)) if self.pass_status || extras.hands_on_lead => 303,
            (status @ (401 | 403), _) => status,
            (status, _) if self.pass_status => status,
            _ => 403,
        };
        let mut answer = self.denied(denied, event, status);
        if let Some(lead) = &extras.lead {
            answer.headers_mut().insert(header::LOCATION, lead.clone());
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        answer
    }

    /// Returns a denial with another status, which HTTP requires.
    #[must_use]
    pub fn denied(&self, denied: &Denied, event: &str, status: u16) -> Response<Bytes> {
        let reason = denied.reason();
        let code = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        let mut answer = Response::new(Bytes::from(problem(denied, code, event).to_json()));
        *answer.status_mut() = code;
        let headers = answer.headers_mut();
        headers.insert(&REASON, HeaderValue::from_static(reason.code()));
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(EVENT_ID.clone(), event);
        set(header::CONTENT_TYPE, MEDIA_TYPE);
        if let Some(seconds) = denied.retry_after {
            set(header::RETRY_AFTER, &seconds.to_string());
        }
        if status == 401 {
            // RFC 6750 section 3.1: a request without a token gets no error code.
            let missing = reason == Reason::TokenMissing;
            set(header::WWW_AUTHENTICATE, if missing { "Bearer" } else { "Bearer error=\"invalid_token\"" });
        }
        answer
    }

    /// Returns the answer to a call of the daemon itself, which was allowed: the reason is `ok`, even if the call itself
    /// failed.
    #[must_use]
    pub fn own(&self, event: &str, status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
        let mut answer = Response::new(Full::new(body.into()));
        *answer.status_mut() = status;
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        answer.headers_mut().insert(&REASON, HeaderValue::from_static(Reason::Ok.code()));
        if let Ok(event) = HeaderValue::from_str(event) {
            answer.headers_mut().insert(EVENT_ID.clone(), event);
        }
        answer
    }

    /// Writes the header fields of an allowed request, which tell the upstream who called.
    pub fn allow(
        &self,
        allowed: &Allowed,
        event: &str,
        extras: &Extras,
        mut field: impl FnMut(&HeaderName, &[u8]),
    ) {
        field(&REASON, Reason::Ok.code().as_bytes());
        field(&EVENT_ID, event.as_bytes());
        field(&TOKEN_ID, allowed.token.as_str().as_bytes());
        // A standard token has no role.
        if let Authority::Role(role) = &allowed.authority {
            field(&ROLE, role.text().as_bytes());
        }
        field(&DEPLOYMENT, allowed.deployment.as_str().as_bytes());
        // The upstream must not get the caller's token, so the field is overwritten, with an empty value if there is no identity.
        let vouched = self.identity.as_ref().and_then(|identity| identity.authorization(allowed));
        field(&header::AUTHORIZATION, vouched.as_ref().map_or(b"", HeaderValue::as_bytes));
        // Likewise the deployment gets these in place of the request's cookies, which hold the session.
        if let Some(cookies) = &extras.cookies {
            field(&header::COOKIE, cookies.as_bytes());
        }
        if let Some(renewed) = &extras.renewed {
            field(&header::SET_COOKIE, renewed.as_bytes());
        }
        // Warns that the replica will soon be too old, while an operator can still act.
        if let Some(freshness) = allowed.facts().freshness.filter(|freshness| freshness.near()) {
            field(&REPLICA_AGE, format!("{};limit={}", freshness.age, freshness.limit).as_bytes());
        }
    }
}

/// Returns the problem document of a denial (RFC 9457).
fn problem(denied: &Denied, status: StatusCode, event: &str) -> Problem {
    let reason = denied.reason();
    Problem {
        kind: format!("urn:halligan:reason:{}", reason.code()).into(),
        title: reason.title().into(),
        code: Some(reason.code().into()),
        detail: denied.detail(),
        event: Some(event.to_owned()),
        ..Problem::new(status)
    }
}
