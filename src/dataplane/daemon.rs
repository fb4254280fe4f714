//! The daemon: its parts put together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use rand_core::CryptoRng;
use serde::Serialize;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::Clock;
use super::admin::{self, Administration, Allowed};
use super::alarm::AlarmKind;
use super::answer::Answers;
use super::audit::{AuditError, AuditLog, Options};
use super::authorize::Authorizer;
use super::config::{Config, Trust};
#[cfg(feature = "grpc")]
use super::ext_authz::ExtAuthz;
use super::gateway::{Gateway, GatewayError};
use super::glass::{Glass, GlassError, Keeper};
use super::http::{Face, Workers};
use super::identity::{Absent, Identity, IdentityError, make_node_key, read_node_key, readable_roots};
use super::introspection::Introspector;
use super::live::Live;
use super::metrics::Metrics;
use super::outage::OutageError;
use super::peers::{self, Parts, PeersError};
use super::proof::{Nonces, Prover};
use super::rate::RateLimits;
use super::reconcile::Reconciler;
use super::reload::Reload;
use super::replication::Replication;
use super::routes::MapsError;
use super::snapshot::Snapshot;
use super::staleness::Staleness;
use super::store::{ReplicaStore, StoreError};
use super::sync::Follower;
use super::timekeeper;
use super::trust::TrustDirectory;
use super::upstream::{Patience, Upstream, UpstreamError};
use super::upstream_identity::UpstreamIdentity;
use super::watchdog::Watchdog;
use crate::configuration::ConfigError;
use crate::protocol::id::random_id;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::{Jwk, SigningKey};
use crate::protocol::keyset::RootSet;
use crate::protocol::time::Time;
use crate::systemd::Sockets;

