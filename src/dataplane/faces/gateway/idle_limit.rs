//! Bodies with an idle limit: they are streamed, and end with an error if nothing arrives for too long. Trailers are
//! dropped: their fields would escape the removal of reserved fields, and a recipient may merge them into the head (RFC
//! 9110 section 6.5.1).

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Instant, Sleep};

/// Error of a body.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Error of a body of which no byte arrived within the time limit.
#[derive(Debug, Error)]
#[error("no byte arrived within the time limit")]
pub(super) struct Stalled;

/// The client's body broke off, or its framing is invalid. The deployment is not at fault.
#[derive(Debug, Error)]
#[error("the client's body broke off")]
pub(super) struct ClientBroke(#[source] pub(super) hyper::Error);

/// Time at which a request's body last moved, and whether more of it is awaited.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Mutex<Moved>>);

#[derive(Debug)]
struct Moved {
    last: Instant,
    awaited: bool,
}

/// Party that did not act in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleParty {
    /// The sender of the body.
    Sender,
    /// The reader of the body, which has to answer after it.
    Reader,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Moved { last: Instant::now(), awaited: false })))
    }

    fn moved(&self) {
        *self.lock() = Moved { last: Instant::now(), awaited: false };
    }

    fn awaited(&self) {
        self.lock().awaited = true;
    }

    fn lock(&self) -> MutexGuard<'_, Moved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns after `idle` without progress.
    pub(super) async fn stalls(&self, idle: Duration) -> IdleParty {
        loop {
            let (last, awaited) = {
                let moved = self.lock();
                (moved.last, moved.awaited)
            };
            if last.elapsed() >= idle {
                return if awaited { IdleParty::Sender } else { IdleParty::Reader };
            }
            tokio::time::sleep_until(last + idle).await;
        }
    }
}

/// Body that ends with [`Stalled`] if nothing arrives for `idle`. The time counts only while the body is read.
pub(super) struct IdleLimited<B> {
    body: B,
    idle: Duration,
    progress: Progress,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<B> IdleLimited<B> {
    pub(super) fn new(body: B, idle: Duration, progress: Progress) -> Self {
        Self { body, idle, progress, waiting: None }
    }
}

impl<B> Body for IdleLimited<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.waiting = None;
            self.progress.moved();
            if let Some(Ok(frame)) = &frame
                && frame.is_trailers()
            {
                continue;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.progress.awaited();
        let idle = self.idle;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Some(Err(Stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http_body_util::BodyExt as _;
    use http_body_util::channel::Channel;
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    const IDLE: Duration = Duration::from_millis(40);

    #[tokio::test]
    async fn a_body_may_be_long_but_not_still() {
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        let mut limited = IdleLimited::new(body, IDLE, Progress::new());
        for _ in 0..4 {
            sender.send_data(Bytes::from_static(b"a")).await.unwrap();
            assert!(limited.frame().await.unwrap().is_ok());
            tokio::time::sleep(IDLE * 2).await;
        }
        let error = limited.frame().await.unwrap().unwrap_err();
        assert!(error.is::<Stalled>());
    }

    #[tokio::test]
    async fn trailers_end_at_the_gateway() {
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
        sender.send_data(Bytes::from_static(b"a")).await.unwrap();
        let name = HeaderName::from_static("x-halligan-role");
        let trailers = [(name, HeaderValue::from_static("spoofed"))].into_iter().collect();
        sender.send_trailers(trailers).await.unwrap();
        drop(sender);
        let read = IdleLimited::new(body, IDLE, Progress::new()).collect().await.unwrap();
        assert!(read.trailers().is_none());
        assert_eq!(read.to_bytes(), "a");
    }

    #[tokio::test]
    async fn who_is_waited_for_is_known() {
        let (_sender, body) = Channel::<Bytes, BoxError>::new(1);
        let progress = Progress::new();
        assert_eq!(progress.stalls(IDLE).await, IdleParty::Reader, "nobody read it");
        let mut limited = IdleLimited::new(body, IDLE * 9, progress.clone());
        assert!(tokio::time::timeout(IDLE, limited.frame()).await.is_err());
        assert_eq!(progress.stalls(IDLE).await, IdleParty::Sender);
    }
}
