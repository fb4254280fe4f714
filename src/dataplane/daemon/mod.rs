//! Assembles the parts of the daemon, starts and stops them.

pub mod admin;
mod databases;
mod enrolment;
mod error;
mod loss;
pub mod new_identity;
mod parts;
pub mod reload;
pub mod watchdog;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use rand_core::CryptoRng;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use databases::{open_audit, open_glass_task, open_reconciler, open_replica};
use enrolment::identify;
pub use error::StartError;
pub use loss::{LossError, accept_loss};
use parts::{code_of, decryption_key, sessions, upstream_identity};

use self::admin::Administration;
use self::admin::allowed::Allowed;
use self::reload::Reload;
use self::watchdog::Watchdog;
use super::audit::{AuditLog, AuditMetrics, UploadLag};
use super::authorize::{Authorizer, VerificationPermits};
use super::config::{Config, Trust};
use super::peers::{self, Parts};
use crate::dataplane::authorize::introspection::Introspector;
use crate::dataplane::authorize::rate::RateLimits;
use crate::dataplane::authorize::sessions::Sessions;
use crate::dataplane::code::Code;
use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::environment::Environments;
use crate::dataplane::faces::answer::Answers;
#[cfg(feature = "grpc")]
use crate::dataplane::faces::ext_authz::ExtAuthz;
use crate::dataplane::faces::gateway::{Gateway, GatewayError};
use crate::dataplane::faces::http::{Face, Workers};
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::ends;
use crate::dataplane::node::identity::{IdentityError, readable_roots};
use crate::dataplane::node::state::Live;
use crate::dataplane::observe::metrics::Metrics;
use crate::dataplane::observe::traces::{self, Traces};
use crate::dataplane::replica::replication::Replication;
use crate::dataplane::replica::trust::TrustDirectory;
use crate::dataplane::replica::{scrub, timekeeper};
use crate::dataplane::uplink::client::{Patience, Upstream};
use crate::dataplane::uplink::deploys::Deploys;
use crate::dataplane::uplink::membership::Statements;
use crate::dataplane::uplink::sync::Follower;
use crate::platform::clock::Clock;
use crate::platform::state_directory::{self, HeldDirectory};
use crate::platform::systemd::Sockets;
use crate::protocol::time::Time;

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
    #[expect(
        clippy::too_many_lines,
        reason = "every part is put in its place here, in the order they need each other"
    )]
    pub async fn start<R: CryptoRng + Send + 'static>(
        config: Config,
        mut sockets: Sockets,
        clock: Clock,
        mut rng: R,
    ) -> Result<Self, StartError> {
        let state = config.state_dir.clone();
        // All reads come before the first write, so that an invalid configuration leaves nothing behind.
        let (pinned, faults) = readable_roots(&config.trust.root_keys, config.trust.threshold)?;
        let routes = config.route_maps()?;
        let table = config.file.as_deref().map(Config::table).transpose()?.unwrap_or_default();
        config.tracing.as_ref().map_or(Ok(()), traces::check)?;
        let upstream = way_up(&config)?;
        let directory = state_directory::hold(&state)?;
        let prover = Arc::new(identify(&config, &upstream, clock(), &mut rng).await?);
        let (identity, key) = (prover.identity.clone(), Arc::clone(&prover.key));
        let decryption_key = decryption_key(&config, &mut rng)?;
        let traces = Traces::start(config.tracing.as_ref(), &identity)?;
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), clock()));
        let directory_of_variables = config.environment_directory();
        let environments =
            Environments::new(directory_of_variables, identity.clone(), decryption_key, Arc::clone(&live));
        let environments = Arc::new(environments);
        let code = Arc::new(code_of(&config, &prover, &live, &mut rng));
        live.change_local(|local| local.routes = routes);
        left_out(&live, &faults, clock());
        let staleness = config.staleness();
        let store = open_replica(&state.join("replica.db"), &identity, &pinned, &staleness, &live, clock())?;
        let audit_path = state.join("audit.db");
        let audit = Arc::new(open_audit(&audit_path, &config, &identity, &key, &clock, &live)?);
        let lag = Arc::new(UploadLag::new(audit_path.clone()));
        let reconciler = open_reconciler(&state, &audit, &prover, &live, &clock).await?;
        let replication = Arc::new(Replication::new(store, Arc::clone(&live), staleness));
        let sessions = sessions(&config, &live, clock(), &mut rng)?;
        let authorizer =
            Arc::new(authorizer(&config, &live, (&audit, &lag), prover, &clock, (&traces, sessions, &code))?);
        // Opened before the listeners, so that glass whose time is over is open to no request.
        let glass_task = Arc::new(open_glass_task(&state.join("glass.db"), &config, &authorizer)?);
        let answers = Answers {
            pass_status: config.proxies.pass_status,
            identity: upstream_identity(&config, &clock, &mut rng)?,
        };
        let face = Arc::new(Face {
            authorizer: Arc::clone(&authorizer),
            trusted: ArcSwap::from_pointee(config.proxies.trusted.clone()),
            answers,
            code: Some(Arc::clone(&code)),
        });
        let (stop, stopped) = watch::channel(());
        let workers = Workers::start(config.listen.workers(), &face, &stopped)
            .map_err(|source| StartError::Listen { address: "worker threads".into(), source })?;
        let faces = serve_faces(&config, &face, &workers, &mut sockets, &stopped);
        let (addresses, mut serving) = faces.await?;
        let socket = config.listen.admin_socket;
        let inherited = sockets.take_unix("admin");
        sockets.warn_of_the_rest();
        let failed = |source| StartError::Listen { address: socket.display().to_string(), source };
        let wake: Arc<Notify> = Arc::default();
        let mut background = background(&config.trust, &replication, &clock, &wake);
        background.push(tokio::spawn(lag.watch()));
        let tls = config.gateway.as_ref().and_then(|gateway| gateway.tls.as_ref());
        let certificate = tls.map(|tls| tls.certificate_file.clone());
        background.push(tokio::spawn(ends::watch(Arc::clone(&live), Arc::clone(&clock), certificate)));
        let allowed = Arc::new(Allowed::new(config.admin.allow_uids).map_err(failed)?);
        let reload = Arc::new(Reload {
            file: config.file,
            in_force: Mutex::new(table),
            face,
            replication: Arc::clone(&replication),
            allowed: Arc::clone(&allowed),
            clock: Arc::clone(&clock),
        });
        let counted = authorizer.metrics.connections();
        let administration = Arc::new(Administration {
            authorizer,
            replication: Arc::clone(&replication),
            revocations: Arc::clone(&reconciler.revocations),
            outages: Arc::clone(&reconciler.outages),
            glass_task: Arc::clone(&glass_task),
            audit: Arc::clone(&audit),
            audit_path,
            identity: identity.clone(),
            key: key.public().clone(),
            clock: Arc::clone(&clock),
            wake: Arc::clone(&wake),
            allowed: Arc::clone(&allowed),
            reload: Arc::clone(&reload),
            code: Arc::clone(&code),
        });
        let (listener, own) = if let Some(listener) = inherited {
            allowed.warn_of_the_locked_out(&socket);
            (UnixListener::from_std(listener).map_err(failed)?, false)
        } else {
            let listener = admin::listen(&socket).await.map_err(failed)?;
            allowed.guard_own(&socket).map_err(failed)?;
            (listener, true)
        };
        let parts = Parts::of(&reconciler, &replication, Some(Arc::clone(&code)));
        let ca_file = config.control_plane.ca_file.as_deref();
        background.extend(peers::start(&config.peers, ca_file, parts, &counted, &stopped).await?);
        serving.push(admin::serve(listener, administration, counted, stopped));
        let (code_changes, told_changes) = watch::channel(None);
        let told = Statements::new(&reconciler, &replication, config.node.name, &environments, code_changes);
        let deploys = Deploys::new(
            code,
            Arc::clone(&reconciler.prover),
            Arc::clone(&live),
            Arc::clone(&clock),
            told_changes,
        );
        background.push(tokio::spawn(deploys.run(Arc::clone(&upstream))));
        background.push(tokio::spawn(told.run(Arc::clone(&upstream))));
        background.push(tokio::spawn(Arc::clone(&reconciler).run(Arc::clone(&upstream), traces.clone())));
        let follower = Follower {
            replication: Arc::clone(&replication),
            upstream,
            reconciler,
            clock: Arc::clone(&clock),
            rng,
            wake,
            traces: traces.clone(),
            nonce: None,
        };
        let sync = tokio::spawn(follower.run());
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

