//! Starts the listener for peers and the connections to the configured ones.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::dialogue::Dialogue;
use super::face::PeerFace;
use super::link::PeerLink;
use super::server::serve;
use crate::dataplane::code::Code;
use crate::dataplane::config::Peers;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::state::Live;
use crate::dataplane::replica::replication::Replication;
use crate::dataplane::revocations::Revocations;
use crate::dataplane::uplink::reconcile::Reconciler;
use crate::platform::clock::Clock;
use crate::platform::net::http_client;
use crate::platform::net::listener::{Connections, listen};
use crate::platform::net::share::Each;
use crate::platform::net::tls::{self, TlsError};

/// Time limit for connecting to a peer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time for which an unused connection to a peer is kept. The peer closes it after 15 seconds.
const POOL_IDLE: Duration = Duration::from_secs(10);

/// Reasons why the peer protocol cannot be started.
#[derive(Debug, Error)]
pub enum PeersError {
    /// The listener cannot bind its address.
    #[error("{address} can't be listened on for peers: {source}")]
    Listen {
        /// Address of the listener.
        address: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The certificate authorities cannot be read.
    #[error(transparent)]
    Authorities(#[from] TlsError),
}

/// Parts of the daemon whose state is passed on.
#[derive(Clone)]
pub struct Parts {
    /// Local revocations of the node.
    pub revocations: Arc<Revocations>,
    /// Replica of the node.
    pub replication: Arc<Replication>,
    /// State of the node.
    pub live: Arc<Live>,
    /// Signer of this node's proofs.
    pub prover: Arc<Prover>,
    /// Clock of the node.
    pub clock: Clock,
    /// Code of the deployments.
    pub code: Option<Arc<Code>>,
}

impl Parts {
    /// Returns the parts of a node that reconciles.
    #[must_use]
    pub fn from_reconciler(
        reconciler: &Reconciler,
        replication: &Arc<Replication>,
        code: Option<Arc<Code>>,
    ) -> Self {
        Self {
            revocations: Arc::clone(&reconciler.revocations),
            replication: Arc::clone(replication),
            live: Arc::clone(&reconciler.live),
            prover: Arc::clone(&reconciler.prover),
            clock: Arc::clone(&reconciler.clock),
            code,
        }
    }
}

/// Starts the listener and one connection for each configured peer, in tasks that run until they are dropped.
pub async fn start(
    config: &Peers,
    ca_file: Option<&Path>,
    parts: Parts,
    counted: &Connections,
    stopped: &watch::Receiver<()>,
) -> Result<Vec<JoinHandle<()>>, PeersError> {
    let Parts { revocations, replication, live, prover, clock, code } = parts;
    let mut tasks = Vec::new();
    let face = PeerFace::new(
        Arc::clone(&revocations),
        Arc::clone(&replication),
        Arc::clone(&live),
        Arc::clone(&prover),
        Arc::clone(&clock),
    );
    let face = Arc::new(face.with_code(code.clone()));
    for address in &config.listen {
        let failed = |source| PeersError::Listen { address: address.to_string(), source };
        let listener = listen(*address).map_err(failed)?;
        tracing::info!(%address, "listening to peers");
        let each = Each::other_hosts(config.connections_per_client.into());
        tasks.push(serve(listener, Arc::clone(&face), each, counted.clone(), stopped.clone()));
    }
    if config.urls.is_empty() {
        return Ok(tasks);
    }
    // No proxy: peers are in the same network, or they are of no use in an outage.
    let connector = http_client::over_tls(http_client::tcp(Some(PATIENCE)), tls::client(ca_file)?);
    let client = http_client::client(connector, Some(POOL_IDLE));
    for (phase, url) in (0..).zip(&config.urls) {
        let dialogue = Dialogue::new(
            Arc::clone(&revocations),
            Arc::clone(&replication),
            Arc::clone(&live),
            Arc::clone(&prover),
        )
        .with_code(code.clone());
        let interval = Duration::from_secs(config.interval_seconds);
        let link =
            PeerLink::new(url, client.clone(), dialogue, revocations.changes(), interval, Arc::clone(&clock));
        let link = link.with_code(code.as_ref(), &prover);
        tasks.push(tokio::spawn(link.run(phase * 37)));
    }
    Ok(tasks)
}
