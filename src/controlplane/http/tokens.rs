//! Calls about tokens.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::{Body, Control, answer, done};
use crate::controlplane::authorization::Actor;
use crate::controlplane::tokens::{Assignment, NewAssignment, NewToken, RolesUpdate, TokenUpdate};

#[derive(Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    offset: u64,
    #[serde(default = "fifty")]
    limit: u64,
}

fn fifty() -> u64 {
    50
}

pub(super) async fn list_tokens(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_tokens(&actor, &organization, page.offset, page.limit))
        .await
}

pub(super) async fn create_token(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewToken>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| c.create_token(&actor, &organization, new)).await
}

pub(super) async fn show_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.show_token(&actor, &organization, &id)).await
}

pub(super) async fn update_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(update): Body<TokenUpdate>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.update_token(&actor, &organization, &id, &update)).await
}

pub(super) async fn delete_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    done(&control, move |c| c.delete_token(&actor, &organization, &id)).await
}

pub(super) async fn rotate_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.rotate_token(&actor, &organization, &id)).await
}

pub(super) async fn replace_roles(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(update): Body<RolesUpdate>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.replace_roles(&actor, &organization, &id, &update)).await
}

pub(super) async fn list_deployment_tokens(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| {
        c.list_deployment_tokens(&actor, &organization, &id, page.offset, page.limit)
    })
    .await
}

pub(super) async fn assign_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(new): Body<NewAssignment>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| c.assign_token(&actor, &organization, &id, &new)).await
}

pub(super) async fn update_assignment(
    State(control): Control,
    actor: Actor,
    Path((organization, id, token)): Path<(String, String, String)>,
    Body(update): Body<Assignment>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| {
        c.update_assignment(&actor, &organization, &id, &token, &update)
    })
    .await
}

pub(super) async fn remove_assignment(
    State(control): Control,
    actor: Actor,
    Path((organization, id, token)): Path<(String, String, String)>,
) -> Response {
    done(&control, move |c| c.remove_assignment(&actor, &organization, &id, &token)).await
}

pub(super) async fn show_effective(
    State(control): Control,
    actor: Actor,
    Path((organization, id, token)): Path<(String, String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.show_effective(&actor, &organization, &id, &token)).await
}
