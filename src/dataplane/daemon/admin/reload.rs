//! Reloads the configuration through the admin socket: the handler, and the client that calls it.

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;

use super::{Administration, off_reactor};
use crate::api::host::reload::Reloaded;
use crate::api::problem::Explanation;

/// Maximum size of an answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;

pub(super) async fn reload(
    State(administration): State<Arc<Administration>>,
) -> Result<Json<Reloaded>, Response> {
    let reload = Arc::clone(&administration.reload);
    off_reactor(move || reload.run()).await.map(Json)
}

/// Reasons why a running daemon did not reload its configuration.
#[derive(Debug, Error)]
pub enum AskError {
    /// The daemon does not answer.
    #[error("the daemon at {socket} does not answer: {why}")]
    Silent {
        /// Path of its socket.
        socket: String,
        /// Description of the error.
        why: String,
    },
    /// The daemon rejected the configuration.
    #[error("the daemon refused: {0}")]
    Refused(String),
}

/// Asks the daemon at a socket to reload its configuration.
pub async fn ask_for_reload(socket: &Path) -> Result<Reloaded, AskError> {
    let silent = |why: String| AskError::Silent { socket: socket.display().to_string(), why };
    let stream = UnixStream::connect(socket).await.map_err(|error| silent(error.to_string()))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| silent(error.to_string()))?;
    tokio::spawn(connection);
    let request = hyper::Request::post("/v1/reload").header(hyper::header::HOST, "daemon");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| silent(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|error| silent(error.to_string()))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| silent(error.to_string()))?.to_bytes();
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|error| silent(error.to_string()));
    }
    Err(AskError::Refused(Explanation::read(&body).detail.unwrap_or_else(|| status.to_string())))
}
