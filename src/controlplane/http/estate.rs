//! Calls about what an organization has: workspaces, deployments, users, data planes and their nodes.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::{Body, Control, answer, done};
use crate::controlplane::authorization::Actor;
use crate::controlplane::deployments::{DeploymentUpdate, NewDeployment};
use crate::controlplane::users::{NewUser, UserRoles};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewNamed {
    name: String,
}

pub(super) async fn list_organizations(State(control): Control, actor: Actor) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_organizations(&actor)).await
}

pub(super) async fn show_organization(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.show_organization(&actor, &organization)).await
}

pub(super) async fn list_workspaces(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_workspaces(&actor, &organization)).await
}

pub(super) async fn create_workspace(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewNamed>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| c.create_workspace(&actor, &organization, &new.name)).await
}

pub(super) async fn show_workspace(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.show_workspace(&actor, &organization, &id)).await
}

pub(super) async fn list_data_planes(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_data_planes(&actor, &organization)).await
}

pub(super) async fn create_data_plane(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewNamed>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| c.create_data_plane(&actor, &organization, &new.name))
        .await
}

pub(super) async fn show_data_plane(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.show_data_plane(&actor, &organization, &id)).await
}

pub(super) async fn list_deployments(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_deployments(&actor, &organization)).await
}

pub(super) async fn create_deployment(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewDeployment>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| c.create_deployment(&actor, &organization, new)).await
}

pub(super) async fn show_deployment(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.show_deployment(&actor, &organization, &id)).await
}

pub(super) async fn update_deployment(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(update): Body<DeploymentUpdate>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.update_deployment(&actor, &organization, &id, update)).await
}

pub(super) async fn list_users(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_users(&actor, &organization)).await
}

pub(super) async fn create_user(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewUser>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| c.create_user(&actor, &organization, &new)).await
}

pub(super) async fn set_user_roles(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(roles): Body<UserRoles>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.set_user_roles(&actor, &organization, &id, &roles)).await
}

pub(super) async fn rotate_user_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.rotate_user_token(&actor, &organization, &id)).await
}

pub(super) async fn list_nodes(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_nodes(&actor, &organization, &id)).await
}

pub(super) async fn delete_workspace(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    done(&control, move |c| c.delete_workspace(&actor, &organization, &id)).await
}

pub(super) async fn delete_deployment(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    done(&control, move |c| c.delete_deployment(&actor, &organization, &id)).await
}

pub(super) async fn delete_user(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    done(&control, move |c| c.delete_user(&actor, &organization, &id)).await
}

pub(super) async fn retire_node(
    State(control): Control,
    actor: Actor,
    Path((organization, id, node)): Path<(String, String, String)>,
) -> Response {
    done(&control, move |c| c.retire_node(&actor, &organization, &id, &node)).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewEnrolmentToken {
    #[serde(default = "a_day")]
    expires_in_seconds: i64,
}

fn a_day() -> i64 {
    86_400
}

pub(super) async fn create_enrolment_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(new): Body<NewEnrolmentToken>,
) -> Response {
    let seconds = new.expires_in_seconds;
    answer(&control, StatusCode::CREATED, move |c| {
        c.create_enrolment_token(&actor, &organization, &id, seconds)
    })
    .await
}
