//! Errors of the daemon's start.

use std::path::PathBuf;

use thiserror::Error;

use super::loss::LossError;
use crate::dataplane::audit::AuditError;
use crate::dataplane::decide::routes::MapsError;
use crate::dataplane::faces::gateway::GatewayError;
use crate::dataplane::glass::GlassError;
use crate::dataplane::node::identity::IdentityError;
use crate::dataplane::observe::traces::TracesError;
use crate::dataplane::peers::PeersError;
use crate::dataplane::replica::store::StoreError;
use crate::dataplane::uplink::client::UpstreamError;
use crate::dataplane::uplink::outage::OutageError;
use crate::platform::configuration::ConfigError;
use crate::platform::state_directory::StateError;

/// Reasons why the daemon cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A lost database cannot be moved aside.
    #[error("{path} can't be moved out of the way: {source}")]
    State {
        /// Path of the database.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// The disk of a database takes or gives no data.
    #[error(
        "the database {path} can't be read or written: {source}; make room on its disk, or make the disk writable, then start the \
         daemon again"
    )]
    Disk {
        /// Path of the database.
        path: PathBuf,
        /// Error of SQLite.
        source: rusqlite::Error,
    },
    /// The state directory is accessible to others, or another daemon uses it.
    #[error(transparent)]
    Directory(#[from] StateError),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key, the roots or the identity cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The route maps are invalid.
    #[error(transparent)]
    Routes(#[from] MapsError),
    /// The replica cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The client of the control plane cannot be created.
    #[error(transparent)]
    Upstream(UpstreamError),
    /// The broken glass cannot be opened.
    #[error(transparent)]
    Glass(#[from] GlassError),
    /// The local revocations or the outages cannot be opened.
    #[error(transparent)]
    Recovery(#[from] OutageError),
    /// An accepted loss cannot be processed.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// The peer protocol cannot be started.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The control plane rejected the enrolment, or cannot be reached.
    #[error("this node is not enrolled, and can't be: {0}")]
    Enrol(#[from] UpstreamError),
    /// The enrolment token is missing.
    #[error(
        "this node is not enrolled; give it an enrolment token, as the credential halligan.enrolment-token or in a file \
         named as control_plane.enrolment_token_file"
    )]
    NotEnrolled,
    /// The answer to the enrolment cannot be parsed.
    #[error("the control plane's enrolment answer is not understood: {0}")]
    Answer(serde_json::Error),
    /// The configuration names addresses for Envoy, and this build has no gRPC.
    #[error("listen.grpc is configured, but this halligand was built without gRPC (the cargo feature grpc)")]
    NoGrpc,
    /// The gateway cannot be started.
    #[error("the gateway can't start: {0}")]
    Gateway(#[from] GatewayError),
    /// The export of spans cannot be started.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// A listener cannot bind its address.
    #[error("{address} can't be listened on: {source}")]
    Listen {
        /// Address of the listener.
        address: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The configuration names no address, and no socket was passed.
    #[error("there is nowhere to listen; name an address in listen.http, or start halligand.socket")]
    Nowhere,
}