/// Returns the part that decides. It has its own connections for introspection, so that an answer never waits behind a bundle.
fn authorizer(
    config: &Config,
    live: &Arc<Live>,
    (audit, lag): (&Arc<AuditLog>, &Arc<UploadLag>),
    prover: Arc<Prover>,
    clock: &Clock,
    (traces, sessions, code): (&Traces, Option<Arc<Sessions>>, &Arc<Code>),
) -> Result<Authorizer, StartError> {
    let within = Duration::from_millis(config.introspection.timeout_milliseconds);
    let lifetime = Duration::from_secs(config.introspection.cache_seconds);
    let patience = Patience { connect: within, headers: within, ..Patience::default() };
    let (urls, ca_file) = (config.control_plane.urls.clone(), config.control_plane.ca_file.as_deref());
    let upstream =
        Upstream::new(urls, ca_file, config.state_dir.clone(), patience).map_err(StartError::Upstream)?;
    let (live, clock, node) = (Arc::clone(live), Arc::clone(clock), prover.identity.node_id.clone());
    let upstream = Arc::new(upstream);
    let introspector =
        Introspector::new(Arc::clone(&live), upstream, prover, Arc::clone(&clock), lifetime, within);
    let told = AuditMetrics { log: Arc::clone(audit), lag: Arc::clone(lag), clock: Arc::clone(&clock) };
    let permits = Arc::new(VerificationPermits::new(config.listen.workers().get().into()));
    let waiting = Arc::clone(&permits);
    Ok(Authorizer {
        metrics: Metrics::new(Arc::clone(&live), Arc::clone(&clock))
            .with_audit(told)
            .with_code(Arc::clone(code))
            .with_signatures_waiting(move || waiting.waiting()),
        rates: RateLimits::default(),
        permits,
        introspector: Some(Arc::new(introspector)),
        sessions,
        audit: Arc::clone(audit),
        traces: traces.clone(),
        live,
        node,
        clock,
    })
}

