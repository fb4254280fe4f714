//! Lingering: reads the rest of a request's body after an early answer. A connection that is closed with unread bytes is
//! reset, and the reset can overtake the answer (RFC 9112 section 9.6). In HTTP/2 a stream reset discards the answer too.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, SizeHint};

/// Body of a request. If it is dropped with unread bytes, they are read and discarded, within limits.
pub(super) struct Lingering<B: Body<Data = Bytes> + Unpin + Send + 'static> {
    /// `None` once there is nothing more to read.
    body: Option<B>,
    most: u64,
    longest: Duration,
    /// True if the client sends the body only after `100 Continue`.
    asks: bool,
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Lingering<B> {
    /// Returns a body of which at most `most` bytes are read after the drop, for at most `longest`. With `asks`, the client
    /// waits for `100 Continue` (RFC 9110 section 10.1.1): dropping the body unread declines it, and nothing is read.
    pub(super) fn new(body: B, most: u64, longest: Duration, asks: bool) -> Self {
        Self { body: Some(body), most, longest, asks }
    }

    /// Drops the body without reading the rest, because nothing more will arrive.
    pub(super) fn forget(mut self) {
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

    async fn taken(most: u64, asks: bool) -> usize {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        drop(Lingering::new(body, most, Duration::from_secs(5), asks));
        let mut taken = 0;
        while taken < 100 && sender.send_data(Bytes::from_static(b"0123456789")).await.is_ok() {
            taken += 1;
        }
        taken
    }

    #[tokio::test]
    async fn what_was_not_read_is_read_within_bounds() {
        assert_eq!(taken(10_000, false).await, 100);
        assert!(taken(50, false).await < 10);
        assert_eq!(taken(10_000, true).await, 0, "it was not asked for");
    }
}
