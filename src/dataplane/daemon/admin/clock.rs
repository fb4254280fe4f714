//! Handler by which an administrator of this host accepts the clock.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Administration, Peer, off_reactor, problem};
use crate::api::host::clock::{Accept, Accepted};
use crate::dataplane::node::alarm::AlarmKind;
use crate::protocol::event::{Draft, EventKind};
use crate::protocol::revocation::check_reason;

/// Accepts the clock. The event is recorded first: if the log cannot take it, the clock is not accepted.
pub(super) async fn accept(
    State(administration): State<Arc<Administration>>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    body: Bytes,
) -> Result<Json<Accepted>, Response> {
    let invalid = |detail: String| problem(StatusCode::BAD_REQUEST, "invalid", &detail);
    let Accept { reason } = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the request is not understood: {error}")))?;
    check_reason(&reason).map_err(|error| invalid(error.to_string()))?;
    let (live, wall) = (administration.replication.live(), (administration.clock)());
    let now = live.now(wall);
    if now.trusted() {
        let detail = format!("the clock is trusted: it shows {wall}, and there is nothing to accept");
        return Err(problem(StatusCode::CONFLICT, "clock_trusted", &detail));
    }
    let (id, operator) = (administration.audit.next_id(), operator.to_string());
    let draft = Draft {
        operator: Some(&operator),
        because: Some(&reason),
        ..Draft::new(
            EventKind::ClockAccepted,
            &id,
            wall,
            &administration.identity.node_id,
            live.connectivity(),
        )
    };
    if administration.audit.record_durably(&draft).await.is_err() {
        let detail = "the audit log can't take the event; the clock was not accepted";
        return Err(problem(StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable", detail));
    }
    let replication = Arc::clone(&administration.replication);
    let (ahead_seconds, stay_expired) = off_reactor(move || replication.accept_clock(wall)).await?;
    let what = format!(
        "{operator} accepted the clock at {wall}, {ahead_seconds} s behind the time this node had taken for proved: {reason}"
    );
    live.alarms.raise(AlarmKind::Clock, &what, wall);
    Ok(Json(Accepted { time: wall, ahead_seconds, stay_expired, event: id.to_string() }))
}
