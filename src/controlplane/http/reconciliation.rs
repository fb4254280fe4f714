//! Calls of nodes that reconcile: revocations, the statement of an outage, events. And the reports that come of them.

use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use super::caller::bearer;
use super::problem::problem;
use super::{Control, answer, off_reactor};
use crate::controlplane::ControlPlane;
use crate::controlplane::authorization::Actor;
use crate::controlplane::error::Error;
use crate::controlplane::outages::Outage;
use crate::protocol::event::split_lines;
use crate::protocol::json::object;
use crate::protocol::outage::Report;
use crate::protocol::reconciliation::{MAX_BYTES, MAX_LINES, OutageStatement, Position, RevocationAnswer};

/// What a node sent, once it has proved who it is.
struct Sent {
    node: String,
    body: String,
}

/// Who sends is proved before anything is read.
async fn sent(control: &Arc<ControlPlane>, data_plane: &str, request: Request) -> Result<Sent, Response> {
    let (parts, body) = request.into_parts();
    let authenticated = async {
        let (bearer, plane) = (bearer(&parts.headers)?, data_plane.to_owned());
        off_reactor(control, move |control| control.authenticate_node(&bearer, &plane)).await
    };
    let node = authenticated.await.map_err(Error::into_response)?;
    let bytes = axum::body::to_bytes(body, MAX_BYTES)
        .await
        .map_err(|_| problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "send fewer lines at once"))?;
    let body = String::from_utf8(bytes.into())
        .map_err(|_| problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the body is not UTF-8"))?;
    if split_lines(&body).count() > MAX_LINES {
        return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "send fewer lines at once"));
    }
    Ok(Sent { node, body })
}

async fn taken<T: Serialize + Send + 'static>(
    control: &Arc<ControlPlane>,
    data_plane: String,
    request: Request,
    take: impl FnOnce(&ControlPlane, &str, &Sent) -> Result<T, Error> + Send + 'static,
) -> Response {
    match sent(control, &data_plane, request).await {
        Ok(sent) => answer(control, StatusCode::OK, move |c| take(c, &data_plane, &sent)).await,
        Err(problem) => problem,
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Oldest {
    /// The first event the node still has.
    #[serde(default)]
    oldest: u64,
}

/// Takes events of a node's audit log, one a line, and says where the log stands. An event that is sent twice counts once.
#[utoipa::path(post, path = "/v1/data-planes/{id}/events", params(Oldest),
    request_body(content = String, content_type = "application/x-ndjson"), responses((status = 200, body = Position)))]
pub(super) async fn events(
    State(control): Control,
    Path(id): Path<String>,
    Query(Oldest { oldest }): Query<Oldest>,
    request: Request,
) -> Response {
    taken(&control, id, request, move |c, plane, sent| {
        c.take_events(plane, &sent.node, oldest, split_lines(&sent.body))
    })
    .await
}

/// Takes revocations made on hosts, one `local-revocation+jwt` a line, and says what became of each. One that can't be
/// proved gets no answer.
#[utoipa::path(post, path = "/v1/data-planes/{id}/revocations",
    request_body(content = String, content_type = "application/x-ndjson"),
    responses((status = 200, body = Vec<RevocationAnswer>)))]
pub(super) async fn revocations(
    State(control): Control,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    taken(&control, id, request, |c, plane, sent| {
        c.take_revocations(plane, &sent.node, split_lines(&sent.body))
    })
    .await
}

/// Takes a node's statement of an outage that is over.
#[utoipa::path(post, path = "/v1/data-planes/{id}/outages", request_body = OutageStatement, responses((status = 200)))]
pub(super) async fn outage(State(control): Control, Path(id): Path<String>, request: Request) -> Response {
    taken(&control, id, request, |c, plane, sent| {
        let statement: OutageStatement = object(sent.body.as_bytes())
            .map_err(|error| Error::invalid("body", format!("is no statement of an outage: {error}")))?;
        c.take_outage(plane, &sent.node, statement)
    })
    .await
}

/// Lists the outages of nodes, newest first.
#[utoipa::path(get, path = "/outages", responses((status = 200, body = Vec<Outage>)))]
pub(super) async fn list_outages(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_outages(&actor, &organization)).await
}

/// Shows the report of an outage.
#[utoipa::path(get, path = "/outages/{id}", responses((status = 200, body = Report)))]
pub(super) async fn show_outage(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.show_outage(&actor, &organization, &id)).await
}
