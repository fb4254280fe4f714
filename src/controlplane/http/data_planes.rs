//! Handlers of data planes, of the nodes in them, and of the tokens with which hosts enrol.

use axum::extract::{Path, State};
use axum::response::Response;

use super::query::Query;
use super::{Body, Control, answer, answer_created, answer_no_content};
use crate::api::data_plane::{DataPlane, DataPlanePage, EnrolmentToken, NewDataPlane, NewEnrolmentToken};
use crate::api::node::{Enrolled, NewNode, NodePage};
use crate::api::page::Page;
use crate::controlplane::access::authorization::Actor;

/// Lists data planes.
#[utoipa::path(get, path = "/data-planes", params(Page), responses((status = 200, body = DataPlanePage)))]
pub(super) async fn list_data_planes(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_data_planes(&actor, &organization, page)).await
}

/// Creates a data plane.
#[utoipa::path(post, path = "/data-planes", request_body = NewDataPlane, responses((status = 200, body = DataPlane)))]
pub(super) async fn create_data_plane(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewDataPlane>,
) -> Response {
    answer_created(&control, move |c| c.create_data_plane(&actor, &organization, &new.name)).await
}

/// Shows a data plane, with the version and size of its replica.
#[utoipa::path(get, path = "/data-planes/{id}", responses((status = 200, body = DataPlane)))]
pub(super) async fn show_data_plane(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, move |c| c.show_data_plane(&actor, &organization, &id)).await
}

/// Lists the nodes of a data plane, including retired ones.
#[utoipa::path(get, path = "/data-planes/{id}/nodes", params(Page), responses((status = 200, body = NodePage)))]
pub(super) async fn list_nodes(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_nodes(&actor, &organization, &id, page)).await
}

/// Creates a node for a host that never reaches the control plane. The answer is its identity, to be carried there.
#[utoipa::path(post, path = "/data-planes/{id}/nodes", request_body = NewNode, responses((status = 200, body = Enrolled)))]
pub(super) async fn create_node(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(new): Body<NewNode>,
) -> Response {
    answer_created(&control, move |c| c.create_node(&actor, &organization, &id, &new)).await
}

/// Retires a node: it receives nothing more, and its signatures no longer count.
#[utoipa::path(delete, path = "/data-planes/{id}/nodes/{node}", responses((status = 204)))]
pub(super) async fn retire_node(
    State(control): Control,
    actor: Actor,
    Path((organization, id, node)): Path<(String, String, String)>,
) -> Response {
    answer_no_content(&control, move |c| c.retire_node(&actor, &organization, &id, &node)).await
}

/// Creates a token with which one host can enrol, once. The answer shows it once.
#[utoipa::path(post, path = "/data-planes/{id}/enrolment-tokens", request_body = NewEnrolmentToken, responses((status = 200, body = EnrolmentToken)))]
pub(super) async fn create_enrolment_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(new): Body<NewEnrolmentToken>,
) -> Response {
    let seconds = new.expires_in_seconds;
    answer_created(&control, move |c| c.create_enrolment_token(&actor, &organization, &id, seconds)).await
}
