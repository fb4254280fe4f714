//! Listener for peers, with limits on connections, time and bytes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::face::{PeerFace, Reply};
use super::question::Asked;
use super::{MAX_MESSAGE, NAME_PATH, PROOF};
use crate::platform::net::bearer;
use crate::platform::net::linger::Lingering;
use crate::platform::net::listener::{Bounds, Connections, accept};
use crate::platform::net::share::Each;

/// Maximum number of connections at a time. More wait to be accepted.
const MAX_CONNECTIONS: u32 = 128;
/// Time limits for the head of a request, and for its body.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(10));
/// Maximum lifetime of a connection, so that no peer keeps one for good.
const LIFETIME: Duration = Duration::from_mins(2);
/// Maximum size of a request's line and headers, in bytes.
const MAX_HEADERS: usize = 16 * 1024;

/// Answers peers until shutdown.
pub fn serve(
    listener: TcpListener,
    face: Arc<PeerFace>,
    each: Each,
    counted: Connections,
    stopped: watch::Receiver<()>,
) -> JoinHandle<()> {
    let bounds = Bounds { name: "peers", connections: MAX_CONNECTIONS, each: Some(each), counted };
    accept(listener, bounds, stopped, move |stream, _, place| {
        let served = timeout(LIFETIME, connection(stream, Arc::clone(&face)));
        // A peer whose connection reaches the limit connects again.
        place.hold(async { drop(served.await) })
    })
}

async fn connection(stream: TcpStream, face: Arc<PeerFace>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let face = Arc::clone(&face);
        async move { Ok::<_, Infallible>(answer(face, request).await) }
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

async fn answer(face: Arc<PeerFace>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = Lingering::new(&parts, body);
    if (parts.method.as_str(), parts.uri.path()) == ("GET", NAME_PATH) {
        return response(face.name());
    }
    let peer = match face.admit(bearer::of(&parts.headers)) {
        Ok(peer) => peer,
        Err(reply) => return response(reply),
    };
    let read = timeout(PATIENCE.1, Limited::new(body, MAX_MESSAGE).collect());
    let Ok(Ok(body)) = read.await else {
        return response(Reply::problem(413, "the message is too large, or comes too slowly"));
    };
    let body = body.to_bytes();
    let answering = tokio::task::spawn_blocking(move || {
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        face.answer(&peer, Asked { method: parts.method.as_str(), path, query, body: &body })
    });
    response(answering.await.unwrap_or_else(|error| Reply::problem(500, &error.to_string())))
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_owner(reply.body)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.kind));
    if let Some(proof) = reply.proof.and_then(|proof| HeaderValue::from_str(&proof).ok()) {
        response.headers_mut().insert(PROOF, proof);
    }
    response
}