/// Starts the listeners for requests. Returns their addresses and tasks.
async fn serve_faces(
    config: &Config,
    face: &Arc<Face>,
    workers: &Workers,
    sockets: &mut Sockets,
    stopped: &watch::Receiver<()>,
) -> Result<(Vec<SocketAddr>, Vec<JoinHandle<()>>), StartError> {
    let (mut addresses, mut serving) = (Vec::new(), Vec::new());
    let each = face.each(config.listen.connections_per_client.into());
    let listeners = listen("http", &config.listen.http, sockets).await?;
    if listeners.is_empty() {
        return Err(StartError::Nowhere);
    }
    for (address, listener) in listeners {
        addresses.push(address);
        let counted = face.authorizer.metrics.connections();
        serving.push(workers.accept(listener, each.clone(), counted, stopped.clone()));
    }
    let listeners = listen("grpc", &config.listen.grpc, sockets).await?;
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
        let listeners = listen("gateway", &gateway.listen, sockets).await?;
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
async fn listen(
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
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            listeners.push((listener.local_addr().map_err(failed)?, listener));
        }
    }
    Ok(listeners)
}

/// Raises an alarm for root keys that cannot be read. The readable ones are enough.
fn left_out(live: &Live, faults: &[IdentityError], now: Time) {
    for fault in faults {
        live.alarms.raise(AlarmKind::Refused, &format!("{fault}; it is left out"), now);
    }
}

/// Starts the tasks that watch keys and clocks.
fn background(
    trust: &Trust,
    replication: &Arc<Replication>,
    clock: &Clock,
    wake: &Arc<Notify>,
) -> Vec<JoinHandle<()>> {
    let mut keys = TrustDirectory::new(trust.root_keys.clone(), trust.threshold);
    keys.take_up(replication, clock());
    vec![
        tokio::spawn(keys.watch(Arc::clone(replication), Arc::clone(clock), Arc::clone(wake))),
        tokio::spawn(timekeeper::run(Arc::clone(replication), Arc::clone(clock), Arc::clone(wake))),
        tokio::spawn(scrub::run(Arc::clone(replication), Arc::clone(clock), Arc::clone(wake))),
    ]
}

/// Creates the client of the control plane.
fn way_up(config: &Config) -> Result<Arc<Upstream>, StartError> {
    let (urls, ca_file) = (config.control_plane.urls.clone(), config.control_plane.ca_file.as_deref());
    let upstream = Upstream::new(urls, ca_file, config.state_dir.clone(), Patience::default());
    upstream.map(Arc::new).map_err(StartError::Upstream)
}
