//! Handlers of Dag tags.

use axum::extract::{Path, State};
use axum::response::Response;

use super::{Body, Control, answer};
use crate::api::deployment::{DagTags, NewDagTags};
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::accounts::dag_tags::MAX_BYTES;

/// Shows the tags of a deployment's Dags.
#[utoipa::path(get, path = "/deployments/{id}/dag-tags", responses((status = 200, body = DagTags)))]
pub(super) async fn show_dag_tags(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, move |c| c.show_dag_tags(&actor, &organization, &id)).await
}

/// Publishes the tags of all Dags of a deployment, in place of the earlier ones.
#[utoipa::path(put, path = "/deployments/{id}/dag-tags", request_body = NewDagTags, responses((status = 200, body = DagTags)))]
pub(super) async fn publish_dag_tags(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(new): Body<NewDagTags, MAX_BYTES>,
) -> Response {
    answer(&control, move |c| c.publish_dag_tags(&actor, &organization, &id, new)).await
}
