//! Accept loop of every listener in both programs.
//!
//! It serves a limited number of connections; more wait in the kernel's queue. A connection that sends nothing, or half a
//! request, is closed after [`FIRST`], and an answered one without another request after [`IDLE`], so that no client can
//! hold a place. If all places are taken, it is logged, and a metric counts it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::share::{Each, Held, Shares};
use crate::platform::metric::registered;

/// Time limit for a request's head.
pub const FIRST: Duration = Duration::from_secs(20);
/// Time limit between requests of a connection.
pub const IDLE: Duration = Duration::from_secs(75);

/// Number of connections that the kernel keeps until they are accepted, unless `net.core.somaxconn` is lower. After an outage all
/// hosts connect at once, and the kernel resets those for which it has no room.
const BACKLOG: u32 = 4096;

/// Minimum time between two equal lines in the log.
const SAY_AGAIN: Duration = Duration::from_mins(1);
/// Descriptors that are reserved for files and for outgoing connections.
const OWN_DESCRIPTORS: u32 = 128;

/// Listens on `address`, with room for all hosts that connect at once. It must be called within a tokio runtime.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Without this, a restarted program could not take its port again while old connections are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    listener: &'static str,
}

/// Metrics of the listeners of one program.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    open: Family<Labels, Gauge>,
    limit: Family<Labels, Gauge>,
    full: Family<Labels, Counter>,
    failed: Family<Labels, Counter>,
    over: Family<Labels, Counter>,
}

impl Connections {
    /// Creates and registers the metrics.
    pub fn registered(registry: &mut Registry) -> Self {
        Self {
            open: registered(registry, "connections", "Connections that are open, by listener"),
            limit: registered(
                registry,
                "connections_limit",
                "Connections that a listener serves at a time; more wait",
            ),
            full: registered(
                registry,
                "connections_full",
                "How often all connections of a listener were taken",
            ),
            failed: registered(
                registry,
                "connections_failed",
                "How often a connection could not be accepted: out of descriptors, most likely",
            ),
            over: registered(
                registry,
                "connections_over_share",
                "Connections that were closed at once: their client had its share of the listener's",
            ),
        }
    }
}

/// Socket that accepts connections.
pub trait Accept: Send + Sync + 'static {
    /// Accepted connection.
    type Stream: Send + 'static;
    /// Address or credentials of the other side.
    type Peer: Send + 'static;
    /// Returns the address by which limits count the other side, or `None` if it is not on a network.
    fn client(peer: &Self::Peer) -> Option<IpAddr>;
    /// Waits for the next connection.
    fn next(&self) -> impl Future<Output = std::io::Result<(Self::Stream, Self::Peer)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    type Peer = IpAddr;

    fn client(peer: &IpAddr) -> Option<IpAddr> {
        Some(*peer)
    }

    async fn next(&self) -> std::io::Result<(TcpStream, IpAddr)> {
        let (stream, peer) = self.accept().await?;
        // Answers are small packets, which must not wait for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection broke");
        }
        Ok((stream, peer.ip()))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    /// The stream itself provides the user's credentials.
    type Peer = ();

    fn client((): &()) -> Option<IpAddr> {
        None
    }

    async fn next(&self) -> std::io::Result<(UnixStream, ())> {
        Ok((self.accept().await?.0, ()))
    }
}

/// Place of one connection among those that are served. It is free again once this is dropped.
#[derive(Debug)]
pub struct Place {
    open: Gauge,
    _permit: OwnedSemaphorePermit,
    _held: Option<Held>,
}

