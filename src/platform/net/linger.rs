//! Lingering: reads the rest of a request's body after an early answer. A connection that is closed with unread bytes is
//! reset, and the reset can overtake the answer (RFC 9112 section 9.6). In HTTP/2 a stream reset discards the answer too.
//! Every listener that may answer before it has read a body wraps the body in [`Lingering`].

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Version;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header;
use hyper::http::request::Parts;

use super::listener::FIRST;

/// Maximum number of bytes that are read after an answer, at listeners without a limit of their own.
const MOST: u64 = 16 << 20;

/// Body of a request. If it is dropped with unread bytes, they are read and discarded, within limits.
#[derive(Debug)]
pub struct Lingering<B: Body<Data = Bytes> + Unpin + Send + 'static> {
    /// `None` once there is nothing more to read.
    body: Option<B>,
    most: u64,
    longest: Duration,
    /// True if the client sends the body only after `100 Continue`.
    asks: bool,
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Lingering<B> {
    /// Returns the body of `request`, with the limits of listeners that have none of their own.
    pub fn new(request: &Parts, body: B) -> Self {
        Self::within(request, body, MOST, FIRST)
    }

    /// Returns the body of `request`, of which at most `most` bytes are read after the drop, for at most `longest`. A client
    /// that waits for `100 Continue` (RFC 9110 section 10.1.1) is told no by dropping the body unread, and nothing is read.
    pub fn within(request: &Parts, body: B, most: u64, longest: Duration) -> Self {
        // In HTTP/2, dropping the body resets the stream, and some clients discard the answer then.
        let asks = request.version < Version::HTTP_2 && request.headers.contains_key(header::EXPECT);
        Self { body: Some(body), most, longest, asks }
    }

    /// Drops the body without reading the rest, because nothing more will arrive.
    pub fn forget(mut self) {
        self.body = None;
    }
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Drop for Lingering<B> {
    fn drop(&mut self) {
        let asks = self.asks;
        let Some(mut body) = self.body.take().filter(|body| !asks && !body.is_end_stream()) else { return };
        // The runtime may have ended when the daemon stops.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (mut most, longest) = (self.most, self.longest);
        drop(runtime.spawn(tokio::time::timeout(longest, async move {
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                let Some(left) = most.checked_sub(length) else { return };
                most = left;
            }
        })));
    }
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Body for Lingering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.asks = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http_body_util::channel::Channel;

    use super::*;

    async fn taken(most: u64, version: Version, asks: bool) -> usize {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let mut request = hyper::Request::builder().version(version);
        if asks {
            request = request.header(header::EXPECT, "100-continue");
        }
        let (request, body) = request.body(body).unwrap().into_parts();
        drop(Lingering::within(&request, body, most, Duration::from_secs(5)));
        let mut taken = 0;
        while taken < 100 && sender.send_data(Bytes::from_static(b"0123456789")).await.is_ok() {
            taken += 1;
        }
        taken
    }

    #[tokio::test]
    async fn what_was_not_read_is_read_within_bounds() {
        assert_eq!(taken(10_000, Version::HTTP_11, false).await, 100);
        assert!(taken(50, Version::HTTP_11, false).await < 10);
        assert_eq!(taken(10_000, Version::HTTP_11, true).await, 0, "it was not asked for");
        assert_eq!(taken(10_000, Version::HTTP_2, true).await, 100);
    }
}
