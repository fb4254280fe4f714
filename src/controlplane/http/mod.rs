//! The HTTP API: JSON in camelCase, problems by RFC 9457.

mod dag_tags;
mod estate;
mod nodes;
mod roles;
mod tokens;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::ControlPlane;
use super::authorization::Actor;
use super::error::Error;

type Control = State<Arc<ControlPlane>>;

/// The routes of the API.
pub fn router(control: Arc<ControlPlane>) -> Router {
    let organization = Router::new()
        .route("/", get(estate::show_organization))
        .route("/tokens", get(tokens::list_tokens).post(tokens::create_token))
        .route(
            "/tokens/{id}",
            get(tokens::show_token).post(tokens::update_token).delete(tokens::delete_token),
        )
        .route("/tokens/{id}/rotate", post(tokens::rotate_token))
        .route("/tokens/{id}/roles", post(tokens::replace_roles))
        .route("/workspaces", get(estate::list_workspaces).post(estate::create_workspace))
        .route("/workspaces/{id}", get(estate::show_workspace).delete(estate::delete_workspace))
        .route("/deployments", get(estate::list_deployments).post(estate::create_deployment))
        .route(
            "/deployments/{id}",
            get(estate::show_deployment).post(estate::update_deployment).delete(estate::delete_deployment),
        )
        .route("/deployments/{id}/dag-tags", get(dag_tags::show_dag_tags).put(dag_tags::publish_dag_tags))
        .route("/deployments/{id}/tokens", get(tokens::list_deployment_tokens).post(tokens::assign_token))
        .route(
            "/deployments/{id}/tokens/{token}",
            post(tokens::update_assignment).delete(tokens::remove_assignment),
        )
        .route("/deployments/{id}/tokens/{token}/permissions", get(tokens::show_effective))
        .route("/users", get(estate::list_users).post(estate::create_user))
        .route("/users/{id}", delete(estate::delete_user))
        .route("/users/{id}/roles", post(estate::set_user_roles))
        .route("/users/{id}/token", post(estate::rotate_user_token))
        .route("/data-planes", get(estate::list_data_planes).post(estate::create_data_plane))
        .route("/data-planes/{id}", get(estate::show_data_plane))
        .route("/data-planes/{id}/enrolment-tokens", post(estate::create_enrolment_token))
        .route("/data-planes/{id}/nodes", get(estate::list_nodes))
        .route("/data-planes/{id}/nodes/{node}", delete(estate::retire_node))
        .route("/roles", get(roles::list_roles).post(roles::create_role))
        .route("/roles/{id}", get(roles::show_role).post(roles::update_role).delete(roles::delete_role))
        .route("/roles/{id}/versions", get(roles::list_role_versions))
        .route("/role-templates", get(roles::role_templates));
    Router::new()
        .route("/v1/organizations", get(estate::list_organizations))
        .nest("/v1/organizations/{organization}", organization)
        .route("/v1/authorization/permission-groups", get(roles::permission_groups))
        .route("/v1/enrol", post(nodes::enrol))
        .route("/v1/data-planes/{id}/feed", get(nodes::feed))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "not_found", "there is no such call") })
        .with_state(control)
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let detail = if status.is_server_error() {
            // What failed inside is for the log, not for the caller.
            tracing::error!(error = %self, "a call failed");
            "the control plane could not do this; its log says why".to_owned()
        } else {
            self.to_string()
        };
        problem(status, self.code(), &detail)
    }
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body = serde_json::json!({
        "type": "about:blank", "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(), "code": code, "detail": detail,
    });
    let mut response =
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    response
}

fn bearer(parts: &Parts) -> Result<Vec<u8>, Error> {
    let value = parts.headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
    let (scheme, token) = value
        .and_then(|value| value.split_at_checked(7))
        .ok_or(Error::Unauthenticated("a bearer token is needed"))?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(Error::Unauthenticated("a bearer token is needed"));
    }
    Ok(token.to_vec())
}

impl FromRequestParts<Arc<ControlPlane>> for Actor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, control: &Arc<ControlPlane>) -> Result<Self, Error> {
        let bearer = bearer(parts)?;
        off_reactor(control, move |control| control.authenticate(&bearer)).await
    }
}

/// The most bytes most bodies can have.
const MAX_BODY: usize = 64 * 1024;

/// A JSON body, whose faults are told as a problem that names the field.
struct Body<T, const MAX: usize = MAX_BODY>(T);

impl<T: for<'de> Deserialize<'de>, const MAX: usize> axum::extract::FromRequest<Arc<ControlPlane>>
    for Body<T, MAX>
{
    type Rejection = Response;

    async fn from_request(request: Request, _: &Arc<ControlPlane>) -> Result<Self, Response> {
        let bytes = axum::body::to_bytes(request.into_body(), MAX).await.map_err(|_| {
            let detail = format!("the body is larger than {} KiB", MAX / 1024);
            problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &detail)
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            problem(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                &format!("the body is not understood: {error}"),
            )
        })
    }
}

async fn off_reactor<T: Send + 'static>(
    control: &Arc<ControlPlane>,
    work: impl FnOnce(&ControlPlane) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let control = Arc::clone(control);
    match tokio::task::spawn_blocking(move || work(&control)).await {
        Ok(result) => result,
        Err(ended) => Err(Error::Io(std::io::Error::other(ended))),
    }
}

async fn answer<T: Serialize + Send + 'static>(
    control: &Arc<ControlPlane>,
    status: StatusCode,
    work: impl FnOnce(&ControlPlane) -> Result<T, Error> + Send + 'static,
) -> Response {
    match off_reactor(control, work).await {
        // Values of tokens may be in it: no cache on the way keeps them.
        Ok(value) => (status, [(header::CACHE_CONTROL, "no-store")], Json(value)).into_response(),
        Err(error) => error.into_response(),
    }
}

/// Answers a call that gives nothing back.
async fn done(
    control: &Arc<ControlPlane>,
    work: impl FnOnce(&ControlPlane) -> Result<(), Error> + Send + 'static,
) -> Response {
    match off_reactor(control, work).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}
