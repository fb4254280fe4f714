//! The face towards proxies: forward authentication, health, metrics.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{any, get};
use ipnet::IpNet;

use super::Clock;
use super::audit::AuditLog;
use super::decide::{Decision, Reason, RequestFacts, Target, decide};
use super::live::Live;
use super::metrics::{self, Metrics};
use crate::protocol::event::Event;
use crate::protocol::id::NodeId;
use crate::protocol::permission::Permission;
use crate::protocol::time::Time;

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

/// The routes of the face.
pub fn router(face: Arc<Face>) -> Router {
    Router::new()
        .route("/v1/authorize", any(by_host))
        .route("/v1/authorize/{deployment}", any(by_id))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
        .with_state(face)
}

async fn by_host(
    State(face): State<Arc<Face>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    face.authorize(None, peer.ip(), request.into_parts().0).await
}

async fn by_id(
    State(face): State<Arc<Face>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(deployment): Path<String>,
    request: Request,
) -> Response {
    face.authorize(Some(deployment), peer.ip(), request.into_parts().0).await
}

async fn ready(State(face): State<Arc<Face>>) -> (StatusCode, &'static str) {
    if face.live.snapshot().head().is_none() {
        (StatusCode::SERVICE_UNAVAILABLE, "no replica yet\n")
    } else if face.audit.failing() {
        (StatusCode::SERVICE_UNAVAILABLE, "the audit log can't be written\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn text(State(face): State<Arc<Face>>) -> ([(HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], face.metrics.text())
}

/// The original request, as a trusted proxy tells it.
struct Original<'h> {
    method: &'h str,
    uri: &'h str,
    host: Option<Cow<'h, str>>,
    client: IpAddr,
}
/// The two ways proxies name the original request: nginx as its configuration says, Caddy and Traefik on their own.
const FAMILIES: [[&str; 3]; 2] = [
    ["x-original-method", "x-original-uri", "x-original-host"],
    ["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host"],
];

const REASON: HeaderName = HeaderName::from_static("x-halligan-reason");
const EVENT_ID: HeaderName = HeaderName::from_static("x-halligan-event-id");
const TOKEN_ID: HeaderName = HeaderName::from_static("x-halligan-token-id");
const ROLE: HeaderName = HeaderName::from_static("x-halligan-role");
const DEPLOYMENT: HeaderName = HeaderName::from_static("x-halligan-deployment");

/// The one value of a header; an error when it stands twice or is not text.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Reason> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Reason::PathInvalid);
    }
    first.map(|value| value.to_str().map_err(|_| Reason::PathInvalid)).transpose()
}

impl Face {
    fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }

    /// What was asked for. Only a trusted peer may say; and it must say it in one way, or nobody knows which it meant.
    fn original<'h>(&self, peer: IpAddr, headers: &'h HeaderMap) -> Result<Original<'h>, Reason> {
        if !self.trusts(peer) {
            return Err(Reason::PathInvalid);
        }
        let mut found = None;
        for [method, uri, host] in FAMILIES {
            match (single(headers, method)?, single(headers, uri)?) {
                (None, None) => {}
                (Some(method), Some(uri)) if found.is_none() => {
                    found = Some((method, uri, single(headers, host)?.or(single(headers, "host")?)));
                }
                _ => return Err(Reason::PathInvalid),
            }
        }
        let (method, uri, host) = found.ok_or(Reason::PathInvalid)?;
        Ok(Original { method, uri, host: host.map(host_name), client: self.client(peer, headers) })
    }

    /// The last hop in front of the proxies that are trusted.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let hops = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<IpAddr> =
            hops.flat_map(|value| value.split(',')).map_while(|hop| hop.trim().parse().ok()).collect();
        let real = single(headers, "x-real-ip").ok().flatten().and_then(|value| value.parse().ok());
        real.or_else(|| hops.iter().rev().copied().find(|&hop| !self.trusts(hop))).unwrap_or(peer)
    }

    async fn authorize(&self, deployment: Option<String>, peer: IpAddr, request: Parts) -> Response {
        let started = Instant::now();
        let id = self.audit.next_id();
        let (mut decision, event) = self.decide(&id, deployment.as_deref(), peer, &request);
        // A denial changes nothing upstream: it need not wait for the disk.
        let durable = decision.allowed() && decision.mutating;
        let recorded = match self.audit.record(event, durable) {
            Ok(Some(written)) => written.await.is_ok(),
            Ok(None) => true,
            Err(_) => false,
        };
        if !recorded {
            decision.reason = Reason::AuditUnavailable;
        }
        self.metrics.decided(decision.reason, started.elapsed());
        self.answer(&decision, &id)
    }

    fn decide(&self, id: &str, deployment: Option<&str>, peer: IpAddr, request: &Parts) -> (Decision, Event) {
        let headers = &request.headers;
        let (original, doubt) = match self.original(peer, headers) {
            Ok(original) => (original, None),
            Err(reason) => {
                let method = request.method.as_str();
                (Original { method, uri: "", host: None, client: peer }, Some(reason))
            }
        };
        let host = original.host.as_deref().unwrap_or("");
        let facts = RequestFacts {
            deployment: deployment.map_or(Target::Host(host), Target::Id),
            method: original.method,
            uri: original.uri,
            client: Some(original.client),
        };
        let wall = (self.clock)();
        let mut decision = decide(bearer(headers), &facts, &self.live.snapshot(), self.live.now(wall));
        if let Some(doubt) = doubt.filter(|_| decision.allowed()) {
            decision.reason = doubt;
        }
        let event = self.event(id, &decision, &original, wall);
        (decision, event)
    }

    fn event(&self, id: &str, decision: &Decision, original: &Original<'_>, time: Time) -> Event {
        Event {
            sequence: 0,
            id: id.to_owned(),
            time,
            node: self.node.clone(),
            decision: if decision.allowed() { "allow" } else { "deny" }.into(),
            reason: decision.reason.code().into(),
            token: decision.token.clone(),
            generation: decision.generation,
            role: decision.role.clone(),
            deployment: decision.deployment.clone(),
            method: original.method.chars().take(32).collect(),
            route: decision.route.clone(),
            path: decision.path.clone(),
            permission: decision.permission.map(Permission::as_str).map(Cow::Borrowed),
            client: Some(original.client),
            glass: "always".into(),
            connectivity: self.live.connectivity(),
            prev: String::new(),
        }
    }

    fn answer(&self, decision: &Decision, id: &str) -> Response {
        let reason = decision.reason;
        let status = match reason.status() {
            status @ (200 | 401 | 403) => status,
            status if self.pass_status => status,
            _ => 403,
        };
        let mut response = Response::new(if decision.allowed() {
            Body::empty()
        } else {
            let problem = serde_json::json!({
                "type": format!("urn:halligan:reason:{}", reason.code()),
                "title": reason.title(), "status": status, "code": reason.code(), "event": id,
            });
            Body::from(problem.to_string())
        });
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        let headers = response.headers_mut();
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
            return response;
        }
        set(header::CONTENT_TYPE, "application/problem+json");
        if status == 401 {
            // RFC 6750 section 3.1: without a token, no error code.
            let missing = reason == Reason::TokenMissing;
            set(header::WWW_AUTHENTICATE, if missing { "Bearer" } else { "Bearer error=\"invalid_token\"" });
        }
        response
    }
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
