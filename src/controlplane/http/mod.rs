//! The HTTP API: JSON in camelCase, problems by RFC 9457.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::ControlPlane;
use super::accounts::{Kind, NewDeployment, NewUser};
use super::authorization::{Actor, Operation};
use super::enrolment::Enrolment;
use super::error::Error;
use super::tokens::{NewToken, TokenUpdate};
use crate::protocol::bundle::MEDIA_TYPE;
use crate::protocol::permission::CATALOGUE;
use crate::protocol::role::built_in;

type Control = State<Arc<ControlPlane>>;

/// The routes of the API.
pub fn router(control: Arc<ControlPlane>) -> Router {
    let organization = Router::new()
        .route("/tokens", get(list_tokens).post(create_token))
        .route("/tokens/{id}", get(show_token).post(update_token).delete(delete_token))
        .route("/tokens/{id}/rotate", post(rotate_token))
        .route("/tokens/{id}/roles", post(replace_roles))
        .route("/workspaces", get(list_workspaces).post(create_workspace))
        .route("/deployments", get(list_deployments).post(create_deployment))
        .route("/users", post(create_user))
        .route("/data-planes", get(list_data_planes).post(create_data_plane))
        .route("/data-planes/{id}/enrolment-tokens", post(create_enrolment_token))
        .route("/data-planes/{id}/nodes", get(list_nodes))
        .route("/roles", get(list_roles));
    Router::new()
        .nest("/v1/organizations/{organization}", organization)
        .route("/v1/authorization/permission-groups", get(permission_groups))
        .route("/v1/enrol", post(enrol))
        .route("/v1/data-planes/{id}/feed", get(feed))
        .route("/healthz", get(|| async { "ok\n" }))
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

/// A JSON body, whose faults are told as a problem that names the field.
struct Body<T>(T);

impl<T: for<'de> Deserialize<'de>> axum::extract::FromRequest<Arc<ControlPlane>> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, _: &Arc<ControlPlane>) -> Result<Self, Response> {
        let bytes = axum::body::to_bytes(request.into_body(), 64 * 1024).await.map_err(|_| {
            problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is larger than 64 KiB")
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

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    offset: u64,
    #[serde(default = "fifty")]
    limit: u64,
}

fn fifty() -> u64 {
    50
}

async fn list_tokens(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_tokens(&actor, &organization, page.offset, page.limit))
        .await
}

async fn create_token(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewToken>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| c.create_token(&actor, &organization, new)).await
}

async fn show_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.show_token(&actor, &organization, &id)).await
}

async fn update_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(update): Body<TokenUpdate>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.update_token(&actor, &organization, &id, &update)).await
}

async fn delete_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    match off_reactor(&control, move |c| c.delete_token(&actor, &organization, &id)).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn rotate_token(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.rotate_token(&actor, &organization, &id)).await
}

async fn replace_roles(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.replace_roles(&actor, &organization, &id)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNamed {
    name: String,
}

async fn list_workspaces(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_named(&actor, Kind::Workspace, &organization)).await
}

async fn create_workspace(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewNamed>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| {
        c.create_named(&actor, Kind::Workspace, &organization, &new.name)
    })
    .await
}

async fn list_data_planes(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_named(&actor, Kind::DataPlane, &organization)).await
}

async fn create_data_plane(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewNamed>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| {
        c.create_named(&actor, Kind::DataPlane, &organization, &new.name)
    })
    .await
}

async fn list_deployments(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_deployments(&actor, &organization)).await
}

async fn create_deployment(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewDeployment>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| c.create_deployment(&actor, &organization, new)).await
}

async fn create_user(
    State(control): Control,
    actor: Actor,
    Path(organization): Path<String>,
    Body(new): Body<NewUser>,
) -> Response {
    answer(&control, StatusCode::CREATED, move |c| c.create_user(&actor, &organization, new)).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewEnrolmentToken {
    #[serde(default = "a_day")]
    expires_in_seconds: i64,
}

fn a_day() -> i64 {
    86_400
}

async fn create_enrolment_token(
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

async fn list_nodes(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
) -> Response {
    answer(&control, StatusCode::OK, move |c| c.list_nodes(&actor, &organization, &id)).await
}

async fn list_roles(actor: Actor, Path(organization): Path<String>) -> Response {
    match actor.may(Operation::Read, &organization) {
        Ok(()) => Json(built_in()).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn permission_groups(_: Actor) -> Response {
    Json(CATALOGUE).into_response()
}

async fn enrol(State(control): Control, Body(enrolment): Body<Enrolment>) -> Response {
    answer(&control, StatusCode::OK, move |c| c.enrol(&enrolment)).await
}

#[derive(Deserialize)]
struct Since {
    #[serde(default, rename = "since")]
    version: u64,
    #[serde(default)]
    keyset: u64,
    #[serde(default)]
    wait: u64,
}

async fn feed(
    State(control): Control,
    Path(id): Path<String>,
    Query(query): Query<Since>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let result = async {
        let (bearer, plane) = (bearer(&parts)?, id.clone());
        off_reactor(&control, move |c| c.authenticate_node(&bearer, &plane)).await?;
        control.wait_for_change(&id, query.version, query.wait).await?;
        off_reactor(&control, move |c| c.feed(&id, query.version, query.keyset)).await
    };
    match result.await {
        Ok(bundle) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], bundle).into_response(),
        Err(error) => error.into_response(),
    }
}
