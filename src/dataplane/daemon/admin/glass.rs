//! Handlers by which operators of this host break and seal glass.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Administration, Peer, off_reactor, problem};
use crate::api::host::glass::{Break, Changed, Pane};
use crate::dataplane::decide::glass::Broken;
use crate::dataplane::glass::GlassError;
use crate::protocol::event::{Draft, EventKind};
use crate::protocol::id::DeploymentId;

pub(super) async fn list(State(administration): State<Arc<Administration>>) -> Json<Vec<Pane>> {
    let live = administration.replication.live();
    Json(live.snapshot().panes(live.now((administration.clock)()).effective()))
}

/// Breaks glass. The event is recorded first: if the log cannot take it, the glass stays whole.
pub(super) async fn shatter(
    State(administration): State<Arc<Administration>>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Path(deployment): Path<String>,
    body: Bytes,
) -> Result<Json<Changed>, Response> {
    let Break { reason, seconds } = serde_json::from_slice(&body).map_err(|error| {
        problem(StatusCode::BAD_REQUEST, "invalid", &format!("the request is not understood: {error}"))
    })?;
    let live = administration.replication.live();
    let (wall, glass) = ((administration.clock)(), Arc::clone(&administration.glass_task.glass));
    let now = live.now(wall);
    let deployment = glass.check(&deployment, &reason, seconds, now).map_err(|error| refused(&error))?;
    let broken = Broken {
        operator: operator.to_string(),
        reason,
        broken_at: now.effective(),
        until: now.effective().plus(seconds),
    };
    let id = administration.audit.next_id();
    let draft = Draft {
        deployment: Some(&deployment),
        glass: Some("broken"),
        operator: Some(&broken.operator),
        because: Some(&broken.reason),
        until: Some(broken.until),
        ..Draft::new(EventKind::GlassBroken, &id, wall, &administration.identity.node_id, live.connectivity())
    };
    if administration.audit.record_durably(&draft).await.is_err() {
        let detail = "the audit log can't take the event; the glass was not broken";
        return Err(problem(StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable", detail));
    }
    let (id, kept) = (deployment.clone(), broken.clone());
    off_reactor(move || glass.shatter(&id, &kept)).await?;
    tracing::warn!(%deployment, operator = broken.operator, reason = broken.reason, until = %broken.until, "the glass was broken");
    Ok(Json(Changed { deployment_id: deployment, breaking: broken.into() }))
}

/// Seals glass. Access ends before the event is recorded, so that a full log cannot delay it.
pub(super) async fn seal(
    State(administration): State<Arc<Administration>>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Path(deployment): Path<String>,
) -> Result<Json<Changed>, Response> {
    let deployment =
        DeploymentId::new(&deployment).map_err(|_| refused(&GlassError::Unknown(deployment.clone())))?;
    let (glass, id) = (Arc::clone(&administration.glass_task.glass), deployment.clone());
    let sealing = tokio::task::spawn_blocking(move || glass.seal(&id, &operator.to_string())).await;
    let failed = |detail: String| problem(StatusCode::INTERNAL_SERVER_ERROR, "failed", &detail);
    let broken = sealing.map_err(|ended| failed(ended.to_string()))?.map_err(|error| refused(&error))?;
    administration.glass_task.settle(0).await;
    Ok(Json(Changed { deployment_id: deployment, breaking: broken.into() }))
}

fn refused(error: &GlassError) -> Response {
    let (status, code) = match error {
        GlassError::Database(_) | GlassError::Unfit(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        GlassError::Unknown(_) => (StatusCode::NOT_FOUND, "not_found"),
        GlassError::Always(_) => (StatusCode::CONFLICT, "glass_always"),
        GlassError::Whole(_) => (StatusCode::CONFLICT, "glass_whole"),
        GlassError::Duration(_) | GlassError::Reason(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
        GlassError::Clock => (StatusCode::CONFLICT, "clock_untrusted"),
    };
    problem(status, code, &error.to_string())
}
