//! Assembles the parts of the daemon, starts and stops them.

pub mod admin;
mod clock_acceptance;
mod databases;
mod enrolment;
mod error;
mod files;
mod loss;
pub mod new_identity;
mod open_parts;
mod operator_revocation;
mod parts;
pub mod reload;
pub mod watchdog;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand_core::CryptoRng;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use enrolment::identify;
pub use error::StartError;
use files::{ConfiguredFiles, NodeFiles};
pub use files::{ReadEnds, check_files};
pub use loss::{LossError, accept_loss};
use open_parts::OpenParts;

use self::admin::allowed::Allowed;
use self::reload::Reload;
use self::watchdog::Watchdog;
use super::audit::AuditLog;
use super::config::Config;
use super::peers::{self, Parts};
#[cfg(feature = "grpc")]
use crate::dataplane::faces::ext_authz::ExtAuthz;
use crate::dataplane::faces::gateway::{Gateway, GatewayError};
use crate::dataplane::faces::http::{Face, Workers};
use crate::dataplane::node::ends;
use crate::dataplane::node::state::Live;
use crate::dataplane::observe::traces::Traces;
use crate::dataplane::replica::replication::Replication;
use crate::dataplane::replica::trust::TrustDirectory;
use crate::dataplane::replica::{scrub, timekeeper};
use crate::platform::clock::Clock;
use crate::platform::state_directory::{self, HeldDirectory};
use crate::platform::systemd::Sockets;

/// Running daemon, with the handles of its tasks and threads.
pub struct Daemon {
    /// Addresses on which it listens.
    pub addresses: Vec<SocketAddr>,
    /// Path of the admin socket, if the daemon created it.
    socket: Option<PathBuf>,
    workers: Workers,
    replication: Arc<Replication>,
    reload: Arc<Reload>,
    clock: Clock,
    live: Arc<Live>,
    audit: Arc<AuditLog>,
    traces: Traces,
    stop: watch::Sender<()>,
    serving: Vec<JoinHandle<()>>,
    sync: JoinHandle<()>,
    glass_task: JoinHandle<()>,
    /// Tasks that watch the clocks and keys, and that reconcile.
    background: Vec<JoinHandle<()>>,
    /// Released last: another daemon must not open databases that this one still writes.
    directory: HeldDirectory,
}

impl Daemon {
    /// Starts the daemon: verifies the files on the disk, listens, and begins to sync. Enrols the node first if it has no
    /// identity. Listens on the sockets passed as `http` and `admin`, and binds the other addresses of the configuration.
    pub async fn start<R: CryptoRng + Send + 'static>(
        config: Config,
        mut sockets: Sockets,
        clock: Clock,
        mut rng: R,
    ) -> Result<Self, StartError> {
        // All reads come before the first write, so that an invalid configuration leaves nothing behind.
        let files = ConfiguredFiles::read(&config)?;
        let (table, upstream) = (files.table.clone(), Arc::clone(&files.upstream));
        let directory = state_directory::hold(&config.state_dir)?;
        let mut node = NodeFiles::read(&config)?;
        let known = (node.identity.take(), node.key.take());
        let prover = Arc::new(identify(&config, known, &upstream, clock(), &mut rng).await?);
        let parts = OpenParts::open(&config, prover, files, node, &clock, &mut rng).await?;
        let (stop, stopped) = watch::channel(());
        let workers = Workers::start(config.listen.workers(), &parts.face, &stopped)
            .map_err(|source| StartError::Listen { address: "worker threads".into(), source })?;
        let faces = serve_faces(&config, &parts.face, &workers, &mut sockets, &stopped);
        let (addresses, mut serving) = faces?;
        let socket = config.listen.admin_socket.clone();
        let inherited = sockets.take_unix("admin");
        sockets.warn_of_the_rest();
        let wake: Arc<Notify> = Arc::default();
        let mut background = start_watches(&config, &parts, &clock, &wake);
        let failed = |source| StartError::Listen { address: socket.display().to_string(), source };
        let allowed = Arc::new(Allowed::new(config.admin.allow_uids.clone()).map_err(failed)?);
        let reload = parts.reload(&config, table, &allowed, &clock);
        let administration = parts.administration(&config, &allowed, &reload, &wake, &clock);
        let counted = parts.authorizer.metrics.connections();
        let (listener, own) = listen_for_admin(inherited, &socket, &allowed).await?;
        let for_peers =
            Parts::from_reconciler(&parts.reconciler, &parts.replication, Some(Arc::clone(&parts.code)));
        let ca_file = config.control_plane.ca_file.as_deref();
        background.extend(peers::start(&config.peers, ca_file, for_peers, &counted, &stopped).await?);
        serving.push(admin::serve(listener, administration, counted, stopped));
        background.extend(parts.start_uplink(&upstream, config.node.name, &clock));
        let sync = tokio::spawn(parts.follower(upstream, wake, &clock, rng).run());
        let OpenParts { replication, live, audit, traces, glass_task, .. } = parts;
        let glass_task = tokio::spawn(async move { glass_task.run().await });
        let socket = own.then_some(socket);
        Ok(Self {
            addresses,
            socket,
            workers,
            replication,
            reload,
            clock,
            live,
            audit,
            traces,
            stop,
            serving,
            sync,
            glass_task,
            background,
            directory,
        })
    }

    /// Returns the state that the parts share.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Returns the part that reloads the configuration.
    #[must_use]
    pub fn reload(&self) -> &Arc<Reload> {
        &self.reload
    }

    /// Returns the watchdog. It must be dropped before the daemon can end.
    #[must_use]
    pub fn watchdog(&self) -> Watchdog {
        Watchdog {
            prober: self.workers.prober(),
            audit: Arc::clone(&self.audit),
            replication: Arc::clone(&self.replication),
            clock: Arc::clone(&self.clock),
        }
    }

    /// Stops the daemon: finishes requests in progress, and writes waiting events.
    pub async fn shutdown(self) {
        self.sync.abort();
        self.glass_task.abort();
        self.background.iter().for_each(JoinHandle::abort);
        let _ = self.stop.send(());
        for serving in self.serving {
            // A keep-alive connection must not delay the end for ever.
            drop(tokio::time::timeout(Duration::from_secs(5), serving).await);
        }
        let workers = self.workers;
        // The threads wait for requests in progress. Nothing else of the daemon needs this thread now.
        let _ = tokio::task::spawn_blocking(move || workers.join()).await;
        self.audit.close();
        let traces = self.traces;
        let _ = tokio::task::spawn_blocking(move || traces.close()).await;
        // A later client should find no socket, rather than one that does not answer.
        let _ = self.socket.map(std::fs::remove_file);
        drop(self.directory);
    }
}

