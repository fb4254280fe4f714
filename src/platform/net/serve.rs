//! Serves a router on one connection, with time limits.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service as _;

use super::activity::Activity;
use super::linger::Lingering;
use super::listener::{FIRST, IDLE};

/// Time limit for a request's body.
const BODY: Duration = Duration::from_mins(1);

/// Serves `router` on a connection until it ends, is idle for too long, or `stopped` changes; then requests in progress are
/// answered first. Handlers get `from` as [`ConnectInfo`].
pub async fn serve_router<S, I>(stream: S, router: Router, from: I, stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    I: Clone + Send + Sync + 'static,
{
    serve_within(stream, router, from, stopped, Activity::default()).await;
}

async fn serve_within<S, I>(
    stream: S,
    router: Router,
    from: I,
    mut stopped: watch::Receiver<()>,
    activity: Activity,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    I: Clone + Send + Sync + 'static,
{
    let activity = Arc::new(activity);
    let (noted, watched) = (Arc::clone(&activity), activity.watch(stream));
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = noted.begin();
        let (mut head, body) = request.into_parts();
        head.extensions.insert(ConnectInfo(from.clone()));
        let time = BodyTime::default();
        head.extensions.insert(time.clone());
        let body = Timely { body, deadline: Box::pin(sleep(BODY)), time, over: false };
        let body = Lingering::new(&head, body);
        let answer = router.clone().call(Request::from_parts(head, Body::new(body)));
        async move { Ok::<_, Infallible>(busy.sending(answer.await?)) }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    // This limit also applies between requests. `activity` has a shorter one for the first request, and for one that has begun.
    http.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(IDLE).keep_alive_timeout(FIRST);
    let mut connection = pin!(http.serve_connection(TokioIo::new(watched), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = activity.ceases() => return,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection broke");
    }
}

/// Time limit of a request's body, among the request's extensions.
#[derive(Clone, Debug, Default)]
pub struct BodyTime(Arc<AtomicBool>);

impl BodyTime {
    /// Lets the time limit count for each piece of the body and no longer for all of it. It is for bodies that are too large
    /// to arrive within a minute, from callers that were authenticated.
    pub fn count_for_each_piece(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Error of a request's body that did not arrive in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body did not arrive in time")]
pub struct LateBody;

/// Body of a request, with a time limit for the complete body or for each piece.
struct Timely {
    body: Incoming,
    deadline: Pin<Box<Sleep>>,
    time: BodyTime,
    over: bool,
}

impl hyper::body::Body for Timely {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            if self.time.0.load(Ordering::Relaxed) {
                self.deadline.as_mut().reset(Instant::now() + BODY);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if self.deadline.as_mut().poll(context).is_ready() {
            self.over = true;
            return Poll::Ready(Some(Err(LateBody.into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    const LENGTH: usize = 4 << 20;
    const HTTP1: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    /// A preface, settings that open no window, and a request for `/` (RFC 9113 sections 3.4, 6.5.2 and 6.2).
    const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\
        \x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x01a";

    /// Returns a client of a server that answers with many bytes. The client may be silent for less than half a second.
    async fn asks(request: &[u8]) -> (DuplexStream, JoinHandle<()>, watch::Sender<()>) {
        let (mut client, server) = duplex(4096);
        let (stop, told) = watch::channel(());
        let router = Router::new().route("/", get(|| async { vec![b'x'; LENGTH] }));
        let activity = Activity::within(Duration::from_millis(400), Duration::from_millis(400));
        client.write_all(request).await.unwrap();
        let ended = tokio::spawn(serve_within(server, router, (), told, activity));
        (client, ended, stop)
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_of_its_answer_loses_its_place() {
        for request in [HTTP1, HTTP2] {
            let (_client, served, _stop) = asks(request).await;
            tokio::time::timeout(Duration::from_secs(20), served).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_gets_its_answer_whole() {
        let (mut client, _served, _stop) = asks(HTTP1).await;
        let (mut space, mut got) = ([0; 4096], 0);
        while got < LENGTH {
            // All of it takes longer than the client may be silent.
            sleep(Duration::from_millis(1)).await;
            let length = client.read(&mut space).await.unwrap();
            assert_ne!(length, 0, "closed after {got} bytes");
            got += length;
        }
    }
}
