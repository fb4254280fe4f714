//! A listening control plane, in a runtime of its own: stopping it cuts every connection at once, as an outage does.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tokio::runtime::{Builder, Runtime};

use super::config::Tls;
use super::http::{Edge, router};

/// A control plane that listens.
pub struct Server {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves what is behind `edge` on `listener`: over TLS, or in plain HTTP where something in front speaks TLS.
    /// What is told of it to Prometheus is served on `metrics`, where that is given.
    pub fn start(
        edge: Edge,
        listener: TcpListener,
        tls: Option<&Tls>,
        metrics: Option<TcpListener>,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build()?;
        let told = metrics.map(|listener| (listener, edge.metrics().into_make_service()));
        let (handle, service) =
            (Handle::new(), router(edge).into_make_service_with_connect_info::<SocketAddr>());
        let tls = match tls {
            Some(tls) => {
                // Installed twice by two servers of one process: the same one.
                let _ = rustls::crypto::ring::default_provider().install_default();
                Some(runtime.block_on(RustlsConfig::from_pem_file(&tls.certificate, &tls.key))?)
            }
            None => None,
        };
        let context = runtime.enter();
        let until = handle.clone();
        if let Some(tls) = tls {
            let server = axum_server::from_tcp_rustls(listener, tls)?.handle(until);
            runtime.spawn(async move { ended(server.serve(service).await) });
        } else {
            let server = axum_server::from_tcp(listener)?.handle(until);
            runtime.spawn(async move { ended(server.serve(service).await) });
        }
        if let Some((listener, service)) = told {
            listener.set_nonblocking(true)?;
            let server = axum_server::from_tcp(listener)?;
            runtime.spawn(async move { ended(server.serve(service).await) });
        }
        drop(context);
        Ok(Self { address, handle, runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it: what is under way is answered first, for at most two seconds. A long poll is not waited for.
    pub fn shutdown(self) {
        self.handle.graceful_shutdown(Some(Duration::from_secs(2)));
        let deadline = std::time::Instant::now() + Duration::from_secs(2);
        while self.handle.connection_count() > 0 && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn ended(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "the control plane's listener ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
