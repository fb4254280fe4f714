//! Listener for peers, with limits on connections, time and bytes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::archives::{ARCHIVES, IDLE, Part};
use super::face::{PeerFace, Reply};
use super::question::PeerRequest;
use super::{MAX_MESSAGE, NAME_PATH, PROOF};
use crate::dataplane::code::body_of;
use crate::platform::net::bearer;
use crate::platform::net::linger::Lingering;
use crate::platform::net::listener::{Bounds, Connections, accept};
use crate::platform::net::share::Each;
use crate::protocol::deploy::MEDIA_TYPE;

/// Maximum number of connections at a time. More wait to be accepted.
const MAX_CONNECTIONS: u32 = 128;
/// Time limits for the head of a request, and for its body.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(10));
/// Maximum lifetime of a connection, so that no peer keeps one for good.
const LIFETIME: Duration = Duration::from_mins(2);
/// Maximum size of a request's line and headers, in bytes.
const MAX_HEADERS: usize = 16 * 1024;

/// Maximum number of archives that are sent at a time.
const MAX_ARCHIVES: usize = 4;

/// Body of an answer: complete, or an archive piece by piece.
type Body = Either<Full<Bytes>, Channel<Bytes>>;

/// Answers peers until shutdown.
pub fn serve(
    listener: TcpListener,
    face: Arc<PeerFace>,
    each: Each,
    counted: Connections,
    stopped: watch::Receiver<()>,
) -> JoinHandle<()> {
    let archives = Arc::new(Semaphore::new(MAX_ARCHIVES));
    let bounds = Bounds { name: "peers", connections: MAX_CONNECTIONS, each: Some(each), counted };
    accept(listener, bounds, stopped, move |stream, _, place| {
        let served = timeout(LIFETIME, connection(stream, Arc::clone(&face), Arc::clone(&archives)));
        // A peer whose connection reaches the limit connects again.
        place.hold(async { drop(served.await) })
    })
}

async fn connection(stream: TcpStream, face: Arc<PeerFace>, archives: Arc<Semaphore>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (face, archives) = (Arc::clone(&face), Arc::clone(&archives));
        async move { Ok::<_, Infallible>(answer(face, archives, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE.0)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a peer's connection broke");
    }
}

async fn answer(face: Arc<PeerFace>, archives: Arc<Semaphore>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = Lingering::new(&parts, body);
    if (parts.method.as_str(), parts.uri.path()) == ("GET", NAME_PATH) {
        return response(face.name());
    }
    let peer = match face.admit(bearer::token_of(&parts.headers)) {
        Ok(peer) => peer,
        Err(reply) => return response(reply),
    };
    if parts.method == Method::GET && parts.uri.path().starts_with(ARCHIVES) {
        return archive(&face, archives, parts).await;
    }
    let read = timeout(PATIENCE.1, Limited::new(body, MAX_MESSAGE).collect());
    let Ok(Ok(body)) = read.await else {
        return response(Reply::problem(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the message is too large, or comes too slowly",
        ));
    };
    let body = body.to_bytes();
    let answering = tokio::task::spawn_blocking(move || {
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        face.answer(&peer, PeerRequest { method: parts.method.as_str(), path, query, body: &body })
    });
    response(answering.await.unwrap_or_else(|error| Reply::failed(&error)))
}

/// Sends an archive of code. Its digest stands in a signed deploy, so the answer needs no proof.
async fn archive(face: &PeerFace, archives: Arc<Semaphore>, parts: Parts) -> Response<Body> {
    let Ok(permit) = archives.try_acquire_owned() else {
        return response(Reply::problem(
            StatusCode::TOO_MANY_REQUESTS,
            "this node sends other archives; ask again",
        ));
    };
    let Some(code) = face.code().map(Arc::clone) else {
        return response(Reply::problem(StatusCode::NOT_FOUND, "there is no such call"));
    };
    let found =
        tokio::task::spawn_blocking(move || Part::find(&code, parts.uri.path(), &parts.headers)).await;
    let Ok(Some(part)) = found else {
        return response(Reply::problem(StatusCode::NOT_FOUND, "this node does not have the archive"));
    };
    let mut answer = Response::new(());
    let (mut status, mut headers) = (StatusCode::OK, HeaderMap::new());
    part.describe(&mut status, &mut headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    let (body, feeding) = body_of(part.file, IDLE);
    drop(tokio::spawn(async move {
        // The next archive may begin, however this one ended.
        drop(feeding.await);
        drop(permit);
    }));
    answer.map(|()| Either::Right(body))
}

fn response(reply: Reply) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from_owner(reply.body))));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.kind));
    if let Some(proof) = reply.proof.and_then(|proof| HeaderValue::from_str(&proof).ok()) {
        response.headers_mut().insert(PROOF, proof);
    }
    response
}
