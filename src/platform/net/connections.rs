//! Ends connections, on shutdown or when the client is idle.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use super::activity::{Activity, Patience, Silence, TICK};
use super::listener::{FIRST, IDLE};

/// Shutdown signal for a connection. Polling it reads one atomic; the connection registers a waker in the shared list only once.
pub struct Stop {
    number: watch::Receiver<()>,
    told: Pin<Box<dyn Future<Output = ()> + Send>>,
    listed: Option<Waker>,
    /// Timer that fires several times within the idle limit. A request in between resets only `silence`.
    tick: Pin<Box<Sleep>>,
    silence: Silence,
}

/// Reasons to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceased {
    /// The daemon is shutting down.
    Stopped,
    /// The client sent nothing for too long, or did not finish a request.
    Idle,
}

impl From<watch::Receiver<()>> for Stop {
    fn from(mut stopped: watch::Receiver<()>) -> Self {
        let number = stopped.clone();
        // An error means that the sender was dropped.
        let told = Box::pin(async move { drop(stopped.changed().await) });
        Self { number, told, listed: None, tick: Box::pin(sleep(TICK)), silence: Silence::default() }
    }
}

const PATIENCE: Patience = Patience { head: ticks(FIRST), idle: ticks(IDLE) };

#[expect(clippy::cast_possible_truncation, reason = "both limits are minutes at most")]
const fn ticks(limit: Duration) -> u32 {
    (limit.as_secs() / TICK.as_secs()) as u32
}

impl Stop {
    /// Records that a request was read completely.
    pub fn progressed(&mut self) {
        self.silence.end();
    }

    /// Returns the silence of the client so far.
    #[must_use]
    pub fn silence(&self) -> &Silence {
        &self.silence
    }

    /// Waits for `future`, which reads from the client. `begun` is true if part of a request has arrived, or if there was none yet.
    pub async fn read<F: Future>(&mut self, begun: bool, future: Pin<&mut F>) -> Result<F::Output, Ceased> {
        let limit = self.silence.limit(begun, PATIENCE);
        self.wait(Some(limit), future).await
    }

    /// Waits for `future` without a time limit.
    pub async fn or<F: Future>(&mut self, future: Pin<&mut F>) -> Option<F::Output> {
        let output = self.wait(None, future).await.ok();
        // The registered waker does not cover the timer.
        self.listed = None;
        output
    }

    async fn wait<F: Future>(
        &mut self,
        limit: Option<u32>,
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
            if let Some(limit) = limit
                && self.tick.is_elapsed()
            {
                if self.silence.tick(limit) {
                    return Poll::Ready(Err(Ceased::Idle));
                }
                self.tick.as_mut().reset(Instant::now() + TICK);
                self.listed = None;
            }
            if self.listed.as_ref().is_some_and(|listed| listed.will_wake(waker)) {
                return Poll::Pending;
            }
            self.listed = Some(waker.clone());
            if limit.is_some() && self.tick.as_mut().poll(context).is_ready() {
                // The timer has just fired: poll again at once.
                context.waker().wake_by_ref();
            }
            self.told.as_mut().poll(context).map(|()| Err(Ceased::Stopped))
        })
        .await
    }
}

/// Serves a connection to its end. After shutdown began it still answers for `farewell`; then `wind_down` ends it after the
/// request in progress. A connection whose `activity` ends is closed at once.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of ticks after which a silent client is disconnected.
    fn lasts(silence: &mut Silence, begun: bool) -> u32 {
        let limit = silence.limit(begun, PATIENCE);
        (1..=100).find(|_| silence.tick(limit)).unwrap_or(u32::MAX)
    }

    #[test]
    fn a_client_has_as_long_as_is_said_and_no_longer() {
        assert_eq!(TICK * lasts(&mut Silence::default(), true), FIRST, "it never asked");
        assert_eq!(TICK * lasts(&mut Silence::default(), false), IDLE, "between requests");

        let mut silence = Silence::default();
        let between = silence.limit(false, PATIENCE);
        assert!((1..between).all(|_| !silence.tick(between)));
        // Half a request arrives at the last moment; the other half has the full time.
        let within = silence.limit(true, PATIENCE);
        assert!(!silence.tick(within));
        // A part that completes no request does not extend the time.
        assert_eq!(TICK * (1 + lasts(&mut silence, true)), FIRST);
    }
}
