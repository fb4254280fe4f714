//! Serves Envoy over gRPC: translates `envoy.service.auth.v3.Authorization` to the HTTP interface and back.

pub mod messages;

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::SET_COOKIE;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Response, Status};
use tonic_prost::ProstCodec;

use self::messages::{
    CheckRequest, CheckResponse, Denied, HeaderValueOption, HttpResponse, HttpStatus, Passed,
};
use super::answer::Answer;
use super::browser::Caller;
use super::http::Face;
use super::reserved;
use crate::dataplane::decide::{RequestFacts, Target};
use crate::platform::net::activity::Activity;
use crate::platform::net::connections::until_stopped;
use crate::platform::net::forwarded;
use crate::platform::net::listener::{Bounds, Connections, FIRST, IDLE, accept};
use crate::platform::net::share::Each;
use crate::protocol::host::host_name;

/// Path of the only method.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Key of the deployment in a route's configuration (`context_extensions`).
const DEPLOYMENT: &str = "deployment";
/// Maximum number of connections at a time. Envoy keeps one for each of its workers.
const MAX_CONNECTIONS: u32 = 1024;

/// gRPC server over the HTTP interface, with the same trusted peers.
#[derive(Clone)]
pub struct ExtAuthz(Arc<Face>);

impl ExtAuthz {
    /// Returns a server over this HTTP interface.
    #[must_use]
    pub fn new(face: &Arc<Face>) -> Self {
        Self(Arc::clone(face))
    }

    /// Serves on `listener` until shutdown.
    #[must_use]
    pub fn serve(
        self,
        listener: TcpListener,
        each: Each,
        counted: Connections,
        stopped: watch::Receiver<()>,
    ) -> JoinHandle<()> {
        let stop = stopped.clone();
        let bounds = Bounds { name: "grpc", connections: MAX_CONNECTIONS, each: Some(each), counted };
        accept(listener, bounds, stopped, move |stream, peer, place| {
            let served = self.clone().connection(stream, peer, stop.clone());
            place.hold(served)
        })
    }

    async fn connection(self, stream: TcpStream, peer: IpAddr, stopped: watch::Receiver<()>) {
        let activity = Arc::new(Activity::default());
        let (noted, watched) = (Arc::clone(&activity), activity.watch(stream));
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let call = Call { face: self.clone(), peer };
            let busy = noted.begin();
            async move {
                let _busy = busy;
                if request.uri().path() != CHECK {
                    return Ok(Status::unimplemented("Authorization/Check is all there is").into_http());
                }
                let answer = async { Grpc::new(ProstCodec::default()).unary(call, request).await };
                // A check request is small, so a client that does not send it completely loses its connection.
                let late = |_| Status::deadline_exceeded("the request did not arrive in time").into_http();
                Ok::<_, Infallible>(timeout(FIRST, answer).await.unwrap_or_else(late))
            }
        });
        let mut http = http2::Builder::new(TokioExecutor::new());
        let connection = http
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(IDLE))
            .keep_alive_timeout(FIRST)
            .serve_connection(TokioIo::new(watched), service);
        let wind_down = http2::Connection::graceful_shutdown;
        until_stopped(connection, wind_down, Duration::ZERO, peer, stopped, activity).await;
    }

    /// Decides on a check request from `peer`.
    async fn check(&self, peer: IpAddr, asked: CheckRequest) -> Result<CheckResponse, Status> {
        if !forwarded::within(&self.0.trusted.load(), peer) {
            return Err(Status::permission_denied("this peer is not in proxies.trusted"));
        }
        let attributes = asked.attributes.unwrap_or_default();
        let request = attributes.request.and_then(|request| request.http).unwrap_or_default();
        let host = host_name(&request.host);
        let deployment = attributes.context_extensions.get(DEPLOYMENT);
        let source = attributes.source.and_then(|source| source.address?.socket_address);
        let facts = RequestFacts {
            deployment: deployment.map_or(Target::Host(&host), |id| Target::Id(id)),
            method: &request.method,
            uri: &request.path,
            client: source.and_then(|source| forwarded::address(&source.address)),
        };
        let (fields, sessions) = (&request.headers, self.0.authorizer.sessions.as_deref());
        let caller = Caller::read(fields, &request.method, &request.host, sessions);
        let trace = self.0.authorizer.traces.request(|name| request.headers.get(name).map(String::as_str));
        let verdict = self.0.authorizer.authorize(caller.credential(), &facts, trace).await;
        let mut extras = caller.extras(fields, &verdict, &request.path, sessions);
        extras.hands_on_lead = true;
        let sent = request.headers.keys().map(String::as_str);
        Ok(translated(self.0.answers.for_verdict(&verdict, &extras), sent).await)
    }
}

