//! How a connection ends: because the daemon stops, or because its client asks nothing any more.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use crate::net::listener::{Activity, FIRST, IDLE, TICKS};

/// Tells a connection that the daemon stops. A connection is polled for every request: what is asked each time is a number,
/// and the list of those who are to be woken, which all threads share, once.
pub struct Stop {
    number: watch::Receiver<()>,
    told: Pin<Box<dyn Future<Output = ()> + Send>>,
    listed: Option<Waker>,
    /// Runs out some times within the time of idleness. A request that comes in between resets nothing but `silent`.
    tick: Pin<Box<Sleep>>,
    silent: u64,
}

/// Why a connection is not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceased {
    /// The daemon stops.
    Stopped,
    /// The client has sent nothing for too long, or did not finish what it began.
    Idle,
}

impl From<watch::Receiver<()>> for Stop {
    fn from(mut stopped: watch::Receiver<()>) -> Self {
        let number = stopped.clone();
        // An error means that whoever tells is gone.
        let told = Box::pin(async move { drop(stopped.changed().await) });
        Self { number, told, listed: None, tick: Box::pin(sleep(TICK)), silent: 0 }
    }
}

/// Time between two looks at a connection.
const TICK: Duration = Duration::from_secs(IDLE.as_secs() / TICKS as u64);
/// Looks at a client that has not finished a request's head.
const FIRST_TICKS: u64 = FIRST.as_secs().div_ceil(TICK.as_secs());

impl Stop {
    /// Notes that a request was read whole.
    pub fn progressed(&mut self) {
        self.silent = 0;
    }

    /// Waits for `future`, which reads from the client. `begun` is true while a part of a request has come, or none ever has.
    pub async fn read<F: Future>(&mut self, begun: bool, future: Pin<&mut F>) -> Result<F::Output, Ceased> {
        let patience = if begun { FIRST_TICKS } else { u64::from(TICKS) };
        self.wait(Some(patience), future).await
    }

    /// Waits for `future`, however long it takes.
    pub async fn or<F: Future>(&mut self, future: Pin<&mut F>) -> Option<F::Output> {
        self.wait(None, future).await.ok()
    }

    async fn wait<F: Future>(
        &mut self,
        patience: Option<u64>,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, Ceased> {
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            let waker = context.waker();
            if self.number.has_changed().unwrap_or(true) {
                return Poll::Ready(Err(Ceased::Stopped));
            }
            if self.tick.is_elapsed() {
                self.silent += 1;
                if patience.is_some_and(|patience| self.silent >= patience) {
                    return Poll::Ready(Err(Ceased::Idle));
                }
                self.tick.as_mut().reset(Instant::now() + TICK);
                self.listed = None;
            }
            if self.listed.as_ref().is_some_and(|listed| listed.will_wake(waker)) {
                return Poll::Pending;
            }
            self.listed = Some(waker.clone());
            if self.tick.as_mut().poll(context).is_ready() {
                // It ran out just now: look again at once.
                context.waker().wake_by_ref();
            }
            self.told.as_mut().poll(context).map(|()| Err(Ceased::Stopped))
        })
        .await
    }
}

/// Serves a connection to its end. When it is told to stop, it may still ask for as long as `farewell`; then `wind_down`
/// ends it behind the request that is being answered. One whose `activity` ceases is ended at once.
pub async fn until_stopped<C>(
    connection: C,
    wind_down: fn(Pin<&mut C>),
    farewell: Duration,
    peer: IpAddr,
    stop: impl Into<Stop>,
    activity: Arc<Activity>,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let (mut connection, mut stop) = (std::pin::pin!(connection), stop.into());
    let served = async {
        let ceases = std::pin::pin!(activity.ceases());
        let served = async {
            tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = ceases => None,
            }
        };
        match stop.or(std::pin::pin!(served)).await {
            Some(Some(ended)) => return ended,
            Some(None) => {
                tracing::debug!(%peer, "a connection that asked nothing was closed");
                return Ok(());
            }
            None => {}
        }
        if let Ok(ended) = tokio::time::timeout(farewell, connection.as_mut()).await {
            return ended;
        }
        wind_down(connection.as_mut());
        connection.await
    };
    if let Err(error) = served.await {
        tracing::debug!(%error, %peer, "a connection broke");
    }
}
