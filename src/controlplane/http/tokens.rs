//! Handlers of tokens.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::fields::Repeatable;
use super::query::Query;
use super::{Body, Control, answer, answer_no_content, noted, off_reactor, tagged, written};
use crate::api::dual_control::Request;
use crate::api::page::Page;
use crate::api::token::{
    Assignment, Effective, NewAssignment, NewToken, RolesUpdate, Token, TokenFilter, TokenPage, TokenRoles,
    TokenUpdate,
};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::error::Error;
use crate::controlplane::tokens::etag;

/// Returns the response with a token and its entity tag, which `If-Match` is compared with.
async fn shown(
    control: &Arc<ControlPlane>,
    work: impl FnOnce(&ControlPlane) -> Result<Token, Error> + Send + 'static,
) -> Response {
    with_etag(off_reactor(control, work).await)
}

/// Returns the response with a new token.
pub(super) async fn new(
    control: &Arc<ControlPlane>,
    work: impl FnOnce(&ControlPlane) -> Result<Token, Error> + Send + 'static,
) -> Response {
    created_with_etag(off_reactor(control, work).await)
}

fn created_with_etag(token: Result<Token, Error>) -> Response {
    let id = token.as_ref().ok().map(|token| token.id.to_string());
    let response = with_etag(token);
    match id {
        Some(id) => noted(response, id),
        None => response,
    }
}

fn with_etag(token: Result<Token, Error>) -> Response {
    tagged(token.and_then(|token| Ok((etag(&token)?, token))))
}

/// Lists the tokens that the caller may see.
#[utoipa::path(get, path = "/tokens", params(TokenFilter, Page), responses((status = 200, body = TokenPage)))]
pub(super) async fn list_tokens(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(filter): Query<TokenFilter>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_tokens(&actor, &organization, &filter, page)).await
}

/// Creates a token. The answer shows its value once.
///
/// Under dual control, a direct-access token is requested instead.
#[utoipa::path(post, path = "/tokens", request_body = NewToken, responses((status = 200, body = Token), (status = 202, body = Request, description = "a second owner has to approve it")))]
pub(super) async fn create_token(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Repeatable(key): Repeatable,
    Body(new): Body<NewToken>,
) -> Response {
    let (asking, asked, wanted) = (actor.clone(), organization.clone(), new.clone());
    let made = off_reactor(&control, move |c| c.create_token(&actor, &organization, new, key.as_ref())).await;
    match made {
        Err(Error::ApprovalNeeded) => {
            requested(off_reactor(&control, move |c| c.request_token(&asking, &asked, &wanted)).await)
        }
        made => created_with_etag(made),
    }
}

/// Shows a token.
#[utoipa::path(get, path = "/tokens/{id}", responses((status = 200, body = Token)))]
pub(super) async fn show_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    shown(&control, move |c| c.show_token(&actor, &organization, &id)).await
}

/// Changes a token's name or description. Absent members keep their values.
#[utoipa::path(post, path = "/tokens/{id}", request_body = TokenUpdate, responses((status = 200, body = Token)))]
pub(super) async fn update_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    seen: IfMatch,
    Body(update): Body<TokenUpdate>,
) -> Response {
    shown(&control, move |c| c.update_token(&actor, &organization, &id, &update, &seen)).await
}

/// Deletes a token permanently. Its value becomes invalid.
#[utoipa::path(delete, path = "/tokens/{id}", responses((status = 204)))]
pub(super) async fn delete_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    seen: IfMatch,
) -> Response {
    answer_no_content(&control, move |c| c.delete_token(&actor, &organization, &id, &seen)).await
}

/// Gives a token a new value, shown once, whose lifetime begins now. The old one becomes invalid.
///
/// Under dual control, the new value of a direct-access token is requested instead.
#[utoipa::path(post, path = "/tokens/{id}/rotate", responses((status = 200, body = Token), (status = 202, body = Request, description = "a second owner has to approve it")))]
pub(super) async fn rotate_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Repeatable(key): Repeatable,
    seen: IfMatch,
) -> Response {
    let (asking, asked, wanted) = (actor.clone(), organization.clone(), id.clone());
    let rotated =
        off_reactor(&control, move |c| c.rotate_token(&actor, &organization, &id, key.as_ref(), &seen)).await;
    match rotated {
        Err(Error::ApprovalNeeded) => {
            requested(off_reactor(&control, move |c| c.request_rotation(&asking, &asked, &wanted)).await)
        }
        rotated => with_etag(rotated),
    }
}

/// Returns the response with a request that another owner has to approve.
fn requested(request: Result<Request, Error>) -> Response {
    match request {
        Ok(request) => written(StatusCode::ACCEPTED, &request),
        Err(error) => error.into_response(),
    }
}

/// Replaces a token's roles. Those of a direct-access token cannot be changed.
#[utoipa::path(post, path = "/tokens/{id}/roles", request_body = RolesUpdate, responses((status = 200, body = TokenRoles)))]
pub(super) async fn replace_roles(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    seen: IfMatch,
    Body(update): Body<RolesUpdate>,
) -> Response {
    let changed =
        off_reactor(&control, move |c| c.replace_roles(&actor, &organization, &id, &update, &seen)).await;
    tagged(changed.and_then(|token| {
        let tag = etag(&token)?;
        Ok((tag, TokenRoles { subject_roles: token.subject_roles(), token }))
    }))
}

/// Lists the tokens that have a role on a deployment: its own, and those assigned to it.
#[utoipa::path(get, path = "/deployments/{id}/tokens", params(Page), responses((status = 200, body = TokenPage)))]
pub(super) async fn list_deployment_tokens(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_deployment_tokens(&actor, &organization, &id, page)).await
}

/// Assigns a token of the organization or a workspace to a deployment.
#[utoipa::path(post, path = "/deployments/{id}/tokens", request_body = NewAssignment, responses((status = 200, body = Token)))]
pub(super) async fn assign_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(new): Body<NewAssignment>,
) -> Response {
    answer(&control, move |c| c.assign_token(&actor, &organization, &id, &new)).await
}

/// Gives a token another role on a deployment that it is assigned to.
#[utoipa::path(post, path = "/deployments/{id}/tokens/{token}", request_body = Assignment, responses((status = 200, body = Token)))]
pub(super) async fn update_assignment(
    State(control): Control,
    actor: Actor,
    Path((organization, id, token)): Path<(String, String, String)>,
    seen: IfMatch,
    Body(update): Body<Assignment>,
) -> Response {
    answer(&control, move |c| c.update_assignment(&actor, &organization, &id, &token, &update, &seen)).await
}

/// Removes a token's assignment to a deployment. The token stays valid elsewhere.
#[utoipa::path(delete, path = "/deployments/{id}/tokens/{token}", responses((status = 204)))]
pub(super) async fn remove_assignment(
    State(control): Control,
    actor: Actor,
    Path((organization, id, token)): Path<(String, String, String)>,
    seen: IfMatch,
) -> Response {
    answer_no_content(&control, move |c| c.remove_assignment(&actor, &organization, &id, &token, &seen)).await
}

/// Shows a token's permissions on a deployment, from all its roles together.
#[utoipa::path(get, path = "/deployments/{id}/tokens/{token}/permissions", responses((status = 200, body = Effective)))]
pub(super) async fn show_effective(
    State(control): Control,
    actor: Actor,
    Path((organization, id, token)): Path<(String, String, String)>,
) -> Response {
    answer(&control, move |c| c.show_effective(&actor, &organization, &id, &token)).await
}