/// Why the daemon can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The state directory can't be made.
    #[error("the state directory {path} can't be made: {source}")]
    State {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key, the roots or the identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The route maps.
    #[error(transparent)]
    Routes(#[from] MapsError),
    /// The replica.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The way to the control plane.
    #[error(transparent)]
    Upstream(UpstreamError),
    /// The broken glass.
    #[error(transparent)]
    Glass(#[from] GlassError),
    /// The local revocations, or the outages it has lived through.
    #[error(transparent)]
    Recovery(#[from] OutageError),
    /// The peers.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The control plane, while enrolling.
    #[error("this node is not enrolled, and can't be: {0}")]
    Enrol(#[from] UpstreamError),
    /// No enrolment token.
    #[error(
        "this node is not enrolled; give it an enrolment token, as the credential halligan.enrolment-token or in a file \
         named as control_plane.enrolment_token_file"
    )]
    NotEnrolled,
    /// An enrolment answer that is not understood.
    #[error("the control plane's enrolment answer is not understood: {0}")]
    Answer(serde_json::Error),
    /// Envoy is to be served, and can't be.
    #[error("listen.grpc is configured, but this halligand was built without gRPC (the cargo feature grpc)")]
    NoGrpc,
    /// The gateway.
    #[error("the gateway can't start: {0}")]
    Gateway(#[from] GatewayError),
    /// An address can't be listened on.
    #[error("{address} can't be listened on: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// No address to listen on.
    #[error("there is nowhere to listen; name an address in listen.http, or start halligand.socket")]
    Nowhere,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Enrolment<'a> {
    #[serde(rename = "enrolmentToken")]
    token: &'a str,
    name: &'a str,
    key: Jwk,
    proof: String,
}

#[derive(Serialize)]
struct Proof {
    aud: &'static str,
    iat: Time,
    exp: Time,
    jti: String,
}

/// A running daemon.
pub struct Daemon {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// The admin socket, where it is this daemon's own and not handed over.
    socket: Option<PathBuf>,
    workers: Workers,
    replication: Arc<Replication>,
    reload: Arc<Reload>,
    clock: Clock,
    live: Arc<Live>,
    audit: Arc<AuditLog>,
    stop: watch::Sender<()>,
    serving: Vec<JoinHandle<()>>,
    sync: JoinHandle<()>,
    keeper: JoinHandle<()>,
    /// What looks at the clocks and at the keys, and what reconciles.
    background: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// Starts: proves what is on disk, listens, and begins to sync. Enrols first where there is no identity.
    /// It listens on the sockets handed over as `http` and `admin`, and binds what the configuration names besides.
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
        // What only reads comes first: a configuration that is wrong leaves nothing behind.
        let (pinned, faults) = readable_roots(&config.trust.root_keys, config.trust.threshold)?;
        let routes = config.route_maps()?;
        let table = config.file.as_deref().map(Config::table).transpose()?.unwrap_or_default();
        let upstream = way_up(&config)?;
        let prover = Arc::new(identify(&config, &upstream, clock(), &mut rng).await?);
        let (identity, key) = (prover.identity.clone(), Arc::clone(&prover.key));
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), clock()));
        live.change_local(|local| local.routes = routes);
        left_out(&live, &faults, clock());
        let staleness = config.staleness();
        let store = open_replica(&state.join("replica.db"), &identity, &pinned, &staleness, &live, clock())?;
        let audit_path = state.join("audit.db");
        let audit = Arc::new(open_audit(&audit_path, &config, &identity, &key, &clock, &live)?);
        let reconciler = Reconciler::open(&state, Arc::clone(&prover), &live, &clock)?;
        let replication = Arc::new(Replication::new(store, Arc::clone(&live), staleness));
        let authorizer = Arc::new(authorizer(&config, &live, &audit, prover, &clock)?);
        // Nor is anything open longer than it was said to be.
        let keeper = Arc::new(open_keeper(&state.join("glass.db"), &config, &authorizer)?);
        let answers = Answers {
            pass_status: config.proxies.pass_status,
            identity: upstream_identity(&config, &clock, &mut rng)?,
        };
        let face = Arc::new(Face {
            authorizer: Arc::clone(&authorizer),
            trusted: ArcSwap::from_pointee(config.proxies.trusted.clone()),
            answers,
        });
        let (stop, stopped) = watch::channel(());
        let workers = Workers::start(&face, &stopped)
            .map_err(|source| StartError::Listen { address: "worker threads".into(), source })?;
        let faces = serve_faces(&config, &face, &workers, &mut sockets, &stopped);
        let (addresses, mut serving) = faces.await?;
        let socket = config.listen.admin_socket;
        let inherited = sockets.take_unix("admin");
        sockets.warn_of_the_rest();
        let failed = |source| StartError::Listen { address: socket.display().to_string(), source };
        let wake: Arc<Notify> = Arc::default();
        let mut background = background(&config.trust, &replication, &clock, &wake);
        let allowed = Arc::new(Allowed::new(config.admin.allow_uids).map_err(failed)?);
        let reload = Arc::new(Reload {
            file: config.file,
            in_force: Mutex::new(table),
            face,
            replication: Arc::clone(&replication),
            allowed: Arc::clone(&allowed),
            clock: Arc::clone(&clock),
        });
        let administration = Arc::new(Administration {
            authorizer,
            replication: Arc::clone(&replication),
            revocations: Arc::clone(&reconciler.revocations),
            outages: Arc::clone(&reconciler.outages),
            keeper: Arc::clone(&keeper),
            audit: Arc::clone(&audit),
            audit_path,
            identity: identity.clone(),
            key: key.public().clone(),
            clock: Arc::clone(&clock),
            wake: Arc::clone(&wake),
            allowed,
            reload: Arc::clone(&reload),
        });
        let (listener, own) = match inherited {
            Some(listener) => (UnixListener::from_std(listener).map_err(failed)?, false),
            None => (admin::listen(&socket).await.map_err(failed)?, true),
        };
        let parts = Parts::of(&reconciler, &replication);
        let ca_file = config.control_plane.ca_file.as_deref();
        background.extend(peers::start(&config.peers, ca_file, parts, &stopped).await?);
        serving.push(serve_admin(listener, administration, stopped));
        background.push(tokio::spawn(Arc::clone(&reconciler).run(Arc::clone(&upstream))));
        let follower = Follower {
            replication: Arc::clone(&replication),
            upstream,
            reconciler,
            identity,
            key,
            clock: Arc::clone(&clock),
            rng,
            wake,
        };
        let sync = tokio::spawn(follower.run());
        let keeper = tokio::spawn(async move { keeper.run().await });
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
            stop,
            serving,
            sync,
            keeper,
            background,
        })
    }

    /// What its parts share.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// What reads the configuration again.
    #[must_use]
    pub fn reload(&self) -> &Arc<Reload> {
        &self.reload
    }

    /// What proves that it lives. The daemon doesn't end before it is dropped.
    #[must_use]
    pub fn watchdog(&self) -> Watchdog {
        Watchdog {
            prober: self.workers.prober(),
            audit: Arc::clone(&self.audit),
            replication: Arc::clone(&self.replication),
            clock: Arc::clone(&self.clock),
        }
    }

    /// Ends it: answers what is under way, and writes what waits to be recorded.
    pub async fn shutdown(self) {
        self.sync.abort();
        self.keeper.abort();
        self.background.iter().for_each(JoinHandle::abort);
        let _ = self.stop.send(());
        for serving in self.serving {
            // A keep-alive connection must not hold the end up for ever.
            drop(tokio::time::timeout(Duration::from_secs(5), serving).await);
        }
        let workers = self.workers;
        // They wait for what is under way; nothing else of the daemon needs this thread by now.
        let _ = tokio::task::spawn_blocking(move || workers.join()).await;
        self.audit.close();
        // Whoever comes next finds no socket, rather than one that does not answer.
        let _ = self.socket.map(std::fs::remove_file);
    }
}