/// Translates an HTTP response into Envoy's message. `sent` are the names of the client's header fields: reserved ones are
/// removed, unless the response sets them.
async fn translated(answer: Answer, sent: impl Iterator<Item = &str>) -> CheckResponse {
    let (parts, body) = answer.into_parts();
    let spoofed = sent.filter(|name| reserved::is_ours(name) && !parts.headers.contains_key(*name));
    // A field with an empty value is removed from the request, not sent empty.
    let (mut headers, mut headers_to_remove) = (vec![], spoofed.map(str::to_owned).collect::<Vec<_>>());
    let mut response_headers_to_add = vec![];
    for (name, value) in &parts.headers {
        // A value that is no text is removed too: the client's must not stay in its place.
        let value = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
        let header = messages::HeaderValue { key: name.to_string(), value: value.to_owned() };
        let (header, passed) = (Some(header), parts.status == StatusCode::OK);
        if value.is_empty() {
            headers_to_remove.push(name.to_string());
        } else if passed && name == SET_COOKIE {
            let append_action = messages::APPEND_IF_EXISTS_OR_ADD;
            response_headers_to_add.push(HeaderValueOption { header, append_action });
        } else {
            headers.push(HeaderValueOption { header, append_action: messages::OVERWRITE_IF_EXISTS_OR_ADD });
        }
    }
    let code = match parts.status.as_u16() {
        200 => Code::Ok,
        401 => Code::Unauthenticated,
        503 => Code::Unavailable,
        _ => Code::PermissionDenied,
    };
    let http_response = if code == Code::Ok {
        HttpResponse::Passed(Passed { headers, headers_to_remove, response_headers_to_add })
    } else {
        let Ok(body) = body.collect().await;
        let status = Some(HttpStatus { code: parts.status.as_u16().into() });
        HttpResponse::Denied(Denied {
            status,
            headers,
            body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        })
    };
    let status = messages::Status { code: code as i32, message: String::new() };
    CheckResponse { status: Some(status), http_response: Some(http_response) }
}

struct Call {
    face: ExtAuthz,
    peer: IpAddr,
}

impl UnaryService<CheckRequest> for Call {
    type Response = CheckResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<CheckResponse>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let (face, peer) = (self.face.clone(), self.peer);
        Box::pin(async move { face.check(peer, request.into_inner()).await.map(Response::new) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use hyper::header;

    use super::*;

    #[tokio::test]
    async fn nothing_but_200_passes() {
        for (status, code) in [(200, 0), (401, 16), (403, 7), (503, 14), (429, 7), (500, 7), (204, 7)] {
            let mut answer = Answer::default();
            *answer.status_mut() = status.try_into().unwrap();
            let told = translated(answer, std::iter::empty()).await;
            assert_eq!(told.status.unwrap().code, code, "{status}");
            let passed = matches!(told.http_response, Some(HttpResponse::Passed(_)));
            assert_eq!(passed, status == 200, "{status}");
        }
    }

    #[tokio::test]
    async fn what_is_empty_is_taken_out_and_the_rest_overwrites() {
        let mut answer = Answer::default();
        answer.headers_mut().insert(header::AUTHORIZATION, header::HeaderValue::from_static(""));
        answer.headers_mut().insert("x-halligan-role", header::HeaderValue::from_static("A@1"));
        let sent =
            ["x-halligan-role", "x-halligan-replica-age", "x_halligan_role", "x-halligan-any", "x-mine"];
        let Some(HttpResponse::Passed(passed)) = translated(answer, sent.into_iter()).await.http_response
        else {
            panic!("it passes");
        };
        let removed = ["x-halligan-replica-age", "x_halligan_role", "x-halligan-any", "authorization"];
        assert_eq!(passed.headers_to_remove, removed);
        assert_eq!(passed.headers.len(), 1);
        assert_eq!(passed.headers[0].append_action, messages::OVERWRITE_IF_EXISTS_OR_ADD);
    }

    #[tokio::test]
    async fn a_session_goes_to_the_client_and_no_cookie_of_the_caller_stays() {
        for (cookies, kept) in [
            (&b"theme=dark"[..], Some("theme=dark")),
            (b"", None),
            (b"a=\xe9", None),
            ("a=é".as_bytes(), Some("a=é")),
        ] {
            let mut answer = Answer::default();
            let headers = answer.headers_mut();
            headers.insert(header::COOKIE, header::HeaderValue::from_bytes(cookies).unwrap());
            headers.insert(SET_COOKIE, header::HeaderValue::from_static("session"));
            let Some(HttpResponse::Passed(passed)) =
                translated(answer, ["cookie"].into_iter()).await.http_response
            else {
                panic!("it passes");
            };
            let value = |header: &HeaderValueOption| header.header.clone().unwrap().value;
            assert_eq!(passed.headers.iter().map(value).collect::<Vec<_>>(), Vec::from_iter(kept));
            assert_eq!(passed.headers_to_remove.is_empty(), kept.is_some());
            assert_eq!(passed.response_headers_to_add.iter().map(value).collect::<Vec<_>>(), ["session"]);
        }
    }
}
