//! Listening control plane, in a runtime of its own. Stopping it closes all connections at once, as an outage does.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_rustls::TlsAcceptor;

use super::ControlPlane;
use super::http::{Edge, router};
use crate::platform::failing::Failing;
use crate::platform::net::listener::{Bounds, FIRST, accept};
use crate::platform::net::serve::serve_router;
use crate::platform::net::share::{Each, Share};

/// Maximum number of connections: of the API, and of the metrics listener.
const MAX_CONNECTIONS: (u32, u32) = (32_768, 64);
/// Threads for calls of the database, which has one writer. More would only hold more memory.
const BLOCKING_THREADS: usize = 16;
/// Time limit for requests in progress when the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// Running server of a control plane.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<()>,
    serving: Vec<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves the API of `edge` on `listener`, over TLS if `tls` is given; otherwise a proxy must terminate TLS. Serves
    /// its metrics on `metrics`, if given.
    pub fn start(
        edge: Edge,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        metrics: Option<TcpListener>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("control")
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(());
        let (counted, told, each) = (edge.connections(), edge.metrics(), edge.each());
        runtime.spawn(take_over_commands(edge.control()));
        runtime.spawn(delete_archives(edge.control()));
        let context = runtime.enter();
        let limits = Bounds {
            name: "api",
            connections: MAX_CONNECTIONS.0,
            each: Some(each),
            counted: counted.clone(),
        };
        let mut serving = vec![serve(listener, limits, tls, router(edge), &stopped)?];
        if let Some(listener) = metrics {
            let each = Some(Each::other_hosts(Share::Quarter));
            let limits = Bounds { name: "metrics", connections: MAX_CONNECTIONS.1, each, counted };
            serving.push(serve(listener, limits, None, told, &stopped)?);
        }
        drop(context);
        Ok(Self { address, stop, serving, runtime: Some(runtime) })
    }

    /// Returns the address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the server. Requests in progress are answered first, for at most two seconds; long polls are cut. Then it waits as long
    /// for calls of the database, so that nothing holds the control plane any more, which closes the database.
    ///
    /// Blocks the thread. Panics on a thread of another runtime that is not one of its blocking threads.
    pub fn shutdown(mut self) {
        let _ = self.stop.send(());
        let deadline = Instant::now() + GRACE;
        while self.serving.iter().any(|serving| !serving.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(GRACE);
        }
    }
}

/// Takes over the changes that commands on this host made in the database (`halligan-control recover`).
async fn take_over_commands(control: Arc<ControlPlane>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        if let Err(error) = control.off_reactor(|control| control.store.refresh()).await {
            tracing::error!(%error, "the versions of the replicas can't be read");
        }
    }
}

/// Deletes archives that no deploy needs any more. A store that fails is asked again, and the failure is logged once.
async fn delete_archives(control: Arc<ControlPlane>) {
    let prepared = control.off_reactor(|control| Ok(control.archives.prepare()?)).await;
    if let Err(error) = prepared {
        tracing::warn!(%error, "the parts of interrupted archives can't be deleted from the directory of deploys");
    }
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let failing = Failing::default();
    loop {
        second.tick().await;
        match control.delete_garbage().await {
            Ok(()) => drop(failing.end()),
            Err(error) if failing.begin() => {
                tracing::error!(%error, "archives of deploys that nothing needs can't be deleted");
            }
            Err(_) => {}
        }
    }
}

fn serve(
    listener: TcpListener,
    bounds: Bounds,
    tls: Option<TlsAcceptor>,
    router: Router,
    stopped: &watch::Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let (listener, stop) = (tokio::net::TcpListener::from_std(listener)?, stopped.clone());
    Ok(accept(listener, bounds, stopped.clone(), move |stream, peer, place| {
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        place.hold(async move {
            let Some(tls) = tls else { return serve_router(stream, router, peer, stop).await };
            match timeout(FIRST, tls.accept(stream)).await {
                Ok(Ok(stream)) => serve_router(stream, router, peer, stop).await,
                Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
        })
    }))
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
