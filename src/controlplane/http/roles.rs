//! Handlers of roles and permissions.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};

use super::query::Query;
use super::{Body, Control, answer, answer_created, answer_no_content};
use crate::api::page::Page;
use crate::api::role::{
    GroupFilter, NewRole, PermissionGroup, Role, RoleFilter, RoleHistory, RolePage, RoleTemplate, RoleUpdate,
};
use crate::controlplane::access::authorization::Actor;

/// Lists custom roles, and on request the built-in ones beside them.
#[utoipa::path(get, path = "/roles", params(RoleFilter, Page), responses((status = 200, body = RolePage)))]
pub(super) async fn list_roles(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(filter): Query<RoleFilter>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_roles(&actor, &organization, &filter, page)).await
}

/// Creates a custom role.
#[utoipa::path(post, path = "/roles", request_body = NewRole, responses((status = 200, body = Role)))]
pub(super) async fn create_role(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewRole>,
) -> Response {
    answer_created(&control, move |c| c.create_role(&actor, &organization, new)).await
}

/// Shows a role, by id or name.
#[utoipa::path(get, path = "/roles/{id}", responses((status = 200, body = Role)))]
pub(super) async fn show_role(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, move |c| c.show_role(&actor, &organization, &id)).await
}

/// Changes a custom role. Absent members keep their values.
///
/// A new name or other permissions create a new version.
#[utoipa::path(post, path = "/roles/{id}", request_body = RoleUpdate, responses((status = 200, body = Role)))]
pub(super) async fn update_role(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(update): Body<RoleUpdate>,
) -> Response {
    answer(&control, move |c| c.update_role(&actor, &organization, &id, update)).await
}

/// Deletes a custom role that is not in use.
#[utoipa::path(delete, path = "/roles/{id}", responses((status = 204)))]
pub(super) async fn delete_role(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer_no_content(&control, move |c| c.delete_role(&actor, &organization, &id)).await
}

/// Lists every version of a role, newest first.
#[utoipa::path(get, path = "/roles/{id}/versions", responses((status = 200, body = Vec<RoleHistory>)))]
pub(super) async fn list_role_versions(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, move |c| c.list_role_versions(&actor, &organization, &id)).await
}

/// Lists role templates, from which custom roles can be made.
#[utoipa::path(get, path = "/role-templates", responses((status = 200, body = Vec<RoleTemplate>)))]
pub(super) async fn role_templates(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, move |c| c.role_templates(&actor, &organization)).await
}

/// Lists the permissions that custom roles can have, in groups.
#[utoipa::path(get, path = "/authorization/permission-groups", params(GroupFilter), responses((status = 200, body = Vec<PermissionGroup>)))]
pub(super) async fn permission_groups(
    State(control): Control,
    _: Actor,
    Query(filter): Query<GroupFilter>,
) -> Response {
    Json(control.permission_groups(filter.scope_type)).into_response()
}
