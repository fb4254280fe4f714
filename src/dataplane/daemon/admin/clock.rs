//! Handler by which an administrator of this host accepts the clock.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Administration, Peer, not_done, problem};
use crate::api::host::clock::{Accept, Accepted};
use crate::dataplane::daemon::clock_acceptance::{ClockError, accept_clock};

/// Accepts the clock, provided that the event can be written to the audit log.
pub(super) async fn accept(
    State(administration): State<Arc<Administration>>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    body: Bytes,
) -> Result<Json<Accepted>, Response> {
    let Accept { reason } = serde_json::from_slice(&body).map_err(|error| {
        problem(StatusCode::BAD_REQUEST, "invalid", &format!("the request is not understood: {error}"))
    })?;
    let time = (administration.clock)();
    let log = (&*administration.audit, &administration.identity.node_id);
    let order = (&*operator.to_string(), &*reason);
    let accepted = accept_clock(&administration.replication, log, order, time).await;
    let accepted = accepted.map_err(|error| not_accepted(&error))?;
    let (ahead_seconds, stay_expired) = (accepted.ahead, accepted.stay_expired);
    Ok(Json(Accepted { time, ahead_seconds, stay_expired, event: accepted.event }))
}

pub(super) fn not_accepted(error: &ClockError) -> Response {
    let (status, code) = match error {
        ClockError::Reason(_) => (StatusCode::BAD_REQUEST, "invalid"),
        ClockError::Trusted(_) => (StatusCode::CONFLICT, "clock_trusted"),
        ClockError::Unrecorded(_) => (StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable"),
        ClockError::NotStored(_) => return not_done(error),
        ClockError::Ended(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
    };
    problem(status, code, &error.to_string())
}