/// What decides. It asks about standard tokens over connections of its own: an answer must not wait behind a bundle.
fn authorizer(
    config: &Config,
    live: &Arc<Live>,
    audit: &Arc<AuditLog>,
    prover: Arc<Prover>,
    clock: &Clock,
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
    Ok(Authorizer {
        metrics: Metrics::new(Arc::clone(&live), Arc::clone(&clock)).with_audit(Arc::clone(audit)),
        rates: RateLimits::default(),
        introspector: Some(Arc::new(introspector)),
        audit: Arc::clone(audit),
        live,
        node,
        clock,
    })
}

/// What upstreams are to get in place of a caller's token, and its key where they look for it.
fn upstream_identity(
    config: &Config,
    clock: &Clock,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Arc<UpstreamIdentity>>, StartError> {
    let (Some(wanted), Some(key_file)) = (&config.upstream_identity, config.upstream_key_file()) else {
        return Ok(None);
    };
    let key = match read_node_key(&key_file, Absent::Make)? {
        Some(key) => key,
        None => make_node_key(&key_file, rng)?,
    };
    let identity = UpstreamIdentity::new(key, wanted.clone(), Arc::clone(clock));
    let path = wanted.jwks_file.clone().unwrap_or_else(|| config.state_dir.join("jwks.json"));
    identity.write_jwks(&path).map_err(|source| IdentityError::File { path, source })?;
    Ok(Some(Arc::new(identity)))
}

/// Listens for all that asks about requests, and serves it. Gives back where it listens, and what serves.
async fn serve_faces(
    config: &Config,
    face: &Arc<Face>,
    workers: &Workers,
    sockets: &mut Sockets,
    stopped: &watch::Receiver<()>,
) -> Result<(Vec<SocketAddr>, Vec<JoinHandle<()>>), StartError> {
    let (mut addresses, mut serving) = (Vec::new(), Vec::new());
    let listeners = listen("http", &config.listen.http, sockets).await?;
    if listeners.is_empty() {
        return Err(StartError::Nowhere);
    }
    for (address, listener) in listeners {
        addresses.push(address);
        serving.push(workers.accept(listener, stopped.clone()));
    }
    let listeners = listen("grpc", &config.listen.grpc, sockets).await?;
    #[cfg(not(feature = "grpc"))]
    if !listeners.is_empty() {
        return Err(StartError::NoGrpc);
    }
    #[cfg(feature = "grpc")]
    for (address, listener) in listeners {
        addresses.push(address);
        serving.push(ExtAuthz::new(face).serve(listener, stopped.clone()));
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

/// The sockets that were handed over under a name, and those of `addresses` that are not among them.
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

/// What this host is called. A sandbox may hide the kernel's word for it.
fn host_name() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map_or_else(String::new, |name| name.trim().to_owned())
}

fn serve_admin(
    listener: UnixListener,
    administration: Arc<Administration>,
    stopped: watch::Receiver<()>,
) -> JoinHandle<()> {
    let service = admin::router(administration).into_make_service_with_connect_info::<admin::Peer>();
    let serve = axum::serve(listener, service).with_graceful_shutdown(until(stopped)).into_future();
    tokio::spawn(async move {
        if let Err(error) = serve.await {
            tracing::error!(%error, "the admin socket ended");
        }
    })
}

/// Tells of root keys that can't be read: those that can are enough.
fn left_out(live: &Live, faults: &[IdentityError], now: Time) {
    for fault in faults {
        live.alarms.raise(AlarmKind::Refused, &format!("{fault}; it is left out"), now);
    }
}

/// Looks after the keys and the clocks.
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
        tokio::spawn(timekeeper::run(Arc::clone(replication), Arc::clone(clock))),
    ]
}

