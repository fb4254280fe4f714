//! Why a daemon does not start.

use std::path::PathBuf;

use thiserror::Error;

use super::loss::LossError;
use crate::configuration::ConfigError;
use crate::dataplane::audit::AuditError;
use crate::dataplane::gateway::GatewayError;
use crate::dataplane::glass::GlassError;
use crate::dataplane::identity::IdentityError;
use crate::dataplane::outage::OutageError;
use crate::dataplane::peers::PeersError;
use crate::dataplane::routes::MapsError;
use crate::dataplane::store::StoreError;
use crate::dataplane::traces::TracesError;
use crate::dataplane::upstream::UpstreamError;
use crate::state_directory::StateError;

/// Why the daemon can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A database that is lost can't be moved out of the way.
    #[error("{path} can't be moved out of the way: {source}")]
    State {
        /// The database.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The state directory is not this daemon's alone.
    #[error(transparent)]
    Directory(#[from] StateError),
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
    /// A loss that was accepted.
    #[error(transparent)]
    Loss(#[from] LossError),
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
    /// The traces.
    #[error(transparent)]
    Traces(#[from] TracesError),
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
