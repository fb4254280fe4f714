//! Handlers that list the sessions of browsers on this host and end one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Administration, Peer, problem};
use crate::api::host::session::{EndedSession, SeenSession};
use crate::dataplane::authorize::sessions::{Ender, Sessions};
use crate::protocol::id::SessionId;

pub(super) async fn list(
    State(administration): State<Arc<Administration>>,
) -> Result<Json<Vec<SeenSession>>, Response> {
    let now = administration.authorizer.live.now((administration.clock)());
    Ok(Json(sessions(&administration)?.list(now.effective())))
}

pub(super) async fn end(
    State(administration): State<Arc<Administration>>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Path(id): Path<String>,
) -> Result<Json<EndedSession>, Response> {
    let sessions = sessions(&administration)?;
    let id = SessionId::new(&id)
        .map_err(|error| problem(StatusCode::BAD_REQUEST, "invalid", &error.to_string()))?;
    let operator = operator.to_string();
    let (session, ender) = (sessions.seen(&id), Ender::Operator(&operator));
    let ending = administration.authorizer.end_session(sessions, &id, session.as_ref(), ender).await;
    tracing::warn!(session = %id, operator, "an operator ended a browser's session");
    let event = ending.event.map(|event| event.to_string());
    Ok(Json(EndedSession { id, session, written: ending.written, event }))
}

#[expect(clippy::result_large_err, reason = "a handler returns it as it is")]
fn sessions(administration: &Administration) -> Result<&Arc<Sessions>, Response> {
    administration.authorizer.sessions.as_ref().ok_or_else(|| {
        let detail = "this host has no sessions, because its configuration has no [sessions]; add it to let browsers sign in";
        problem(StatusCode::CONFLICT, "no_sessions", detail)
    })
}
