//! The face towards proxies: forward authentication, health, metrics.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{any, get};
use ipnet::IpNet;

use super::audit::AuditLog;
use super::decide::{Decision, Reason, RequestFacts, Target, decide};
use super::live::Live;
use super::sync::Clock;
use crate::protocol::event::Event;
use crate::protocol::id::NodeId;

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
    /// Decisions so far: allowed, denied.
    pub decisions: [AtomicU64; 2],
}

/// The routes of the face.
pub fn router(face: Arc<Face>) -> Router {
    Router::new()
        .route("/v1/authorize", any(by_host))
        .route("/v1/authorize/{deployment}", any(by_id))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(face)
}

async fn by_host(
    State(face): State<Arc<Face>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    face.authorize(None, peer.ip(), &request.into_parts().0).await
}

async fn by_id(
    State(face): State<Arc<Face>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(deployment): Path<String>,
    request: Request,
) -> Response {
    face.authorize(Some(&deployment), peer.ip(), &request.into_parts().0).await
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

async fn metrics(State(face): State<Arc<Face>>) -> ([(HeaderName, &'static str); 1], String) {
    let snapshot = face.live.snapshot();
    let now = (face.clock)();
    let mut text = String::new();
    let mut gauge = |name: &str, kind: &str, value: i128| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
    };
    gauge("halligan_decisions_allowed_total", "counter", face.decisions[0].load(Ordering::Relaxed).into());
    gauge("halligan_decisions_denied_total", "counter", face.decisions[1].load(Ordering::Relaxed).into());
    gauge("halligan_alarms_total", "counter", face.live.alarms().into());
    gauge("halligan_replica_tokens", "gauge", snapshot.token_count() as i128);
    if let Some(head) = snapshot.head() {
        gauge("halligan_replica_version", "gauge", head.head().version.into());
        gauge("halligan_replica_age_seconds", "gauge", now.since(head.head().iat).into());
    }
    let online = face.live.standing().connectivity == crate::protocol::event::Connectivity::Online;
    gauge("halligan_control_plane_reachable", "gauge", online.into());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// The original request, as a trusted proxy tells it.
struct Original {
    method: String,
    uri: String,
    host: Option<String>,
    client: IpAddr,
}

/// The two ways proxies name the original request: nginx as its configuration says, Caddy and Traefik on their own.
const FAMILIES: [[&str; 3]; 2] = [
    ["x-original-method", "x-original-uri", "x-original-host"],
    ["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host"],
];

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
    fn original(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Original, Reason> {
        if !self.trusts(peer) {
            return Err(Reason::PathInvalid);
        }
        let mut found = None;
        for [method, uri, host] in FAMILIES {
            let (method, uri) = (single(headers, method)?, single(headers, uri)?);
            match (method, uri) {
                (None, None) => {}
                (Some(method), Some(uri)) if found.is_none() => {
                    let host = single(headers, host)?.or(single(headers, "host")?);
                    found = Some((method.to_owned(), uri.to_owned(), host.map(str::to_owned)));
                }
                _ => return Err(Reason::PathInvalid),
            }
        }
        let (method, uri, host) = found.ok_or(Reason::PathInvalid)?;
        let host = host
            .map(|host| host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name).to_ascii_lowercase());
        Ok(Original { method, uri, host, client: self.client(peer, headers) })
    }

    /// The last hop in front of the proxies that are trusted.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let hops = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<IpAddr> =
            hops.flat_map(|value| value.split(',')).map_while(|hop| hop.trim().parse().ok()).collect();
        let real = single(headers, "x-real-ip").ok().flatten().and_then(|value| value.parse().ok());
        real.or_else(|| hops.iter().rev().copied().find(|&hop| !self.trusts(hop))).unwrap_or(peer)
    }

    async fn authorize(&self, deployment: Option<&str>, peer: IpAddr, request: &Parts) -> Response {
        let headers = &request.headers;
        let token = bearer(headers);
        let unknown =
            || Original { method: request.method.to_string(), uri: String::new(), host: None, client: peer };
        let (original, doubt) = match self.original(peer, headers) {
            Ok(original) => (original, None),
            Err(reason) => (unknown(), Some(reason)),
        };
        let target =
            deployment.map_or_else(|| Target::Host(original.host.as_deref().unwrap_or("")), Target::Id);
        let facts = RequestFacts {
            deployment: target,
            method: &original.method,
            uri: &original.uri,
            client: Some(original.client),
        };
        let wall = (self.clock)();
        let mut decision = {
            let snapshot = self.live.snapshot();
            decide(token, &facts, &snapshot, self.live.now(wall))
        };
        if let Some(reason) = doubt.filter(|_| decision.allowed() || decision.reason == Reason::PathInvalid) {
            decision.reason = reason;
        }
        let id = self.audit.next_id();
        let event = self.event(&id, &decision, &original, wall);
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
        self.decisions[usize::from(!decision.allowed())].fetch_add(1, Ordering::Relaxed);
        self.answer(&decision, &id)
    }

    fn event(
        &self,
        id: &str,
        decision: &Decision,
        original: &Original,
        time: crate::protocol::time::Time,
    ) -> Event {
        Event {
            sequence: 0,
            id: id.to_owned(),
            time,
            node: self.node.clone(),
            decision: if decision.allowed() { "allow" } else { "deny" }.to_owned(),
            reason: decision.reason.code().to_owned(),
            token: decision.token.as_ref().map(ToString::to_string),
            generation: decision.generation,
            role: decision.role.as_ref().map(ToString::to_string),
            deployment: decision.deployment.as_ref().map(ToString::to_string),
            method: original.method.chars().take(32).collect(),
            route: decision.route.as_deref().map(str::to_owned),
            path: decision.path.clone(),
            permission: decision.permission.map(|permission| permission.to_string()),
            client: Some(original.client),
            glass: "always".to_owned(),
            connectivity: self.live.standing().connectivity,
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
                "type": format!("https://halligan.invalid/reasons/{}", reason.code()),
                "title": reason.title(), "status": status, "code": reason.code(), "event": id,
            });
            Body::from(problem.to_string())
        });
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        let headers = response.headers_mut();
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("x-halligan-reason", reason.code());
        set("x-halligan-event-id", id);
        if decision.allowed() {
            for (name, value) in [
                ("x-halligan-token-id", decision.token.as_ref().map(ToString::to_string)),
                ("x-halligan-role", decision.role.as_ref().map(ToString::to_string)),
                ("x-halligan-deployment", decision.deployment.as_ref().map(ToString::to_string)),
            ] {
                set(name, &value.unwrap_or_default());
            }
        } else {
            set("content-type", "application/problem+json");
            if status == 401 {
                // RFC 6750 section 3.1: without a token, no error code.
                let missing = reason == Reason::TokenMissing;
                set("www-authenticate", if missing { "Bearer" } else { "Bearer error=\"invalid_token\"" });
            }
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

impl Reason {
    /// The reason in words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::NeedsControlPlane => {
                "A standard token needs the control plane; a direct-access token does not"
            }
            Self::ReplicaMissing => "This node has no replica yet",
            Self::ReplicaStale => "This node's replica is older than the policy allows",
            Self::ClockUntrusted => "This node's clock is behind what it knows to have passed",
            Self::AuditUnavailable => "This use could not be recorded",
            Self::PermissionDenied => "The token's role does not allow this",
            Self::RouteUnknown => "No route is known for this method and path",
            Self::PathInvalid => "What was asked for has more than one reading",
            _ => "The token does not open this deployment now",
        }
    }
}
