//! Handlers by which operators of this host break and seal glass.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Administration, Peer, not_done, problem};
use crate::api::host::glass::{Break, Changed, Pane};
use crate::dataplane::glass::{BreakOrder, GlassError, OrderError};
use crate::protocol::id::DeploymentId;

pub(super) async fn list(State(administration): State<Arc<Administration>>) -> Json<Vec<Pane>> {
    let live = administration.replication.live();
    Json(live.snapshot().panes(live.now((administration.clock)()).effective()))
}

/// Breaks glass, provided that the event can be written to the audit log.
pub(super) async fn break_glass(
    State(administration): State<Arc<Administration>>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Path(deployment): Path<String>,
    body: Bytes,
) -> Result<Json<Changed>, Response> {
    let Break { reason, seconds } = serde_json::from_slice(&body).map_err(|error| {
        problem(StatusCode::BAD_REQUEST, "invalid", &format!("the request is not understood: {error}"))
    })?;
    let order = BreakOrder { deployment, operator: operator.to_string(), reason, seconds };
    let breaking = administration.glass_task.break_glass(order).await;
    let (deployment_id, broken) = breaking.map_err(|error| not_changed(&error))?;
    Ok(Json(Changed { deployment_id, breaking: broken.into() }))
}

/// Seals glass.
pub(super) async fn seal(
    State(administration): State<Arc<Administration>>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Path(deployment): Path<String>,
) -> Result<Json<Changed>, Response> {
    let deployment_id =
        DeploymentId::new(&deployment).map_err(|_| refused(&GlassError::Unknown(deployment.clone())))?;
    let sealing = administration.glass_task.seal(&deployment_id, operator.to_string()).await;
    let broken = sealing.map_err(|error| not_changed(&error))?;
    Ok(Json(Changed { deployment_id, breaking: broken.into() }))
}

pub(super) fn not_changed(error: &OrderError) -> Response {
    let (status, code) = match error {
        OrderError::Refused(error) => return refused(error),
        OrderError::Unrecorded(_) => (StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable"),
        OrderError::NotStored(_) => return not_done(error),
        OrderError::Ended(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
    };
    problem(status, code, &error.to_string())
}

fn refused(error: &GlassError) -> Response {
    let (status, code) = match error {
        GlassError::Database(_) | GlassError::Unfit(_) => return not_done(error),
        GlassError::Unknown(_) => (StatusCode::NOT_FOUND, "not_found"),
        GlassError::Always(_) => (StatusCode::CONFLICT, "glass_always"),
        GlassError::NotBroken(_) => (StatusCode::CONFLICT, "glass_whole"),
        GlassError::Duration(_) | GlassError::Reason(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
        GlassError::Clock => (StatusCode::CONFLICT, "clock_untrusted"),
    };
    problem(status, code, &error.to_string())
}
