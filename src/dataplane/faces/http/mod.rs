//! HTTP interface for proxies: forward authentication, health checks and metrics.

mod deploys;
mod fast_path;
mod original;
mod scrape;
mod workers;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Response, StatusCode};
use ipnet::IpNet;
use tokio::time::timeout;
use zeroize::Zeroizing;

use self::deploys::DEPLOYS;
use super::answer::{Answer, Answers};
use super::browser::{Caller, Extras, MAX_FORM, site};
use super::guard::Fault;
use crate::dataplane::authorize::{Authorizer, Verdict};
use crate::dataplane::code::Code;
use crate::dataplane::decide::{Reason, RequestFacts, Target};
use crate::platform::net::fields::{self, Fields};
use crate::platform::net::forwarded;
use crate::platform::net::linger::Lingering;
use crate::platform::net::listener::FIRST;
use crate::platform::net::share::{Each, Share};
use crate::protocol::ends::{EndKind, due};

pub use fast_path::{Question, Reading, Room};
pub use original::Original;
pub use workers::{Prober, Workers};

/// Path for the daemon's own pages. The identifier of the deployment follows, and then the page's path on its host.
const PAGES: &str = "/v1/pages/";

/// Path for authorization requests. An identifier behind it names the deployment; otherwise the host name does.
const AUTHORIZE: &str = "/v1/authorize";

/// Parts that the HTTP interface needs.
pub struct Face {
    /// Decides and records.
    pub authorizer: Arc<Authorizer>,
    /// Networks of peers whose headers are trusted.
    pub trusted: ArcSwap<Vec<IpNet>>,
    /// Writes verdicts as responses.
    pub answers: Answers,
    /// Code of the deployments, or `None` if this host takes no deploys.
    pub code: Option<Arc<Code>>,
}

impl Face {
    /// Returns the share of one client in the connections of a listener. Trusted proxies have no share: they bring the
    /// connections of many clients.
    pub(in crate::dataplane) fn each(self: &Arc<Self>, share: Share) -> Each {
        let face = Arc::clone(self);
        Each::except(share, move |client| forwarded::within(&face.trusted.load(), client))
    }

