//! Handlers of organizations, workspaces, deployments and users.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;

use super::query::Query;
use super::{Body, Control, answer, answer_created, answer_no_content, off_reactor, tagged};
use crate::api::caller::{Caller, CallerPlace};
use crate::api::deployment::{Deployment, DeploymentFilter, DeploymentPage, DeploymentUpdate, NewDeployment};
use crate::api::organization::{Organization, OrganizationFilter, OrganizationPage};
use crate::api::page::Page;
use crate::api::problem::{self, Problem};
use crate::api::settings::DeploymentOptions;
use crate::api::user::{NewUser, User, UserFilter, UserPage, UserRoles, UserToken};
use crate::api::workspace::{NewWorkspace, Workspace, WorkspaceFilter, WorkspacePage, WorkspaceUpdate};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::accounts::deployments::etag;
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::error::Error;

/// Lists the organizations that the caller belongs to.
#[utoipa::path(get, path = "/organizations", params(OrganizationFilter, Page), responses((status = 200, body = OrganizationPage)))]
pub(super) async fn list_organizations(
    State(control): Control,
    actor: Actor,
    Query(filter): Query<OrganizationFilter>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_organizations(&actor, &filter, page)).await
}

/// Shows an organization.
#[utoipa::path(get, path = "/", responses((status = 200, body = Organization)))]
pub(super) async fn show_organization(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, move |c| c.show_organization(&actor, &organization)).await
}

/// Shows the caller: who they are, their roles, and what these allow.
#[utoipa::path(get, path = "/users/self", params(CallerPlace),
    responses((status = 200, body = Caller), (status = 404, description = "no workspace or deployment of this id",
        body = Problem, content_type = problem::MEDIA_TYPE)))]
pub(super) async fn show_caller(
    State(control): Control,
    actor: Actor,
    Query(place): Query<CallerPlace>,
) -> Response {
    answer(&control, move |c| c.show_caller(&actor, &place)).await
}

/// Lists the workspaces that the caller may see.
#[utoipa::path(get, path = "/workspaces", params(WorkspaceFilter, Page), responses((status = 200, body = WorkspacePage)))]
pub(super) async fn list_workspaces(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(filter): Query<WorkspaceFilter>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_workspaces(&actor, &organization, &filter, page)).await
}

/// Creates a workspace.
#[utoipa::path(post, path = "/workspaces", request_body = NewWorkspace, responses((status = 200, body = Workspace)))]
pub(super) async fn create_workspace(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewWorkspace>,
) -> Response {
    answer_created(&control, move |c| c.create_workspace(&actor, &organization, &new)).await
}

/// Shows a workspace.
#[utoipa::path(get, path = "/workspaces/{id}", responses((status = 200, body = Workspace)))]
pub(super) async fn show_workspace(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, move |c| c.show_workspace(&actor, &organization, &id)).await
}

/// Changes a workspace's name or description. Absent members keep their values.
#[utoipa::path(post, path = "/workspaces/{id}", request_body = WorkspaceUpdate, responses((status = 200, body = Workspace)))]
pub(super) async fn update_workspace(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(update): Body<WorkspaceUpdate>,
) -> Response {
    answer(&control, move |c| c.update_workspace(&actor, &organization, &id, &update)).await
}

/// Lists the deployments that the caller may see.
#[utoipa::path(get, path = "/deployments", params(DeploymentFilter, Page), responses((status = 200, body = DeploymentPage)))]
pub(super) async fn list_deployments(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(filter): Query<DeploymentFilter>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_deployments(&actor, &organization, &filter, page)).await
}

/// Creates a deployment and publishes it to its data plane.
#[utoipa::path(post, path = "/deployments", request_body = NewDeployment, responses((status = 200, body = Deployment)))]
pub(super) async fn create_deployment(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewDeployment>,
) -> Response {
    answer_created(&control, move |c| c.create_deployment(&actor, &organization, new)).await
}

