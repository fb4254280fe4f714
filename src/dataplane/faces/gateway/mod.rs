//! Gateway: the daemon as a reverse proxy in front of its deployments. It decides on every request, and streams the allowed
//! ones to the deployment, with the caller's identity in place of the caller's token.

pub mod config;
mod connection;
mod deployment_client;
mod failure;
mod forward;
mod headers;
mod idle_limit;
mod request_target;
mod tls;
mod websocket;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use self::config::{GatewayConfig, Limits, Upstream};
use self::deployment_client::DeploymentClient;
use self::failure::Failure;
use self::forward::Way;
use self::idle_limit::BoxError;
use self::request_target::RequestTarget;
use self::tls::Certificate;
use super::answer::{Answer, Answers};
use super::browser::{Caller, MAX_FORM, site};
use super::guard::{Drain, Fault, Found, Guarded, MAX_FIELDS};
use super::upstream_identity::UpstreamIdentity;
use crate::dataplane::authorize::sessions::Sessions;
use crate::dataplane::authorize::{Authorizer, Verdict};
use crate::dataplane::decide::{Decision, Reason, RequestFacts, Target};
use crate::platform::net::activity::Activity;
use crate::platform::net::connections::until_stopped;
use crate::platform::net::fields::head_bytes;
use crate::platform::net::linger::Lingering;
use crate::platform::net::listener::{Bounds, accept};
use crate::platform::net::share::{Each, Shares};
use crate::platform::net::tls::{TlsError, client};
use crate::protocol::host::host_name;
use crate::protocol::id::DeploymentId;

/// Streamed body of a message.
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Bytes that the HTTP/2 parser accepts beyond the limit for headers. It rejects larger headers by itself, without a reason
/// and an event.
const BEYOND: u32 = 256 * 1024;

/// Maximum number of concurrent streams of an HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// Reasons why the gateway cannot start.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The certificate, or the authorities of its upstreams, cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no address to listen on.
    #[error(
        "there is nowhere to listen; name an address in gateway.listen, or hand over a socket named gateway"
    )]
    Nowhere,
}

/// Reads the files that a configuration names, without starting anything.
pub fn check(config: &GatewayConfig) -> Result<(), GatewayError> {
    client(config.ca_file.as_deref())?;
    Ok(config.tls.as_ref().map_or(Ok(()), tls::check)?)
}

/// Reverse proxy in front of the deployments.
pub struct Gateway {
    authorizer: Arc<Authorizer>,
    answers: Answers,
    upstreams: HashMap<DeploymentId, Upstream>,
    hosts: HashMap<String, DeploymentId>,
    limits: Limits,
    deployments: DeploymentClient,
    certificate: Option<Certificate>,
    websockets: Arc<Semaphore>,
    shares: Arc<Shares>,
}

impl Gateway {
    /// Reads the files that the configuration names.
    pub fn new(
        config: GatewayConfig,
        authorizer: Arc<Authorizer>,
        identity: Option<Arc<UpstreamIdentity>>,
    ) -> Result<Self, GatewayError> {
        let GatewayConfig { listen: _, tls, ca_file, deployments, limits } = config;
        let (mut upstreams, mut hosts) = (HashMap::new(), HashMap::new());
        for (id, behind) in deployments {
            hosts.extend(behind.hosts.iter().map(|host| (host_name(host).into_owned(), id.clone())));
            upstreams.insert(id, behind.upstream);
        }
        Ok(Self {
            authorizer,
            // The gateway answers clients itself, so no proxy alters its status codes.
            answers: Answers { pass_status: true, identity },
            upstreams,
            hosts,
            deployments: DeploymentClient::new(client(ca_file.as_deref())?, &limits),
            certificate: tls.map(Certificate::new).transpose()?,
            websockets: Arc::new(Semaphore::new(limits.connections as usize)),
            shares: Arc::default(),
            limits,
        })
    }