    /// Answers a request from `peer`. Only pages and deploys read its body.
    async fn answer(&self, peer: IpAddr, request: &Parts, body: Lingering<Incoming>) -> Answer {
        let path = request.uri.path();
        if path.starts_with(PAGES) {
            return self.page(peer, request, body).await;
        }
        if let Some(deployment) = path.strip_prefix(DEPLOYS) {
            return self.deploy(deployment, peer, request, body).await;
        }
        if let Some(rest) = path.strip_prefix(AUTHORIZE) {
            return match rest.strip_prefix('/') {
                Some(deployment) => self.authorize(Some(deployment), peer, request).await,
                None if rest.is_empty() => self.authorize(None, peer, request).await,
                None => plain(StatusCode::NOT_FOUND, "not found\n"),
            };
        }
        if let Some(rest) = path.strip_prefix("/v1/ext_authz/") {
            let deployment = rest.split_once('/').map_or(rest, |(deployment, _)| deployment);
            return self.ext_authz(deployment, peer, request).await;
        }
        match path {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.scrape().await,
            "/.well-known/jwks.json" => self.jwks(),
            _ => plain(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    /// Rejects a request whose head the parser would reject, with a reason and an event.
    async fn malformed(&self, peer: IpAddr, request: &Parts, fault: Fault) -> Answer {
        if let Some(status) = fault.status() {
            let facts = RequestFacts { deployment: Target::Unknown, method: "", uri: "", client: Some(peer) };
            let Verdict { decision, event, .. } = self.authorizer.refuse(Reason::PathInvalid, &facts);
            return self.answers.denied(&decision, &event, status.as_u16()).map(Full::from);
        }
        // Only the target is invalid. The request is denied for that, unless its token is denied first.
        let client = forwarded::client(&request.headers, peer, &self.trusted.load());
        let original = Original::unknown(request.method.as_str());
        let verdict = self.verdict(Target::Unknown, &original, client, peer, &request.headers);
        let (verdict, extras) = verdict.await;
        self.answers.for_verdict(&verdict, &extras)
    }

    /// Returns the JWK set for upstreams (RFC 7517), or 404 if no identity is configured.
    fn jwks(&self) -> Answer {
        let Some(identity) = &self.answers.identity else {
            return plain(StatusCode::NOT_FOUND, "no upstream identity is configured\n");
        };
        let mut answer = Response::new(Full::from(identity.jwks()));
        let kind = HeaderValue::from_static("application/jwk-set+json");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        answer
    }

    fn ready(&self) -> Answer {
        if self.authorizer.live.snapshot().head().is_none() {
            plain(StatusCode::SERVICE_UNAVAILABLE, "no replica yet\n")
        } else if self.authorizer.audit.failing() {
            plain(StatusCode::SERVICE_UNAVAILABLE, "the audit log can't be written\n")
        } else if !self.authorizer.live.now((self.authorizer.clock)()).trusted() {
            plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "the clock is behind the time that is known to have passed\n",
            )
        } else if self.authorizer.live.useless((self.authorizer.clock)()) {
            plain(StatusCode::SERVICE_UNAVAILABLE, "the replica is older than any role allows\n")
        } else {
            let damage = self.authorizer.live.damage();
            let ready = self.authorizer.live.standing().progress.state.ready();
            // Ready despite damage: the node decides from all that it can read, so a proxy must not turn away from it.
            let lines = damage
                .iter()
                .fold(String::new(), |lines, damage| lines + "damaged: " + &damage.public + "\n");
            plain(StatusCode::OK, format!("{ready}{lines}{}", self.ending()))
        }
    }

    /// Returns a line for each expiry that is due, except tokens': an unauthenticated reader must not learn who has access.
    fn ending(&self) -> String {
        let now = (self.authorizer.clock)();
        let due = due(self.authorizer.live.ends(), now).into_iter();
        let told = due.filter(|end| matches!(end.kind, EndKind::Keyset | EndKind::Certificate));
        told.fold(String::new(), |text, end| text + &end.sentence(now) + "\n")
    }

    /// Authorizes a request that the proxy describes in headers.
    async fn authorize(&self, deployment: Option<&str>, peer: IpAddr, request: &Parts) -> Answer {
        let told = self.decide_on_original(deployment, request.method.as_str(), &request.headers, peer);
        let (verdict, extras) = told.await;
        self.answers.for_verdict(&verdict, &extras)
    }

    /// Answers a request for one of the daemon's pages, which the proxy hands on with a prefix before its path.
    async fn page(&self, peer: IpAddr, request: &Parts, body: Lingering<Incoming>) -> Answer {
        let target = request.uri.path_and_query().map_or("", PathAndQuery::as_str);
        let named = target.strip_prefix(PAGES).and_then(|rest| {
            let end = rest.find('/')?;
            Some((&rest[..end], &rest[end..]))
        });
        let trusted = self.trusted.load();
        let sessions = self.authorizer.sessions.as_ref().filter(|_| forwarded::within(&trusted, peer));
        let (Some((deployment, target)), Some(sessions)) = (named, sessions) else {
            return plain(StatusCode::NOT_FOUND, "not found\n");
        };
        if !site::serves(target) {
            return plain(StatusCode::NOT_FOUND, "not found\n");
        }
        let Ok(Ok(body)) = timeout(FIRST, Limited::new(body, MAX_FORM).collect()).await else {
            return plain(StatusCode::BAD_REQUEST, "the form did not come, or is too large\n");
        };
        let headers = &request.headers;
        let host = ["x-original-host", "x-forwarded-host", "host"].into_iter();
        let host = host.filter(|name| headers.contains_key(*name)).map(|name| headers.only(name)).next();
        let asked = site::PageRequest {
            method: request.method.as_str(),
            target,
            deployment: Target::Id(deployment),
            host: host.flatten().and_then(fields::text).unwrap_or_default(),
            client: forwarded::client(headers, peer, &trusted),
            headers,
        };
        let body = Zeroizing::new(body.to_bytes().to_vec());
        site::answer(&self.authorizer, sessions, &asked, &body).await
    }

    /// Decides on the request that the header fields of `peer` describe. `method` is the method of the proxy's own request.
    async fn decide_on_original<F>(
        &self,
        deployment: Option<&str>,
        method: &str,
        fields: &F,
        peer: IpAddr,
    ) -> (Verdict, Extras)
    where
        F: Fields + ?Sized,
    {
        let trusted = self.trusted.load();
        let client = forwarded::client(fields, peer, &trusted);
        let read = Original::read(fields, peer, &trusted);
        // The host name is normalized only if no identifier names the deployment.
        let host = match (&read, deployment) {
            (Ok(original), None) => original.host_name(),
            _ => Cow::default(),
        };
        let target = match (deployment, &read) {
            (Some(id), _) => Target::Id(id),
            (None, Ok(_)) => Target::Host(&host),
            (None, Err(_)) => Target::Unknown,
        };
        let original = read.unwrap_or_else(|_| Original::unknown(method));
        self.verdict(target, &original, client, peer, fields).await
    }

    /// Authorizes a request in the form of Envoy's ext_authz over HTTP: the original request, with a prefix before its path.
    async fn ext_authz(&self, deployment: &str, peer: IpAddr, request: &Parts) -> Answer {
        let prefix = "/v1/ext_authz/".len() + deployment.len();
        let trusted = self.trusted.load();
        let client = forwarded::client(&request.headers, peer, &trusted);
        let original = Original::behind(prefix, request, peer, &trusted);
        let original = original.unwrap_or_else(|_| Original::unknown(request.method.as_str()));
        let target = Target::Id(deployment);
        let (verdict, mut extras) = self.verdict(target, &original, client, peer, &request.headers).await;
        // Envoy takes a 5xx for a failure of the daemon, but no other status.
        extras.hands_on_lead = true;
        self.answers.for_verdict(&verdict, &extras)
    }

    /// Ambiguous proxy headers leave the path unknown. Such a request is denied with `path_invalid`, unless its token is
    /// denied first.
    async fn verdict(
        &self,
        deployment: Target<'_>,
        original: &Original<'_>,
        client: Option<IpAddr>,
        peer: IpAddr,
        fields: &(impl Fields + ?Sized),
    ) -> (Verdict, Extras) {
        let facts = RequestFacts { deployment, method: original.method, uri: original.uri, client };
        let trace = self.authorizer.traces.request(|name| {
            let told = || fields.only(name).and_then(fields::text);
            forwarded::within(&self.trusted.load(), peer).then(told).flatten()
        });
        let sessions = self.authorizer.sessions.as_deref();
        let caller = Caller::read(fields, original.method, original.host.unwrap_or_default(), sessions);
        let verdict = self.authorizer.authorize(caller.credential(), &facts, trace).await;
        let extras = caller.extras(fields, &verdict, original.uri, sessions);
        (verdict, extras)
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
