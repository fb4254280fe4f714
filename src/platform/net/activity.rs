//! Activity of a connection's client: requests that begin, and answers that the client reads.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Response;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::heads::Heads;
use super::listener::{FIRST, IDLE};

/// Number of times that a connection is checked within the shorter of its limits. One timer for each connection serves all of
/// its requests, so that a request does not arm one.
const TICKS: u32 = 4;
/// Interval between two checks of a connection with the limits of every listener. Both limits are multiples of it.
pub const TICK: Duration = Duration::from_secs(FIRST.as_secs() / TICKS as u64);

/// Maximum number of bytes of an answer that the connection gets at a time. It asks for more once it has sent them, so that
/// a slow reader is noticed.
const PIECE: usize = 16 * 1024;

/// Time for which a client has sent nothing, in ticks of a timer.
#[derive(Clone, Debug, Default)]
pub struct Silence {
    ticks: u32,
    /// True if part of a request has arrived.
    begun: bool,
}

/// Limits of a client's silence, in ticks of a timer.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Limit for a request's head, and for the first request.
    pub head: u32,
    /// Limit between requests.
    pub idle: u32,
}

impl Silence {
    /// Returns the number of ticks for which the client may be silent now. `begun` is true if part of a request has
    /// arrived, or if there was none yet.
    pub fn limit(&mut self, begun: bool, patience: Patience) -> u32 {
        if begun && !self.begun {
            // The time before a request does not count within it.
            self.ticks = 0;
        }
        self.begun = begun;
        if begun { patience.head } else { patience.idle }
    }

    /// Counts a tick. Returns true if the limit is reached.
    pub fn tick(&mut self, limit: u32) -> bool {
        self.ticks = self.ticks.saturating_add(1);
        self.ticks >= limit
    }

    /// Records that a request was read completely.
    pub fn end(&mut self) {
        self.ticks = 0;
    }
}

/// Counts the requests and answers of one connection, to detect an idle client.
#[derive(Debug)]
pub struct Activity {
    first: Duration,
    idle: Duration,
    /// Silence of the client before this began to count.
    before: Silence,
    /// Number of requests in progress. Each beginning and end also increments `changes`.
    open: AtomicI64,
    changes: AtomicI64,
    /// True if part of the next request has arrived, in HTTP/1.1.
    begun: AtomicBool,
    /// True if the bytes that arrived end within a head. Set in HTTP/2, and in HTTP/1.1 where a guard follows the heads.
    within: AtomicBool,
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
        Self {
            first,
            idle,
            before: Silence { ticks: 0, begun: true },
            open: AtomicI64::new(0),
            changes: AtomicI64::new(0),
            begun: AtomicBool::new(false),
            within: AtomicBool::new(false),
        }
    }

    /// Returns the activity of a connection with the limits of every listener, whose client has been silent within a
    /// request before. `before` counts ticks of [`TICK`].
    #[must_use]
    pub fn after(before: Silence) -> Self {
        Self { before, ..Self::default() }
    }

    /// Records the beginning of a request. It is in progress until the result is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.begun.store(false, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Records whether the bytes that arrived end within a head. Without this call, part of a head that arrives together
    /// with the request before it, in HTTP/1.1, gets the longer limit between requests.
    pub fn set_within_head(&self, within: bool) {
        self.within.store(within, Ordering::Relaxed);
    }

    /// Returns a stream that records when part of the next request arrives. The client then has the time for a request's
    /// head, and no longer the time between requests.
    pub fn watch<S>(self: &Arc<Self>, stream: S) -> Watched<S> {
        Watched { stream, heads: Heads::default(), activity: Arc::clone(self) }
    }

    /// Waits until the client was silent for longer than its limit.
    pub async fn ceases(&self) {
        let tick = self.first.min(self.idle) / TICKS;
        let ticks = |limit: Duration| {
            let ticks = limit.as_nanos().div_ceil(tick.as_nanos().max(1));
            u32::try_from(ticks).unwrap_or(u32::MAX)
        };
        let patience = Patience { head: ticks(self.first), idle: ticks(self.idle) };
        let (mut seen, mut silence, mut begun) = (0, self.before.clone(), true);
        loop {
            tokio::time::sleep(tick).await;
            let changes = self.changes.load(Ordering::Relaxed);
            if changes != seen || self.open.load(Ordering::Relaxed) > 0 {
                (seen, silence, begun) = (changes, Silence::default(), false);
                continue;
            }
            // `begun` is not reset before a request is complete: a client must not gain time by alternating.
            begun |= self.begun.load(Ordering::Relaxed) || self.within.load(Ordering::Relaxed);
            let limit = silence.limit(begun, patience);
            if silence.tick(limit) {
                return;
            }
        }
    }
}

/// Stream of a connection that records the arrival of requests.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    heads: Heads,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() {
            let within = self.heads.feed(bytes);
            if self.heads.http2() {
                self.activity.set_within_head(within);
            } else if self.activity.open.load(Ordering::Relaxed) == 0 {
                // Bytes during a request may be its body.
                self.activity.begun.store(true, Ordering::Relaxed);
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
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
    async fn a_request_that_has_begun_has_the_time_for_its_head_and_no_longer() {
        const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        const HALF_A_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x01\x01\0\0\0\0\x01\x82";
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (first, idle) = (Duration::from_millis(200), Duration::from_millis(1500));
        let lasts = |before: u32, sent: &'static [u8], asked: bool| async move {
            let before = Silence { ticks: before, begun: true };
            let activity = Arc::new(Activity { before, ..Activity::within(first, idle) });
            if asked {
                drop(activity.begin());
            }
            let (mut client, server) = tokio::io::duplex(128);
            client.write_all(sent).await.unwrap();
            let mut reader = activity.watch(server);
            let reads = tokio::spawn(async move { reader.read(&mut [0; 128]).await });
            let began = Instant::now();
            activity.ceases().await;
            reads.abort();
            began.elapsed()
        };
        let tick = first / TICKS;
        for (before, sent, asked, least, most) in [
            (0, &b""[..], false, first, idle),
            (0, b"GET /", false, first, idle),
            (0, b"", true, idle, idle * 9),
            (0, b"GET /", true, first, idle),
            (0, HTTP2, true, idle, idle * 9),
            (0, HALF_A_HEAD, true, first, idle),
            (3, b"", false, tick, idle),
        ] {
            let lasted = lasts(before, sent, asked).await;
            assert!(lasted >= least && lasted < most, "{before} {sent:?} {asked}: {lasted:?}");
        }
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
