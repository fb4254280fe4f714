//! Handlers that revoke tokens on this host and list the local revocations.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Administration, Peer, off_reactor, problem};
use crate::api::host::revocation::{Held, Revoke, Revoked};
use crate::dataplane::revocations::Order;
use crate::protocol::event::{Draft, EventKind};
use crate::protocol::id::TokenId;

pub(super) async fn revoke(
    State(administration): State<Arc<Administration>>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    body: Bytes,
) -> Result<Json<Revoked>, Response> {
    let invalid = |detail: String| problem(StatusCode::BAD_REQUEST, "invalid", &detail);
    let asked: Revoke = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the request is not understood: {error}")))?;
    let token = TokenId::new(&asked.token_id).map_err(|error| invalid(format!("tokenId: {error}")))?;
    let (live, now) = (administration.replication.live(), (administration.clock)());
    let known = live.snapshot().knows(&token);
    let order = Order { token: token.clone(), reason: asked.reason, operator: operator.to_string() };
    let (revocations, reason) = (Arc::clone(&administration.revocations), order.reason.clone());
    let (held, new) = off_reactor(move || revocations.revoke(&order, now)).await?;
    let event =
        if new { record(&administration, &token, &operator.to_string(), &reason).await } else { None };
    Ok(Json(Revoked { held, new, known, event }))
}

/// Records a revocation in the log. The revocation stays in force if the log cannot take the event: its signed claims name
/// the operator, the time and the reason.
async fn record(
    administration: &Administration,
    token: &TokenId,
    operator: &str,
    reason: &str,
) -> Option<String> {
    let (id, now) = (administration.audit.next_id(), (administration.clock)());
    let connectivity = administration.replication.live().connectivity();
    let draft = Draft {
        token: Some(token),
        operator: Some(operator),
        because: Some(reason),
        ..Draft::new(EventKind::Revocation, &id, now, &administration.identity.node_id, connectivity)
    };
    let written = administration.audit.record(&draft, true).ok()??;
    written.await.is_ok().then(|| id.to_string())
}

pub(super) async fn list(
    State(administration): State<Arc<Administration>>,
) -> Result<Json<Vec<Held>>, Response> {
    let revocations = Arc::clone(&administration.revocations);
    off_reactor(move || revocations.list()).await.map(Json)
}
