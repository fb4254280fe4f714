//! Peers put together: who is listened to, and who is asked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::dialogue::Dialogue;
use super::face::PeerFace;
use super::link::PeerLink;
use super::server::serve;
use crate::dataplane::Clock;
use crate::dataplane::config::Peers;
use crate::dataplane::live::Live;
use crate::dataplane::proof::Prover;
use crate::dataplane::reconcile::Reconciler;
use crate::dataplane::replication::Replication;
use crate::dataplane::revocation::Revocations;
use crate::dataplane::upstream::{UpstreamError, client_tls};
use crate::net::listener::Connections;

/// How long connecting to a peer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why peers can't be listened to or asked.
#[derive(Debug, Error)]
pub enum PeersError {
    /// An address can't be listened on.
    #[error("{address} can't be listened on for peers: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate authorities.
    #[error(transparent)]
    Authorities(#[from] UpstreamError),
}

/// What is passed on.
#[derive(Clone)]
pub struct Parts {
    /// The local revocations.
    pub revocations: Arc<Revocations>,
    /// The replica.
    pub replication: Arc<Replication>,
    /// How the node stands.
    pub live: Arc<Live>,
    /// Who it is.
    pub prover: Arc<Prover>,
    /// The clock.
    pub clock: Clock,
}

impl Parts {
    /// What a node that reconciles passes on.
    #[must_use]
    pub fn of(reconciler: &Reconciler, replication: &Arc<Replication>) -> Self {
        Self {
            revocations: Arc::clone(&reconciler.revocations),
            replication: Arc::clone(replication),
            live: Arc::clone(&reconciler.live),
            prover: Arc::clone(&reconciler.prover),
            clock: Arc::clone(&reconciler.clock),
        }
    }
}

/// Listens to peers, and asks those that are configured, in tasks that run until they are dropped.
pub async fn start(
    config: &Peers,
    ca_file: Option<&Path>,
    parts: Parts,
    counted: &Connections,
    stopped: &watch::Receiver<()>,
) -> Result<Vec<JoinHandle<()>>, PeersError> {
    let Parts { revocations, replication, live, prover, clock } = parts;
    let mut tasks = Vec::new();
    let face = Arc::new(PeerFace::new(
        Arc::clone(&revocations),
        Arc::clone(&replication),
        Arc::clone(&live),
        Arc::clone(&prover),
        Arc::clone(&clock),
    ));
    for address in &config.listen {
        let failed = |source| PeersError::Listen { address: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        tracing::info!(%address, "listening to peers");
        tasks.push(serve(listener, Arc::clone(&face), counted.clone(), stopped.clone()));
    }
    if config.urls.is_empty() {
        return Ok(tasks);
    }
    // No proxy: peers are near, or they are of no use in an outage.
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(PATIENCE));
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(client_tls(ca_file)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    for (phase, url) in (0..).zip(&config.urls) {
        let dialogue = Dialogue::new(
            Arc::clone(&revocations),
            Arc::clone(&replication),
            Arc::clone(&live),
            Arc::clone(&prover),
        );
        let interval = Duration::from_secs(config.interval_seconds);
        let link =
            PeerLink::new(url, client.clone(), dialogue, revocations.changes(), interval, Arc::clone(&clock));
        tasks.push(tokio::spawn(link.run(phase * 37)));
    }
    Ok(tasks)
}