/// Answers a call with a deployment and its entity tag.
async fn deployment(
    control: &Arc<ControlPlane>,
    work: impl FnOnce(&ControlPlane) -> Result<Deployment, Error> + Send + 'static,
) -> Response {
    let shown = off_reactor(control, work).await;
    tagged(shown.and_then(|deployment| Ok((etag(&deployment)?, deployment))))
}

/// Shows a deployment.
#[utoipa::path(get, path = "/deployments/{id}", responses((status = 200, body = Deployment)))]
pub(super) async fn show_deployment(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    deployment(&control, move |c| c.show_deployment(&actor, &organization, &id)).await
}

/// Shows the choices for the settings of deployments.
#[utoipa::path(get, path = "/deployment-options", responses((status = 200, body = DeploymentOptions)))]
pub(super) async fn deployment_options(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, move |c| c.deployment_options(&actor, &organization)).await
}

/// Maximum size of an update, in bytes. Its environment variables have bounds of their own, which a fault names.
const MAX_UPDATE: usize = 3 << 20;

/// Changes a deployment: its name, hosts, route map, glass mode, settings or environment variables. Absent members keep
/// their values.
#[utoipa::path(post, path = "/deployments/{id}", request_body = DeploymentUpdate, responses((status = 200, body = Deployment)))]
pub(super) async fn update_deployment(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    seen: IfMatch,
    Body(update): Body<DeploymentUpdate, MAX_UPDATE>,
) -> Response {
    deployment(&control, move |c| c.update_deployment(&actor, &organization, &id, update, &seen)).await
}

/// Lists the users of the organization.
#[utoipa::path(get, path = "/users", params(UserFilter, Page), responses((status = 200, body = UserPage)))]
pub(super) async fn list_users(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(filter): Query<UserFilter>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_users(&actor, &organization, &filter, page)).await
}

/// Shows a user.
#[utoipa::path(get, path = "/users/{id}", responses((status = 200, body = User)))]
pub(super) async fn show_user(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, move |c| c.show_user(&actor, &organization, &id)).await
}

/// Creates a user. The answer shows the user's token once.
#[utoipa::path(post, path = "/users", request_body = NewUser, responses((status = 200, body = UserToken)))]
pub(super) async fn create_user(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewUser>,
) -> Response {
    answer_created(&control, move |c| c.create_user(&actor, &organization, &new)).await
}

/// Changes a user's roles. Absent members keep their values.
#[utoipa::path(post, path = "/users/{id}/roles", request_body = UserRoles, responses((status = 200, body = User)))]
pub(super) async fn set_user_roles(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(roles): Body<UserRoles>,
) -> Response {
    answer(&control, move |c| c.set_user_roles(&actor, &organization, &id, &roles)).await
}

/// Gives a user a new token, shown once. The old one becomes invalid.
#[utoipa::path(post, path = "/users/{id}/token", responses((status = 200, body = UserToken)))]
pub(super) async fn rotate_user_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, move |c| c.rotate_user_token(&actor, &organization, &id)).await
}

/// Deletes an empty workspace.
#[utoipa::path(delete, path = "/workspaces/{id}", responses((status = 204)))]
pub(super) async fn delete_workspace(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer_no_content(&control, move |c| c.delete_workspace(&actor, &organization, &id)).await
}

/// Deletes a deployment and all of its tokens.
#[utoipa::path(delete, path = "/deployments/{id}", responses((status = 204)))]
pub(super) async fn delete_deployment(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    seen: IfMatch,
) -> Response {
    answer_no_content(&control, move |c| c.delete_deployment(&actor, &organization, &id, &seen)).await
}

/// Deletes a user. The user's token becomes invalid.
#[utoipa::path(delete, path = "/users/{id}", responses((status = 204)))]
pub(super) async fn delete_user(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer_no_content(&control, move |c| c.delete_user(&actor, &organization, &id)).await
}
