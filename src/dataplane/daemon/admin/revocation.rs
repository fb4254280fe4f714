//! Handlers that revoke tokens on this host and list the local revocations.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Administration, Peer, not_done, off_reactor, problem};
use crate::api::host::revocation::{Held, Revoke, Revoked};
use crate::dataplane::daemon::operator_revocation::{RevokeError, RevokedToken, revoke_token};
use crate::dataplane::revocations::Order;
use crate::protocol::id::TokenId;

pub(super) async fn revoke(
    State(administration): State<Arc<Administration>>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    body: Bytes,
) -> Result<Json<Revoked>, Response> {
    let invalid = |detail: String| problem(StatusCode::BAD_REQUEST, "invalid", &detail);
    let request: Revoke = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the request is not understood: {error}")))?;
    let token = TokenId::new(&request.token_id).map_err(|error| invalid(format!("tokenId: {error}")))?;
    let live = administration.replication.live();
    let known = live.snapshot().knows(&token);
    let order = Order { token, reason: request.reason, operator: operator.to_string() };
    let log = (&*administration.audit, &administration.identity.node_id, &administration.clock);
    let revoked = revoke_token(&administration.revocations, order, live, log).await;
    let RevokedToken { held, new, event } = revoked.map_err(|error| match error {
        RevokeError::Refused(error) => not_done(&error),
        RevokeError::Ended(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "failed", &error.to_string()),
    })?;
    Ok(Json(Revoked { held, new, known, event }))
}

pub(super) async fn list(
    State(administration): State<Arc<Administration>>,
) -> Result<Json<Vec<Held>>, Response> {
    let revocations = Arc::clone(&administration.revocations);
    off_reactor(move || revocations.list()).await.map(Json)
}