async fn until(mut stopped: watch::Receiver<()>) {
    // An error means that the daemon is gone: a reason to stop, too.
    let _ = stopped.changed().await;
}

/// Opens the replica and puts what it proves in force. One that can't be read or proved is moved aside, never believed
/// and never deleted: the node then has no replica until its control plane, or an import, gives it one.
fn open_replica(
    path: &Path,
    identity: &Identity,
    pinned: &RootSet,
    staleness: &Staleness,
    live: &Live,
    now: Time,
) -> Result<ReplicaStore, StartError> {
    let open = || ReplicaStore::open(path, identity.data_plane_id.clone(), pinned.clone());
    let loaded = open().and_then(|store| {
        let floor = store.floor()?;
        let replica = match store.load() {
            // Nobody damaged it: it can't be believed any more, and its successor will come.
            Err(dropped @ StoreError::KeyDropped(_)) => {
                live.alarms.raise(AlarmKind::Refused, &dropped.to_string(), now);
                None
            }
            loaded => loaded?,
        };
        Ok((store, replica, floor))
    });
    match loaded {
        Ok((store, replica, floor)) => {
            live.raise_floor(floor);
            if let Some(replica) = replica {
                live.persisted(replica.head.head().version, now);
                live.replace(|absent| Snapshot::build(replica, staleness.clone(), Some(absent)));
            }
            Ok(store)
        }
        // A disk that is full or can't be reached is no reason to give the replica up.
        Err(StoreError::Database(error)) if !damaged(&error) => Err(StoreError::Database(error).into()),
        Err(newer @ StoreError::Schema(_)) => Err(newer.into()),
        Err(error) => {
            let aside = set_aside(path, now)?;
            let what = format!("{error}: the replica was moved to {}", aside.display());
            live.alarms.raise(AlarmKind::Damaged, &what, now);
            Ok(open()?)
        }
    }
}

fn damaged(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        || matches!(error, rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::Utf8Error(..))
}

/// Opens the audit log. One that can't be read is moved aside, never deleted, and another begun.
fn open_audit(
    path: &Path,
    config: &Config,
    identity: &Identity,
    key: &Arc<SigningKey>,
    clock: &Clock,
    live: &Arc<Live>,
) -> Result<AuditLog, StartError> {
    let open = || {
        let (node, key, clock) = (identity.node_id.clone(), Arc::clone(key), Arc::clone(clock));
        let live = Arc::clone(live);
        let options = Options {
            capacity: config.audit.max_queue,
            when_full: config.audit.when_full,
            retention: config.audit.retention(),
            alarm: Arc::new(move |what, now| live.alarms.raise(AlarmKind::AuditFailing, what, now)),
        };
        AuditLog::open_with(path, node, key, clock, options)
    };
    or_begin_anew(path, live, clock(), "audit log", open, unreadable)
}

/// Opens the broken glass and puts it in force. Without its database everything that can be sealed is.
fn open_keeper(path: &Path, config: &Config, authorizer: &Authorizer) -> Result<Keeper, StartError> {
    let Authorizer { live, audit, node, clock, .. } = authorizer;
    let (now, longest) = (clock(), i64::from(config.glass.max_break_seconds));
    let open = || Glass::open(path, Arc::clone(live), longest, live.now(now));
    let lost = |error: &GlassError| matches!(error, GlassError::Database(error) if damaged(error));
    Ok(Keeper {
        glass: Arc::new(or_begin_anew(path, live, now, "glass", open, lost)?),
        live: Arc::clone(live),
        audit: Arc::clone(audit),
        node: node.clone(),
        clock: Arc::clone(clock),
        limits: config.glass.limits(),
    })
}