impl Place {
    /// Holds the place until `served` ends.
    pub async fn hold(self, served: impl Future<Output = ()>) {
        served.await;
        drop(self);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Name and limits of a listener.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Name of the listener in the log and in metrics.
    pub name: &'static str,
    /// Maximum number of connections at a time.
    pub connections: u32,
    /// Share of one client, or `None` if the kernel guards the listener: a Unix socket.
    pub each: Option<Each>,
    /// Metrics in which it is counted.
    pub counted: Connections,
}

/// Accepts connections, and calls `serve` for each, until `stopped` changes. Ends once every [`Place`] is dropped.
pub fn accept<L, S, F>(
    listener: L,
    bounds: Bounds,
    mut stopped: watch::Receiver<()>,
    serve: S,
) -> JoinHandle<()>
where
    L: Accept,
    S: Fn(L::Stream, L::Peer, Place) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let Bounds { name, connections, each, counted } = bounds;
    let limit = within_descriptors(connections);
    let labels = Labels { listener: name };
    counted.limit.get_or_create_owned(&labels).set(limit.into());
    let open = counted.open.get_or_create_owned(&labels);
    let (full, failed) =
        (counted.full.get_or_create_owned(&labels), counted.failed.get_or_create_owned(&labels));
    let over = counted.over.get_or_create_owned(&labels);
    let permits = Arc::new(Semaphore::new(limit as usize));
    let shares = Arc::<Shares>::default();
    tokio::spawn(async move {
        let (mut said_full, mut said_failed, mut said_over) =
            (Said::default(), Said::default(), Said::default());
        loop {
            let accepted = async {
                let permit = if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
                    permit
                } else {
                    full.inc();
                    if said_full.again() {
                        tracing::warn!(listener = name, limit, "all connections are taken; more wait");
                    }
                    // The semaphore is never closed.
                    Arc::clone(&permits).acquire_owned().await.map_err(std::io::Error::other)?
                };
                let (stream, peer) = listener.next().await?;
                std::io::Result::Ok((stream, peer, permit))
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                _ = stopped.changed() => break,
            };
            match accepted {
                Ok((stream, peer, permit)) => {
                    let client = L::client(&peer);
                    let share = client.and_then(|client| Some((client, each.as_ref()?.share_of(client)?)));
                    let held = share.map(|(client, share)| {
                        let free = permits.available_permits() + 1;
                        shares.take_place(client, share, free).ok_or(client)
                    });
                    let held = match held.transpose() {
                        Ok(held) => held,
                        Err(client) => {
                            over.inc();
                            if said_over.again() {
                                tracing::warn!(listener = name, %client, "a client has its share of the connections; more are closed");
                            }
                            continue;
                        }
                    };
                    open.inc();
                    let place = Place { open: open.clone(), _permit: permit, _held: held };
                    tokio::spawn(serve(stream, peer, place));
                }
                Err(error) => {
                    failed.inc();
                    if said_failed.again() {
                        tracing::warn!(listener = name, %error, "a connection can't be accepted");
                    }
                    // Most likely no descriptors are left. Others will be closed soon.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        // Dropped before the wait for places: a task that waits for their end must not wait for this loop, which waits for the task.
        drop((listener, serve));
        let _ = permits.acquire_many(limit).await;
    })
}

/// Time of the last line in the log.
#[derive(Default)]
struct Said(Option<Instant>);

impl Said {
    /// Returns true if the last line is old enough for another.
    fn again(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= SAY_AGAIN);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// Lowers a limit to what the process can open. At half of its descriptors, files and outgoing connections still find some.
fn within_descriptors(wanted: u32) -> u32 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    wanted.min(open_files(&limits).map_or(wanted, |files| (files / 2).saturating_sub(OWN_DESCRIPTORS))).max(1)
}

fn open_files(limits: &str) -> Option<u32> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn the_limit_of_open_files_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 1048576              files     \n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(
            open_files("Max open files            unlimited            unlimited            files"),
            None
        );
        assert!(within_descriptors(1) == 1 && within_descriptors(u32::MAX) > 1);
    }

    #[tokio::test]
    async fn a_client_has_its_share_and_a_proxy_and_the_others_have_places_left() {
        use std::net::Ipv4Addr;

        use super::super::share::Share;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(());
        let held: Arc<Mutex<Vec<(TcpStream, Place)>>> = Arc::default();
        let (counted, holding) = (Connections::default(), Arc::clone(&held));
        let proxy = Ipv4Addr::new(127, 0, 0, 9);
        let each = Each::except(Share::Quarter, move |client| client == proxy);
        let bounds = Bounds { name: "test", connections: 20, each: Some(each), counted: counted.clone() };
        drop(accept(listener, bounds, stopped, move |stream, _, place| {
            holding.lock().unwrap().push((stream, place));
            std::future::ready(())
        }));
        let labels = Labels { listener: "test" };
        let over = || counted.over.get_or_create_owned(&labels).get();
        let mut clients = Vec::new();
        for (host, wanted, served) in [(2, 9, 5), (3, 9, 4), (9, 9, 9), (4, 9, 1), (5, 1, 1)] {
            let before = (held.lock().unwrap().len(), over());
            for _ in 0..wanted {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
                clients.push(socket.connect(address).await.unwrap());
            }
            let seen = || (held.lock().unwrap().len() - before.0, over() - before.1);
            while seen().0 < served || seen().1 < (wanted - served) as u64 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(seen().0, served, "127.0.0.{host}");
        }
        drop(clients);
    }

    #[tokio::test]
    async fn no_more_are_served_than_there_are_places_and_it_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(());
        let held: Arc<Mutex<Vec<(TcpStream, Place)>>> = Arc::default();
        let (counted, holding) = (Connections::default(), Arc::clone(&held));
        let bounds = Bounds { name: "test", connections: 2, each: None, counted: counted.clone() };
        let ended = accept(listener, bounds, stopped, move |stream, peer, place| {
            assert!(peer.is_loopback());
            holding.lock().unwrap().push((stream, place));
            std::future::ready(())
        });
        let mut clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        for client in &mut clients {
            client.write_all(b"x").unwrap();
        }
        let labels = Labels { listener: "test" };
        while counted.full.get_or_create_owned(&labels).get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!((held.lock().unwrap().len(), counted.open.get_or_create_owned(&labels).get()), (2, 2));
        held.lock().unwrap().pop();
        while held.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.send(()).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!ended.is_finished(), "two are still served");
        held.lock().unwrap().clear();
        ended.await.unwrap();
        assert_eq!(counted.open.get_or_create_owned(&labels).get(), 0);
    }
}
