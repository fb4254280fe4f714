//! Connections to deployments that tell when they are gone, and requests that were lost with one.
//!
//! A connection's task can end at the moment in which the client hands a request to it. The request then lies in a channel that
//! nobody reads, and the client waits for an answer that cannot come: it holds the sender, so the channel lives on. Measured with hyper
//! 1.12 and hyper-util 0.1.21: one GET of some 20,000, at a deployment that closes connections just when the next request comes.

use std::future::{Future, pending};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::http::Extensions;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower_service::Service;

use super::idle_limit::BoxError;

/// Time that the client has to report the end of a connection, as an answer or an error.
const GRACE: Duration = Duration::from_secs(1);

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Connector whose connections tell when they are gone.
#[derive(Clone)]
pub(super) struct Connector(pub(super) HttpsConnector<HttpConnector>);

impl Service<Uri> for Connector {
    type Response = Living;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Living, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connects = self.0.call(to);
        Box::pin(async move { Ok(Living { stream: connects.await?, life: watch::Sender::new(()) }) })
    }
}

/// Connection. Those who hold its [`Life`] learn of its end.
pub(super) struct Living {
    stream: Stream,
    life: watch::Sender<()>,
}

/// Ends when the connection is dropped.
#[derive(Clone)]
struct Life(watch::Receiver<()>);

impl Connection for Living {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(Life(self.life.subscribe()))
    }
}

impl Read for Living {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Living {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

/// Waits until the connection of a request is gone, and the client had the time to report that. A request that the client sends
/// again by itself, on another connection, is followed to that one.
pub(super) async fn until_lost(mut captured: CaptureConnection) {
    drop(captured.wait_for_connection_metadata().await);
    loop {
        let Some(Life(mut life)) = life(&captured) else { return pending().await };
        while life.changed().await.is_ok() {}
        tokio::time::sleep(GRACE).await;
        if self::life(&captured).is_none_or(|Life(now)| now.same_channel(&life)) {
            return;
        }
    }
}

fn life(captured: &CaptureConnection) -> Option<Life> {
    let mut extras = Extensions::new();
    captured.connection_metadata().as_ref()?.get_extras(&mut extras);
    extras.remove()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http_body_util::Empty;
    use hyper::Request;
    use hyper::body::Bytes;
    use hyper_util::client::legacy::connect::capture_connection;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::platform::net::{http_client, tls};

    /// Asks a server that answers one request of a connection, and closes it after the answer if `closes`. Returns how long the
    /// request counted as not lost, unless that was for longer than three times the grace.
    async fn lasted(closes: bool) -> Option<Duration> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            assert_ne!(stream.read(&mut head).await.unwrap(), 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            if !closes {
                pending::<()>().await;
            }
        });
        let https = http_client::over_tls(http_client::tcp(None), tls::client(None).unwrap());
        let client = http_client::client(Connector(https), Some(Duration::from_mins(1)));
        let mut request = Request::get(to).body(Empty::<Bytes>::new()).unwrap();
        let captured = capture_connection(&mut request);
        assert_eq!(client.request(request).await.unwrap().status(), 200);
        let began = Instant::now();
        let ended = timeout(3 * GRACE, until_lost(captured)).await;
        server.abort();
        ended.ok().map(|()| began.elapsed())
    }

    #[tokio::test]
    async fn a_request_whose_connection_is_gone_is_lost_and_no_other() {
        assert!(lasted(true).await.unwrap() >= GRACE);
        assert_eq!(lasted(false).await, None);
    }
}
