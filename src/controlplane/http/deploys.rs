//! Handlers of deploys.

use std::sync::Arc;

use axum::body::Body as Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::problem::{of_field, problem};
use super::query::Query;
use super::{Body, Control, answer, made, off_reactor, written};
use crate::api::deploy::{Deploy, DeployPage, DeployUpdate, FinalizeDeploy, NewDeploy};
use crate::api::page::Page;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::accounts::deploys::Inspected;
use crate::controlplane::code::archives::{NotReceived, Received};
use crate::controlplane::error::Error;
use crate::platform::net::serve::BodyTime;
use crate::protocol::deploy::{MAX_ARCHIVE, digest_text};

/// Creates a deploy of a deployment. The answer has the URL to upload its archive to.
#[utoipa::path(post, path = "/deployments/{id}/deploys", request_body = NewDeploy, responses((status = 200, body = Deploy)))]
pub(super) async fn create_deploy(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(new): Body<NewDeploy>,
) -> Response {
    made(&control, move |c| c.create_deploy(&actor, &organization, &id, &new)).await
}

/// Lists the deploys of a deployment, the newest first.
#[utoipa::path(get, path = "/deployments/{id}/deploys", params(Page), responses((status = 200, body = DeployPage)))]
pub(super) async fn list_deploys(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Response {
    answer(&control, move |c| c.list_deploys(&actor, &organization, &id, page)).await
}

/// Shows a deploy.
#[utoipa::path(get, path = "/deployments/{id}/deploys/{deploy}", responses((status = 200, body = Deploy)))]
pub(super) async fn show_deploy(
    State(control): Control,
    actor: Actor,
    Path((organization, id, deploy)): Path<(String, String, String)>,
) -> Response {
    answer(&control, move |c| c.show_deploy(&actor, &organization, &id, &deploy)).await
}

/// Changes the description of a deploy.
#[utoipa::path(post, path = "/deployments/{id}/deploys/{deploy}", request_body = DeployUpdate,
    responses((status = 200, body = Deploy)))]
pub(super) async fn update_deploy(
    State(control): Control,
    actor: Actor,
    Path((organization, id, deploy)): Path<(String, String, String)>,
    Body(update): Body<DeployUpdate>,
) -> Response {
    answer(&control, move |c| c.update_deploy(&actor, &organization, &id, &deploy, &update)).await
}

/// Reads the uploaded archive of a deploy to its end, and puts it in force. A repeat changes nothing more.
#[utoipa::path(post, path = "/deployments/{id}/deploys/{deploy}/finalize", request_body = FinalizeDeploy,
    responses((status = 200, body = Deploy)))]
pub(super) async fn finalize_deploy(
    State(control): Control,
    actor: Actor,
    Path((organization, id, deploy)): Path<(String, String, String)>,
    Body(request): Body<FinalizeDeploy>,
) -> Response {
    let finalized = async {
        let place = (actor, organization, id, deploy);
        let begun = {
            let (actor, organization, id, deploy) = place.clone();
            move |c: &ControlPlane| c.begin_finalize(&actor, &organization, &id, &deploy, &request)
        };
        let archive = match off_reactor(&control, begun).await? {
            Inspected::Done(deploy) => return Ok(*deploy),
            Inspected::Awaited(archive, digest, size) => {
                control.inspect(&archive, digest, size).await??;
                archive
            }
        };
        let (actor, organization, id, deploy) = place;
        off_reactor(&control, move |c| c.finish_finalize(&actor, &organization, &id, &deploy, &archive)).await
    };
    match finalized.await {
        Ok(deploy) => written(StatusCode::OK, &deploy),
        Err(error) => Error::into_response(error),
    }
}

/// Puts the archive of an earlier deploy in force again, as a deploy of its own.
#[utoipa::path(post, path = "/deployments/{id}/deploys/{deploy}/rollback", request_body = DeployUpdate,
    responses((status = 200, body = Deploy)))]
pub(super) async fn roll_back(
    State(control): Control,
    actor: Actor,
    Path((organization, id, deploy)): Path<(String, String, String)>,
    Body(update): Body<DeployUpdate>,
) -> Response {
    made(&control, move |c| c.roll_back(&actor, &organization, &id, &deploy, &update)).await
}

/// Query of an upload URL.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadKey {
    /// Secret of the upload URL.
    key: String,
}

/// Receives the archive of a deploy, a tar.gz of at most 1 GiB. The path is that of the deploy's upload URL.
///
/// The field `x-ms-version-id` of the answer is the SHA-256 of the archive, base64url. Another upload replaces the archive
/// until the deploy is finalized.
#[utoipa::path(put, path = "/v1/deploy-uploads/{id}", security(()), params(UploadKey),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "the archive was received")))]
pub(super) async fn upload(
    State(control): Control,
    Path(id): Path<String>,
    Query(UploadKey { key }): Query<UploadKey>,
    request: Request,
) -> Response {
    let received = async {
        let upload =
            off_reactor(&control, move |c| c.begin_upload(&id, &key)).await.map_err(Error::into_response)?;
        let received = receive(&control, &upload.archive, request).await?;
        off_reactor(&control, move |c| c.finish_upload(&upload, received))
            .await
            .map_err(Error::into_response)?;
        Ok(received)
    };
    match received.await {
        Ok(Received { digest, .. }) => {
            let digest = HeaderValue::from_str(&digest_text(&digest)).unwrap_or(HeaderValue::from_static(""));
            let mut headers = HeaderMap::new();
            headers.insert("x-ms-version-id", digest);
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            // The clients that upload to such a URL take no other status for success.
            (StatusCode::CREATED, headers).into_response()
        }
        Err(refused) => refused,
    }
}

/// Receives the body of a request as an archive.
pub(super) async fn receive(
    control: &Arc<ControlPlane>,
    archive: &str,
    request: Request,
) -> Result<Received, Response> {
    let too_large = || {
        let detail = format!("an archive has at most {MAX_ARCHIVE} bytes");
        problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &detail)
    };
    let (parts, body) = request.into_parts();
    let length =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > MAX_ARCHIVE) {
        return Err(too_large());
    }
    if let Some(time) = parts.extensions.get::<BodyTime>() {
        time.count_for_each_piece();
    }
    let _place = control.archives.admit().map_err(Error::into_response)?;
    control.archives.receive(archive, Bytes::new(body)).await.map_err(|fault| match fault {
        NotReceived::TooLarge => too_large(),
        NotReceived::CutOff => {
            let detail = "the archive was cut off, or came too slowly; send it again";
            of_field(StatusCode::UNPROCESSABLE_ENTITY, "truncated", "archive", detail)
        }
        NotReceived::Store(error) => error.into_response(),
    })
}
