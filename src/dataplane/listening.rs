//! Listening: connections accepted until the daemon stops, so many at a time, each served by a task of its own.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Serves a connection to its end. When it is told to stop, it may still ask for as long as `farewell`; then `wind_down`
/// ends it behind the request that is being answered.
pub async fn until_stopped<C>(
    connection: C,
    wind_down: fn(Pin<&mut C>),
    farewell: Duration,
    peer: IpAddr,
    mut stopped: watch::Receiver<()>,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = std::pin::pin!(connection);
    let served = async {
        if let Some(ended) = while_going_on(connection.as_mut(), &mut stopped).await {
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

/// Serves a connection to its end, or until it is told to stop. A connection is polled for every request: what is asked each
/// time is a number, and the list of those who are to be woken, which all threads share, once.
async fn while_going_on<C: Future>(
    mut connection: Pin<&mut C>,
    stopped: &mut watch::Receiver<()>,
) -> Option<C::Output> {
    let number = stopped.clone();
    let mut told = std::pin::pin!(stopped.changed());
    let mut listed: Option<Waker> = None;
    std::future::poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(Some(ended));
        }
        let waker = context.waker();
        if listed.as_ref().is_some_and(|listed| listed.will_wake(waker)) {
            // An error means that whoever tells is gone.
            return if number.has_changed().unwrap_or(true) { Poll::Ready(None) } else { Poll::Pending };
        }
        listed = Some(waker.clone());
        told.as_mut().poll(context).map(|_| None)
    })
    .await
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
