//! The face towards proxies: forward authentication, health, metrics.

mod original;
mod workers;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use ipnet::IpNet;

use super::Clock;
use super::audit::AuditLog;
use super::decide::{Decision, Reason, RequestFacts, Target, decide};
use super::live::Live;
use super::metrics::{self, Metrics};
use crate::protocol::event::Draft;
use crate::protocol::id::NodeId;
use crate::protocol::permission::Permission;
use original::Original;

pub use workers::Workers;

/// What the face answers.
type Answer = Response<Full<Bytes>>;

/// What the face needs.
pub struct Face {
    /// The snapshot in force.
    pub live: Arc<Live>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// Who answers.
    pub node: NodeId,
    /// Peers whose headers are believed.
    pub trusted: Vec<IpNet>,
    /// Whether 503 may be answered.
    pub pass_status: bool,
    /// The clock.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
}

const REASON: HeaderName = HeaderName::from_static("x-halligan-reason");
const EVENT_ID: HeaderName = HeaderName::from_static("x-halligan-event-id");
const TOKEN_ID: HeaderName = HeaderName::from_static("x-halligan-token-id");
const ROLE: HeaderName = HeaderName::from_static("x-halligan-role");
const DEPLOYMENT: HeaderName = HeaderName::from_static("x-halligan-deployment");

impl Face {
    /// Answers a request from `peer`, whatever its body.
    async fn answer(&self, peer: IpAddr, request: &Parts) -> Answer {
        let path = request.uri.path();
        if let Some(rest) = path.strip_prefix("/v1/authorize") {
            return match rest.strip_prefix('/') {
                Some(deployment) => self.authorize(Some(deployment), peer, request).await,
                None if rest.is_empty() => self.authorize(None, peer, request).await,
                None => plain(StatusCode::NOT_FOUND, "not found\n"),
            };
        }
        match path {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => {
                let mut answer = Response::new(Full::from(self.metrics.text()));
                let kind = HeaderValue::from_static(metrics::MEDIA_TYPE);
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                answer
            }
            _ => plain(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn ready(&self) -> Answer {
        if self.live.snapshot().head().is_none() {
            plain(StatusCode::SERVICE_UNAVAILABLE, "no replica yet\n")
        } else if self.audit.failing() {
            plain(StatusCode::SERVICE_UNAVAILABLE, "the audit log can't be written\n")
        } else {
            plain(StatusCode::OK, "ready\n")
        }
    }

    async fn authorize(&self, deployment: Option<&str>, peer: IpAddr, request: &Parts) -> Answer {
        let started = Instant::now();
        let id = self.audit.next_id();
        let (mut decision, recorded) = self.decide(&id, deployment, peer, request);
        let recorded = match recorded {
            Ok(Some(written)) => written.await.is_ok(),
            Ok(None) => true,
            Err(_) => false,
        };
        if !recorded {
            decision.reason = Reason::AuditUnavailable;
        }
        self.metrics.decided(decision.reason, started.elapsed());
        self.tell(&decision, &id)
    }

    /// Decides, and hands the event to the log.
    fn decide(
        &self,
        id: &str,
        deployment: Option<&str>,
        peer: IpAddr,
        request: &Parts,
    ) -> (Decision, Recorded) {
        let (original, doubt) = match Original::read(&request.headers, peer, &self.trusted) {
            Ok(original) => (original, None),
            Err(reason) => (Original::unknown(request.method.as_str(), peer), Some(reason)),
        };
        let host = original.host.as_deref().unwrap_or("");
        let facts = RequestFacts {
            deployment: deployment.map_or(Target::Host(host), Target::Id),
            method: original.method,
            uri: original.uri,
            client: Some(original.client),
        };
        let wall = (self.clock)();
        let token = bearer(&request.headers);
        let mut decision = decide(token, &facts, &self.live.snapshot(), self.live.now(wall));
        if let Some(doubt) = doubt.filter(|_| decision.allowed()) {
            decision.reason = doubt;
        }
        let draft = Draft {
            id,
            time: wall,
            node: &self.node,
            decision: if decision.allowed() { "allow" } else { "deny" },
            reason: decision.reason.code(),
            token: decision.token.as_ref(),
            generation: decision.generation,
            role: decision.role.as_ref(),
            deployment: decision.deployment.as_ref(),
            method: cut(original.method),
            route: decision.route.as_deref(),
            path: decision.path.as_deref(),
            permission: decision.permission.map(Permission::as_str),
            client: Some(original.client),
            glass: "always",
            connectivity: self.live.connectivity(),
        };
        // A denial changes nothing upstream: it need not wait for the disk.
        let recorded = self.audit.record(&draft, decision.allowed() && decision.mutating);
        (decision, recorded)
    }

    fn tell(&self, decision: &Decision, id: &str) -> Answer {
        let reason = decision.reason;
        let status = match reason.status() {
            status @ (200 | 401 | 403) => status,
            status if self.pass_status => status,
            _ => 403,
        };
        let body = if decision.allowed() { Full::default() } else { problem(reason, status, id) };
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
        set(EVENT_ID, id);
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
            return answer;
        }
        set(header::CONTENT_TYPE, "application/problem+json");
        if status == 401 {
            // RFC 6750 section 3.1: without a token, no error code.
            let missing = reason == Reason::TokenMissing;
            set(header::WWW_AUTHENTICATE, if missing { "Bearer" } else { "Bearer error=\"invalid_token\"" });
        }
        answer
    }
}

type Recorded = Result<Option<tokio::sync::oneshot::Receiver<()>>, super::audit::AuditUnavailable>;

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// A denial as a problem (RFC 9457).
fn problem(reason: Reason, status: u16, id: &str) -> Full<Bytes> {
    let problem = serde_json::json!({
        "type": format!("urn:halligan:reason:{}", reason.code()),
        "title": reason.title(), "status": status, "code": reason.code(), "event": id,
    });
    Full::from(problem.to_string())
}

/// No method is longer than this; what claims to be one fills no log.
fn cut(method: &str) -> &str {
    method.get(..32).unwrap_or(method)
}

/// The bearer token of a request (RFC 6750 section 2.1): one header, or none at all.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = first.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// A host without its port, in lower case.
fn host_name(host: &str) -> Cow<'_, str> {
    let name = match host.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}
