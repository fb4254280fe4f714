//! Handlers of dual control: its setting, and requests that wait for a second owner.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::query::Query;
use super::{Body, Control, answer, off_reactor, tokens, written};
use crate::api::dual_control::{DualControl, Rejection, Request, RequestFilter, RequestPage};
use crate::api::page::Page;
use crate::api::token::Token;
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::tokens::dual_control::Changed;

/// Shows the setting of dual control: whether a direct-access token needs two owners.
#[utoipa::path(get, path = "/dual-control", responses((status = 200, body = DualControl)))]
pub(super) async fn show_dual_control(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, move |c| c.show_dual_control(&actor, &organization)).await
}

/// Enables or disables dual control. To disable it, another owner has to approve.
#[utoipa::path(post, path = "/dual-control", request_body = DualControl,
    responses((status = 200, body = DualControl), (status = 202, body = Request, description = "another owner has to approve it")))]
pub(super) async fn set_dual_control(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(wanted): Body<DualControl>,
) -> Response {
    match off_reactor(&control, move |c| c.set_dual_control(&actor, &organization, wanted)).await {
        Ok(Changed::Now(setting)) => written(StatusCode::OK, &setting),
        Ok(Changed::Requested(request)) => written(StatusCode::ACCEPTED, &request),
        Err(error) => error.into_response(),
    }
}

/// Lists requests for approval by a second owner, newest first.
#[utoipa::path(get, path = "/token-requests", params(RequestFilter, Page), responses((status = 200, body = RequestPage)))]
pub(super) async fn list_requests(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(filter): Query<RequestFilter>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_requests(&actor, &organization, filter, page)).await
}

/// Shows a request for approval by a second owner.
#[utoipa::path(get, path = "/token-requests/{id}", responses((status = 200, body = Request)))]
pub(super) async fn show_request(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, move |c| c.show_request(&actor, &organization, &id)).await
}

/// Approves another owner's request.
#[utoipa::path(post, path = "/token-requests/{id}/approve", responses((status = 200, body = Request)))]
pub(super) async fn approve_request(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, move |c| c.decide_request(&actor, &organization, &id, true, None)).await
}

/// Rejects a request.
#[utoipa::path(post, path = "/token-requests/{id}/reject", request_body = Rejection, responses((status = 200, body = Request)))]
pub(super) async fn reject_request(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(rejection): Body<Rejection>,
) -> Response {
    answer(&control, move |c| {
        c.decide_request(&actor, &organization, &id, false, rejection.reason.as_deref())
    })
    .await
}

/// Creates or rotates the token of an approved request. The answer shows its value once, to the requester.
#[utoipa::path(post, path = "/token-requests/{id}/collect", responses((status = 200, body = Token)))]
pub(super) async fn collect_request(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    tokens::new(&control, move |c| c.collect_request(&actor, &organization, &id)).await
}