/// Starts the listeners for requests. Returns their addresses and tasks.
fn serve_faces(
    config: &Config,
    face: &Arc<Face>,
    workers: &Workers,
    sockets: &mut Sockets,
    stopped: &watch::Receiver<()>,
) -> Result<(Vec<SocketAddr>, Vec<JoinHandle<()>>), StartError> {
    let (mut addresses, mut serving) = (Vec::new(), Vec::new());
    let each = face.each(config.listen.connections_per_client.into());
    let listeners = listen("http", &config.listen.http, sockets)?;
    if listeners.is_empty() {
        return Err(StartError::Nowhere);
    }
    for (address, listener) in listeners {
        addresses.push(address);
        let counted = face.authorizer.metrics.connections();
        serving.push(workers.accept(listener, each.clone(), counted, stopped.clone()));
    }
    let listeners = listen("grpc", &config.listen.grpc, sockets)?;
    #[cfg(not(feature = "grpc"))]
    if !listeners.is_empty() {
        return Err(StartError::NoGrpc);
    }
    #[cfg(feature = "grpc")]
    for (address, listener) in listeners {
        addresses.push(address);
        let counted = face.authorizer.metrics.connections();
        serving.push(ExtAuthz::new(face).serve(listener, each.clone(), counted, stopped.clone()));
    }
    if let Some(gateway) = &config.gateway {
        let listeners = listen("gateway", &gateway.listen, sockets)?;
        if listeners.is_empty() {
            return Err(GatewayError::Nowhere.into());
        }
        let (authorizer, identity) = (Arc::clone(&face.authorizer), face.answers.identity.clone());
        let gateway = Arc::new(Gateway::new(gateway.clone(), authorizer, identity)?);
        for (address, listener) in listeners {
            addresses.push(address);
            serving.push(gateway.serve(listener, stopped.clone()));
        }
    }
    Ok((addresses, serving))
}

/// Returns the sockets passed under a name, and binds those of `addresses` that are not among them.
fn listen(
    name: &str,
    addresses: &[SocketAddr],
    sockets: &mut Sockets,
) -> Result<Vec<(SocketAddr, TcpListener)>, StartError> {
    let mut listeners = Vec::new();
    for inherited in sockets.take_tcp(name) {
        let failed = |source| StartError::Listen { address: "a socket handed over".into(), source };
        let address = inherited.local_addr().map_err(failed)?;
        listeners.push((address, TcpListener::from_std(inherited).map_err(failed)?));
    }
    for &address in addresses {
        if listeners.iter().all(|(inherited, _)| *inherited != address) {
            let failed = |source| StartError::Listen { address: address.to_string(), source };
            let listener = crate::platform::net::listener::listen(address).map_err(failed)?;
            listeners.push((listener.local_addr().map_err(failed)?, listener));
        }
    }
    Ok(listeners)
}

/// Starts the tasks that watch keys, clocks, expiry dates, and how far the log is uploaded.
fn start_watches(
    config: &Config,
    parts: &OpenParts,
    clock: &Clock,
    wake: &Arc<Notify>,
) -> Vec<JoinHandle<()>> {
    let replication = &parts.replication;
    let mut keys = TrustDirectory::new(config.trust.root_keys.clone(), config.trust.threshold);
    keys.take_up(replication, clock());
    let tls = config.gateway.as_ref().and_then(|gateway| gateway.tls.as_ref());
    let certificate = tls.map(|tls| tls.certificate_file.clone());
    vec![
        tokio::spawn(keys.watch(Arc::clone(replication), Arc::clone(clock), Arc::clone(wake))),
        tokio::spawn(timekeeper::run(Arc::clone(replication), Arc::clone(clock), Arc::clone(wake))),
        tokio::spawn(scrub::run(Arc::clone(replication), Arc::clone(clock), Arc::clone(wake))),
        tokio::spawn(Arc::clone(&parts.lag).watch()),
        tokio::spawn(ends::watch(Arc::clone(&parts.live), Arc::clone(clock), certificate)),
    ]
}

/// Listens on the admin socket: on the one that was passed, or on a new one. Returns true for a new one.
async fn listen_for_admin(
    inherited: Option<std::os::unix::net::UnixListener>,
    socket: &Path,
    allowed: &Allowed,
) -> Result<(UnixListener, bool), StartError> {
    let failed = |source| StartError::Listen { address: socket.display().to_string(), source };
    if let Some(listener) = inherited {
        allowed.warn_of_the_locked_out(socket);
        return Ok((UnixListener::from_std(listener).map_err(failed)?, false));
    }
    let listener = admin::listen(socket).await.map_err(failed)?;
    allowed.guard_own(socket).map_err(failed)?;
    Ok((listener, true))
}