/// Opens a database, or moves one that is `lost` aside, with an alarm, and begins another.
fn or_begin_anew<T, E: std::fmt::Display + Into<StartError>>(
    path: &Path,
    live: &Live,
    now: Time,
    what: &str,
    open: impl Fn() -> Result<T, E>,
    lost: impl FnOnce(&E) -> bool,
) -> Result<T, StartError> {
    match open() {
        Err(error) if lost(&error) => {
            let aside = set_aside(path, now)?;
            let what = format!("{error}: the {what} was moved to {}", aside.display());
            live.alarms.raise(AlarmKind::Damaged, &what, now);
            open().map_err(Into::into)
        }
        opened => opened.map_err(Into::into),
    }
}

/// Whether a log can't be gone on with, rather than not be written just now.
fn unreadable(error: &AuditError) -> bool {
    match error {
        AuditError::Database(error) => damaged(error),
        AuditError::Tail(_) => true,
        AuditError::Thread(_) => false,
    }
}

/// Moves a database out of the way, with what SQLite keeps beside it.
fn set_aside(path: &Path, now: Time) -> Result<PathBuf, StartError> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = beside(&format!(".damaged-{}", now.unix()));
    std::fs::rename(path, &aside).map_err(|source| StartError::State { path: path.into(), source })?;
    for suffix in ["-wal", "-shm"] {
        // They may not be there.
        let _ = std::fs::remove_file(beside(suffix));
    }
    Ok(aside)
}

/// The way to the control plane.
fn way_up(config: &Config) -> Result<Arc<Upstream>, StartError> {
    let (urls, ca_file) = (config.control_plane.urls.clone(), config.control_plane.ca_file.as_deref());
    let upstream = Upstream::new(urls, ca_file, config.state_dir.clone(), Patience::default());
    upstream.map(Arc::new).map_err(StartError::Upstream)
}

/// Who the node is, and what it proves that with. Makes a key and enrols where there is no identity yet.
async fn identify(
    config: &Config,
    upstream: &Upstream,
    now: Time,
    rng: &mut (dyn CryptoRng + Send),
) -> Result<Prover, StartError> {
    let (state, key_file) = (&config.state_dir, config.key_file());
    let path = state.join("node.json");
    let known = Identity::read(&path)?;
    let key = read_node_key(&key_file, config.absent_key(known.is_some()))?;
    std::fs::create_dir_all(state).map_err(|source| StartError::State { path: state.clone(), source })?;
    let key = if let Some(key) = key { key } else { make_node_key(&key_file, rng)? };
    let identity = if let Some(identity) = known {
        identity
    } else {
        let identity = enrol(config, upstream, &key, now, rng).await?;
        identity.write(&path)?;
        identity
    };
    Ok(Prover { identity, key: Arc::new(key), nonces: Nonces::new(rng) })
}

async fn enrol(
    config: &Config,
    upstream: &Upstream,
    key: &SigningKey,
    now: Time,
    rng: &mut dyn CryptoRng,
) -> Result<Identity, StartError> {
    let file = config.control_plane.enrolment_token_file.as_ref().ok_or(StartError::NotEnrolled)?;
    let token =
        std::fs::read_to_string(file).map_err(|source| IdentityError::File { path: file.clone(), source })?;
    let token = Zeroizing::new(token);
    let proof = Proof { aud: "halligan-control", iat: now, exp: now.plus(300), jti: random_id("", rng) };
    let host = host_name();
    let body = Enrolment {
        token: token.trim(),
        name: config.node.name.as_deref().unwrap_or(&host),
        key: key.public().jwk(),
        proof: sign(Typ::NodeAuth, &serde_json::to_vec(&proof).map_err(StartError::Answer)?, key),
    };
    let answer = upstream.post("/v1/enrol", serde_json::to_vec(&body).map_err(StartError::Answer)?).await?;
    serde_json::from_slice(&answer).map_err(StartError::Answer)
}
