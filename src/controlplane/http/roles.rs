//! Calls about roles and what they can allow.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::{Body, Control, answer, done};
use crate::controlplane::authorization::Actor;
use crate::controlplane::roles::{NewRole, RoleUpdate};
use crate::protocol::role::RoleScope;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RoleQuery {
    scope_type: Option<RoleScope>,
    #[serde(default)]
    offset: u64,
    #[serde(default = "hundred")]
    limit: u64,
}

fn hundred() -> u64 {
    100
}

pub(super) async fn list_roles(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(query): Query<RoleQuery>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| {
        c.list_roles(&actor, &organization, query.scope_type, query.offset, query.limit)
    })
    .await
}

pub(super) async fn create_role(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewRole>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| c.create_role(&actor, &organization, new)).await
}

pub(super) async fn show_role(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.show_role(&actor, &organization, &id)).await
}

pub(super) async fn update_role(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(update): Body<RoleUpdate>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.update_role(&actor, &organization, &id, update)).await
}

pub(super) async fn delete_role(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    done(&control, move |c| c.delete_role(&actor, &organization, &id)).await
}

pub(super) async fn list_role_versions(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_role_versions(&actor, &organization, &id)).await
}

pub(super) async fn role_templates(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.role_templates(&actor, &organization)).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupQuery {
    scope_type: Option<RoleScope>,
}

pub(super) async fn permission_groups(
    State(control): Control,
    _: Actor,
    Query(query): Query<GroupQuery>,
) -> Response {
    Json(control.permission_groups(query.scope_type)).into_response()
}
