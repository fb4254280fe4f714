//! Handlers that read and verify the audit log.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::{Administration, off_reactor};
use crate::api::host::audit::{LogFault, Verified};
use crate::dataplane::audit::{Report, events, verify as verify_log};

#[derive(Deserialize)]
pub(super) struct Window {
    #[serde(default)]
    after: i64,
    #[serde(default = "plenty")]
    limit: usize,
}

fn plenty() -> usize {
    1000
}

pub(super) async fn tail(
    State(administration): State<Arc<Administration>>,
    Query(window): Query<Window>,
) -> Result<Response, Response> {
    let path = administration.audit_path.clone();
    let lines = off_reactor(move || events(&path, window.after, window.limit)).await?;
    let body = lines.into_iter().map(|line| line + "\n").collect::<String>();
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

pub(super) async fn verify(
    State(administration): State<Arc<Administration>>,
) -> Result<Json<Verified>, Response> {
    let (path, key) = (administration.audit_path.clone(), administration.key.clone());
    let node = administration.identity.node_id.clone();
    let report = off_reactor(move || verify_log(&path, &node, &key)).await?;
    let damage = administration.replication.live().damage().into_iter().map(|damage| damage.full).collect();
    let Report { dropped, events, last, checkpoints, covered, fault } = report;
    let fault = fault.map(|fault| LogFault { sequence: fault.sequence, what: fault.what });
    Ok(Json(Verified { dropped, events, last, checkpoints, covered, fault, damage }))
}
