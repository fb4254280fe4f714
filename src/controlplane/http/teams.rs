//! Handlers of teams.

use axum::extract::{Path, State};
use axum::response::Response;

use super::query::Query;
use super::{Body, Control, answer, answer_created, answer_no_content};
use crate::api::page::Page;
use crate::api::team::{NewMembers, NewTeam, Team, TeamFilter, TeamMemberPage, TeamPage, TeamUpdate};
use crate::api::user::UserRoles;
use crate::controlplane::access::authorization::Actor;

/// Lists the teams of the organization.
#[utoipa::path(get, path = "/teams", params(TeamFilter, Page), responses((status = 200, body = TeamPage)))]
pub(super) async fn list_teams(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(filter): Query<TeamFilter>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_teams(&actor, &organization, &filter, page)).await
}

/// Creates a team.
#[utoipa::path(post, path = "/teams", request_body = NewTeam, responses((status = 200, body = Team)))]
pub(super) async fn create_team(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewTeam>,
) -> Response {
    answer_created(&control, move |c| c.create_team(&actor, &organization, &new)).await
}

/// Shows a team.
#[utoipa::path(get, path = "/teams/{id}", responses((status = 200, body = Team)))]
pub(super) async fn show_team(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, move |c| c.show_team(&actor, &organization, &id)).await
}

/// Changes a team's name or description. Absent members keep their values.
#[utoipa::path(post, path = "/teams/{id}", request_body = TeamUpdate, responses((status = 200, body = Team)))]
pub(super) async fn update_team(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(update): Body<TeamUpdate>,
) -> Response {
    answer(&control, move |c| c.update_team(&actor, &organization, &id, update)).await
}

/// Deletes a team. Its members lose the roles they had through it.
#[utoipa::path(delete, path = "/teams/{id}", responses((status = 204)))]
pub(super) async fn delete_team(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer_no_content(&control, move |c| c.delete_team(&actor, &organization, &id)).await
}

/// Sets a team's roles. Absent members keep their values.
#[utoipa::path(post, path = "/teams/{id}/roles", request_body = UserRoles, responses((status = 200, body = Team)))]
pub(super) async fn set_team_roles(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(roles): Body<UserRoles>,
) -> Response {
    answer(&control, move |c| c.set_team_roles(&actor, &organization, &id, &roles)).await
}

/// Lists the members of a team.
#[utoipa::path(get, path = "/teams/{id}/members", params(Page), responses((status = 200, body = TeamMemberPage)))]
pub(super) async fn list_team_members(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_team_members(&actor, &organization, &id, page)).await
}

/// Adds users to a team.
#[utoipa::path(post, path = "/teams/{id}/members", request_body = NewMembers, responses((status = 200, body = TeamMemberPage)))]
pub(super) async fn add_team_members(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(new): Body<NewMembers>,
) -> Response {
    answer(&control, move |c| c.add_team_members(&actor, &organization, &id, &new)).await
}

/// Removes a user from a team.
#[utoipa::path(delete, path = "/teams/{id}/members/{user}", responses((status = 204)))]
pub(super) async fn remove_team_member(
    State(control): Control,
    actor: Actor,
    Path((organization, id, user)): Path<(String, String, String)>,
) -> Response {
    answer_no_content(&control, move |c| c.remove_team_member(&actor, &organization, &id, &user)).await
}
