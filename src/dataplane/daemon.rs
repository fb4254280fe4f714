//! The daemon: its parts put together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rand_core::CryptoRng;
use serde::Serialize;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::audit::{AuditError, AuditLog};
use super::config::Config;
use super::http::{Face, router};
use super::identity::{Identity, IdentityError, node_key, pinned_roots};
use super::live::Live;
use super::snapshot::{Snapshot, Staleness};
use super::store::{ReplicaStore, StoreError};
use super::sync::{Clock, Follower};
use super::upstream::{Upstream, UpstreamError};
use crate::protocol::id::random_id;
use crate::protocol::jws::{Typ, sign};
use crate::protocol::key::{Jwk, SigningKey};
use crate::protocol::time::Time;

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
    /// A key, the roots or the identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The replica.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The control plane, while enrolling.
    #[error("this node is not enrolled, and can't be: {0}")]
    Enrol(#[from] UpstreamError),
    /// No enrolment token.
    #[error(
        "this node is not enrolled; put an enrolment token in a file and name it as control_plane.enrolment_token_file"
    )]
    NotEnrolled,
    /// An enrolment answer that is not understood.
    #[error("the control plane's enrolment answer is not understood: {0}")]
    Answer(serde_json::Error),
    /// An address can't be listened on.
    #[error("{address} can't be listened on: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
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
    live: Arc<Live>,
    audit: Arc<AuditLog>,
    stop: watch::Sender<()>,
    serving: Vec<JoinHandle<()>>,
    sync: JoinHandle<()>,
}

impl Daemon {
    /// Starts: proves what is on disk, listens, and begins to sync. Enrols first where there is no identity.
    pub async fn start<R: CryptoRng + Send + 'static>(
        config: Config,
        clock: Clock,
        mut rng: R,
    ) -> Result<Self, StartError> {
        let state = config.state_dir.clone();
        std::fs::create_dir_all(&state)
            .map_err(|source| StartError::State { path: state.clone(), source })?;
        let pinned = pinned_roots(&config.trust.root_keys, config.trust.threshold)?;
        let key = node_key(&config.key_file(), &mut rng)?;
        let upstream =
            Upstream::new(config.control_plane.urls.clone(), config.control_plane.ca_file.as_deref())?;
        let path = state.join("node.json");
        let identity = if let Some(identity) = Identity::read(&path)? {
            identity
        } else {
            let identity = enrol(&config, &upstream, &key, clock(), &mut rng).await?;
            identity.write(&path)?;
            identity
        };
        let store = ReplicaStore::open(&state.join("replica.db"), identity.data_plane_id.clone(), pinned)?;
        let staleness =
            Staleness { default: config.staleness.default_seconds, roles: config.staleness.roles.clone() };
        let replica = store.load()?;
        let floor = replica.as_ref().map_or(Time::default(), |replica| replica.head.head().iat);
        let snapshot = replica
            .map_or_else(Snapshot::absent, |replica| Snapshot::build(replica, staleness.clone(), None));
        let live = Arc::new(Live::new(snapshot, floor, clock()));
        let audit = Arc::new(AuditLog::open(&state.join("audit.db"), config.audit.max_queue)?);
        let face = Arc::new(Face {
            live: Arc::clone(&live),
            audit: Arc::clone(&audit),
            node: identity.node_id.clone(),
            trusted: config.proxies.trusted.clone(),
            pass_status: config.proxies.pass_status,
            clock: Arc::clone(&clock),
            decisions: Default::default(),
        });
        let (stop, stopped) = watch::channel(());
        let (mut addresses, mut serving) = (Vec::new(), Vec::new());
        for address in config.listen.http {
            let failed = |source| StartError::Listen { address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            addresses.push(listener.local_addr().map_err(failed)?);
            let service = router(Arc::clone(&face)).into_make_service_with_connect_info::<SocketAddr>();
            let mut stopped = stopped.clone();
            serving.push(tokio::spawn(async move {
                let stop = async move { drop(stopped.changed().await) };
                if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(stop).await {
                    tracing::error!(%error, "the listener ended");
                }
            }));
        }
        let follower =
            Follower { store, upstream, identity, key, live: Arc::clone(&live), staleness, clock, rng };
        let sync = tokio::spawn(follower.run());
        Ok(Self { addresses, live, audit, stop, serving, sync })
    }

    /// What its parts share.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Ends it: answers what is under way, and writes what waits to be recorded.
    pub async fn shutdown(self) {
        self.sync.abort();
        let _ = self.stop.send(());
        for serving in self.serving {
            // A keep-alive connection must not hold the end up for ever.
            drop(tokio::time::timeout(std::time::Duration::from_secs(5), serving).await);
        }
        self.audit.close();
    }
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
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let body = Enrolment {
        token: token.trim(),
        name: config.node.name.as_deref().unwrap_or(host.trim()),
        key: key.public().jwk(),
        proof: sign(Typ::NodeAuth, &serde_json::to_vec(&proof).map_err(StartError::Answer)?, key),
    };
    let answer = upstream.post("/v1/enrol", serde_json::to_vec(&body).map_err(StartError::Answer)?).await?;
    serde_json::from_slice(&answer).map_err(StartError::Answer)
}
