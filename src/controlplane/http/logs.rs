//! Handler of deployments' logs.

use axum::extract::{Path, State};
use axum::response::Response;

use super::query::Query;
use super::{Control, answer};
use crate::api::logs::{LogFilter, LogPage};
use crate::controlplane::access::authorization::Actor;

/// Shows the log of a deployment: the requests that its hosts decided, as far as they have reported them.
#[utoipa::path(get, path = "/deployments/{id}/logs", params(LogFilter), responses((status = 200, body = LogPage)))]
pub(super) async fn deployment_logs(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Query(filter): Query<LogFilter>,
) -> Response {
    answer(&control, move |c| c.deployment_logs(&actor, &organization, &id, &filter)).await
}