    /// Serves on `listener` until shutdown.
    #[must_use]
    pub fn serve(self: &Arc<Self>, listener: TcpListener, stopped: watch::Receiver<()>) -> JoinHandle<()> {
        let (gateway, stop) = (Arc::clone(self), stopped.clone());
        let counted = self.authorizer.metrics.connections();
        // The gateway takes its peer for the client, so a peer on this host has a share too.
        let (connections, each) = (self.limits.connections, Some(Each::everybody(self.limits.share())));
        let bounds = Bounds { name: "gateway", connections, each, counted };
        accept(listener, bounds, stopped, move |stream, peer, place| {
            let served = Arc::clone(&gateway).connection(stream, peer, stop.clone());
            place.hold(served)
        })
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: IpAddr, stopped: watch::Receiver<()>) {
        let peer = peer.to_canonical();
        let Some(certificate) = &self.certificate else {
            return Arc::clone(&self).http1(stream, peer, false, stopped).await;
        };
        let handshake = certificate.acceptor.accept(stream);
        match tokio::time::timeout(self.limits.header(), handshake).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Arc::clone(&self).http2(stream, peer, stopped).await;
            }
            Ok(Ok(stream)) => Arc::clone(&self).http1(stream, peer, true, stopped).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
        }
    }

    async fn http1<S>(self: Arc<Self>, stream: S, peer: IpAddr, secure: bool, stopped: watch::Receiver<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            // This limit also applies between requests. `activity` has the one for a head.
            .header_read_timeout(self.limits.idle().max(self.limits.header()))
            .max_headers(MAX_FIELDS)
            .max_buf_size((self.limits.header_bytes as usize).max(8192));
        let found = Found::default();
        let drain = Drain { bytes: self.limits.body_bytes as u64, time: self.limits.header() };
        let activity = self.activity();
        let (noted, watched) = (Arc::clone(&activity), activity.watch(stream));
        let header_bytes = self.limits.header_bytes as usize;
        let stream = Guarded::new(watched, header_bytes, found.clone(), Arc::clone(&activity), drain);
        let service = service_fn(move |request: Request<Incoming>| {
            let busy = noted.begin();
            // The guard checks nothing after such a request, since other bytes may be of another protocol.
            let beyond = request.headers().contains_key(header::UPGRADE) && request.body().is_end_stream();
            let answer = Arc::clone(&self).respond(request, found.next(), peer, secure);
            let found = found.clone();
            async move {
                let mut answer = answer.await;
                if beyond && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                    found.end();
                    answer = last(answer);
                }
                Ok::<_, Infallible>(busy.sending(answer))
            }
        });
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        until_stopped(
            connection,
            http1::UpgradeableConnection::graceful_shutdown,
            Duration::ZERO,
            peer,
            stopped,
            activity,
        )
        .await;
    }

    /// Returns the limit of idle time, which also applies to an HTTP/2 connection that only answers PINGs.
    fn activity(&self) -> Arc<Activity> {
        Arc::new(Activity::within(self.limits.header(), self.limits.idle()))
    }

    async fn http2<S>(self: Arc<Self>, stream: S, peer: IpAddr, stopped: watch::Receiver<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_header_list_size(self.limits.header_bytes.saturating_add(BEYOND))
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(self.limits.idle())
            .keep_alive_timeout(self.limits.header());
        let activity = self.activity();
        let (noted, watched) = (Arc::clone(&activity), activity.watch(stream));
        let service = service_fn(move |request| {
            let (busy, answer) = (noted.begin(), Arc::clone(&self).respond(request, None, peer, true));
            async move { Ok::<_, Infallible>(busy.sending(answer.await)) }
        });
        let connection = http.serve_connection(TokioIo::new(watched), service);
        let wind_down = http2::Connection::graceful_shutdown;
        until_stopped(connection, wind_down, Duration::ZERO, peer, stopped, activity).await;
    }

    /// Decides on a request, and passes it on if it is allowed.
    async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        fault: Option<Fault>,
        peer: IpAddr,
        secure: bool,
    ) -> Response<Body> {
        if let Some(status) = fault.and_then(Fault::status) {
            return last(self.refuse(status, Some(peer)));
        }
        let (parts, body) = request.into_parts();
        let body = Lingering::within(&parts, body, self.limits.body_bytes as u64, self.limits.header());
        // In HTTP/1.1 the guard has counted the bytes.
        if parts.version == Version::HTTP_2 && head_bytes(&parts) > self.limits.header_bytes as usize {
            return self.refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Some(peer));
        }
        // An ambiguous request has no target. It is denied for that, unless its token is denied first.
        let asked = RequestTarget::read(&parts).filter(|_| fault.is_none());
        let host = asked.as_ref().map_or("", |asked| asked.host).to_owned();
        let target = asked.as_ref().map_or("", |asked| asked.target);
        let name = host_name(&host);
        let deployment = match (&asked, self.hosts.get(&*name)) {
            (None, _) => Target::Unknown,
            (Some(_), Some(id)) => Target::Id(id.as_str()),
            (Some(_), None) => Target::Host(&name),
        };
        let facts =
            RequestFacts { deployment, method: parts.method.as_str(), uri: target, client: Some(peer) };
        let sessions = self.authorizer.sessions.as_ref();
        if let Some(sessions) = sessions.filter(|_| site::serves(target)) {
            let asked = site::PageRequest {
                method: facts.method,
                target,
                deployment,
                host: &host,
                client: Some(peer),
                headers: &parts.headers,
            };
            return self.page(sessions, &asked, body).await;
        }
        // The caller's trace context is not trusted.
        let trace = self.authorizer.traces.request(|_| None);
        let caller = Caller::read(&parts.headers, facts.method, &host, sessions.map(Arc::as_ref));
        let verdict = self.authorizer.authorize(caller.credential(), &facts, trace).await;
        let extras = caller.extras(&parts.headers, &verdict, target, sessions.map(Arc::as_ref));
        let told = self.answers.for_verdict(&verdict, &extras);
        let Decision::Allowed(allowed) = &verdict.decision else {
            if fault.is_some() {
                // The guard passes no bytes after a fault.
                body.forget();
            }
            let doubtful = asked.is_none();
            let answer = own(told);
            // After an ambiguous request the beginning of the next one is unknown.
            return if doubtful && parts.version < Version::HTTP_2 { last(answer) } else { answer };
        };
        let told = told.into_parts().0.headers;
        let way = Way { host: &host, client: peer, secure, told: &told };
        let passed = match self.upstreams.get(&allowed.deployment) {
            Some(upstream) => self.pass(Request::from_parts(parts, body), upstream, &way).await,
            None => Err(Failure::NoUpstream),
        };
        passed.unwrap_or_else(|failure| {
            failure.log(&verdict.event);
            failure.answer(&told)
        })
    }

    /// Answers a request that cannot be parsed.
    fn refuse(&self, status: StatusCode, client: Option<IpAddr>) -> Response<Body> {
        let facts = RequestFacts { deployment: Target::Unknown, method: "", uri: "", client };
        let Verdict { decision, event, .. } = self.authorizer.refuse(Reason::PathInvalid, &facts);
        own(self.answers.denied(&decision, &event, status.as_u16()).map(http_body_util::Full::from))
    }

    /// Answers a request for one of the daemon's own pages.
    async fn page(
        &self,
        sessions: &Arc<Sessions>,
        asked: &site::PageRequest<'_>,
        body: Lingering<Incoming>,
    ) -> Response<Body> {
        let form = tokio::time::timeout(self.limits.header(), Limited::new(body, MAX_FORM).collect());
        let Ok(Ok(form)) = form.await else {
            // The unread rest of the form would be parsed as the next request.
            return last(self.refuse(StatusCode::BAD_REQUEST, asked.client));
        };
        let form = Zeroizing::new(form.to_bytes().to_vec());
        own(site::answer(&self.authorizer, sessions, asked, &form).await)
    }
}

/// Returns the daemon's own answer with the gateway's kind of body.
fn own(answer: Answer) -> Response<Body> {
    answer.map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

/// Makes an answer the last one of its connection.
fn last(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}
