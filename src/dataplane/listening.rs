//! Listening: connections accepted until the daemon stops, so many at a time, each served by a task of its own.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Tells a connection that the daemon stops. A connection is polled for every request: what is asked each time is a number,
/// and the list of those who are to be woken, which all threads share, once.
pub struct Stop {
    number: watch::Receiver<()>,
    told: Pin<Box<dyn Future<Output = ()> + Send>>,
    listed: Option<Waker>,
}

impl From<watch::Receiver<()>> for Stop {
    fn from(mut stopped: watch::Receiver<()>) -> Self {
        let number = stopped.clone();
        // An error means that whoever tells is gone.
        let told = Box::pin(async move { drop(stopped.changed().await) });
        Self { number, told, listed: None }
    }
}

impl Stop {
    /// What comes of `future`, unless it was told to stop before.
    pub async fn or<F: Future>(&mut self, mut future: Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            let waker = context.waker();
            if self.number.has_changed().unwrap_or(true) {
                return Poll::Ready(None);
            }
            if self.listed.as_ref().is_some_and(|listed| listed.will_wake(waker)) {
                return Poll::Pending;
            }
            self.listed = Some(waker.clone());
            self.told.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}

/// Serves a connection to its end. When it is told to stop, it may still ask for as long as `farewell`; then `wind_down`
/// ends it behind the request that is being answered.
pub async fn until_stopped<C>(
    connection: C,
    wind_down: fn(Pin<&mut C>),
    farewell: Duration,
    peer: IpAddr,
    stop: impl Into<Stop>,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let (mut connection, mut stop) = (std::pin::pin!(connection), stop.into());
    let served = async {
        if let Some(ended) = stop.or(connection.as_mut()).await {
            return ended;
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

/// Accepts connections and has `serve` serve them; at most `limit` at a time, more wait in the kernel's queue. When it
/// is told to stop, it ends once those under way have.
pub fn accept<S, F>(
    listener: TcpListener,
    limit: u32,
    mut stopped: watch::Receiver<()>,
    serve: S,
) -> JoinHandle<()>
where
    S: Fn(TcpStream, IpAddr) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(limit as usize));
    tokio::spawn(async move {
        loop {
            let accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                accepted = accepted => accepted,
                _ = stopped.changed() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Answers are small packets: none must wait for the acknowledgement of the one before.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection broke");
                    }
                    let served = serve(stream, peer.ip());
                    tokio::spawn(async move {
                        served.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: others are about to be given back.
                    tracing::warn!(%error, "a connection can't be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        // All permits are back when nobody is served any more.
        let _ = permits.acquire_many(limit).await;
    })
}
