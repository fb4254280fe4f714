//! Activity of a connection's client: requests that begin, and answers that the client reads.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Response;
use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::listener::{FIRST, IDLE};

/// Number of checks of a connection within the idle limit. With checks, a request needs no timer of its own.
const TICKS: u32 = 5;

/// Maximum number of bytes of an answer that the connection gets at a time. It asks for more once it has sent them, so that
/// a slow reader is noticed.
const PIECE: usize = 16 * 1024;

/// Counts the requests and answers of one connection, to detect an idle client.
#[derive(Debug)]
pub struct Activity {
    first: Duration,
    idle: Duration,
    /// Number of requests in progress. Each beginning and end also increments `changes`.
    open: AtomicI64,
    changes: AtomicI64,
}

/// Request in progress.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.changes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Busy {
    /// Ends the request with the head of its answer. From then on only reading the body counts as activity: a client that
    /// reads nothing must not keep its place because it made a request.
    pub fn sending<B>(self, answer: Response<B>) -> Response<Sending<B>> {
        answer.map(|body| Sending { body, rest: Bytes::new(), activity: Arc::clone(&self.0) })
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self::within(FIRST, IDLE)
    }
}

impl Activity {
    /// Returns the activity of a connection that may wait for `first` before its first request, and for `idle` between requests.
    #[must_use]
    pub fn within(first: Duration, idle: Duration) -> Self {
        Self { first, idle, open: AtomicI64::new(0), changes: AtomicI64::new(0) }
    }

    /// Records the beginning of a request. It is in progress until the result is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Waits until the connection was idle for longer than its limit.
    pub async fn ceases(&self) {
        tokio::time::sleep(self.first).await;
        let (mut seen, mut silent) = (0, TICKS);
        loop {
            let changes = self.changes.load(Ordering::Relaxed);
            if changes != seen || self.open.load(Ordering::Relaxed) > 0 {
                (seen, silent) = (changes, 0);
            }
            if silent >= TICKS {
                return;
            }
            tokio::time::sleep(self.idle / TICKS).await;
            silent += 1;
        }
    }
}

/// Body of an answer. Each piece that the connection takes of it counts as activity.
#[derive(Debug)]
pub struct Sending<B> {
    body: B,
    rest: Bytes,
    activity: Arc<Activity>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Sending<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            let polled = Pin::new(&mut this.body).poll_frame(context);
            let Poll::Ready(Some(Ok(frame))) = polled else { return polled };
            match frame.into_data() {
                Ok(data) => this.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        this.activity.changes.fetch_add(1, Ordering::Relaxed);
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (held, rest) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(held)) {
            hint.set_upper(upper);
        }
        hint.set_lower(rest.lower().saturating_add(held));
        hint
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http_body_util::{BodyExt as _, Full};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_connection_ceases_when_it_asks_nothing() {
        let (first, idle) = (Duration::from_millis(40), Duration::from_millis(150));
        let began = Instant::now();
        Activity::within(first, idle).ceases().await;
        assert!(began.elapsed() >= first, "it never asked");

        let activity = Arc::new(Activity::within(first, idle));
        let busy = activity.begin();
        let watched = Arc::clone(&activity);
        let ceases = tokio::spawn(async move { watched.ceases().await });
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(!ceases.is_finished(), "an answer may take its time");
        let ended = Instant::now();
        drop(busy);
        ceases.await.unwrap();
        assert!(ended.elapsed() >= idle);
    }

    #[tokio::test]
    async fn a_body_comes_whole_and_in_pieces_that_count() {
        let activity = Arc::new(Activity::default());
        let data: Vec<u8> = (0_u8..=255).cycle().take(3 * PIECE + 7).collect();
        let mut sending =
            activity.begin().sending(Response::new(Full::new(Bytes::from(data.clone())))).into_body();
        let before = activity.changes.load(Ordering::Relaxed);
        assert_eq!(activity.open.load(Ordering::Relaxed), 0);
        assert_eq!(sending.size_hint().exact(), Some(data.len() as u64));
        let first = sending.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((first.len(), sending.size_hint().exact()), (PIECE, Some((data.len() - PIECE) as u64)));
        assert!(!sending.is_end_stream());
        let rest = sending.collect().await.unwrap().to_bytes();
        assert_eq!([first, rest].concat(), data);
        assert_eq!(activity.changes.load(Ordering::Relaxed) - before, 4);
        let none = activity.begin().sending(Response::new(Full::<Bytes>::default())).into_body();
        assert!(none.is_end_stream() && none.size_hint().exact() == Some(0));
    }
}
