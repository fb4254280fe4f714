//! Handlers of deploys.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::query::Query;
use super::{Body, Control, answer, answer_created, off_reactor, written};
use crate::api::deploy::{Deploy, DeployPage, DeployUpdate, FinalizeDeploy, NewDeploy};
use crate::api::page::Page;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::Actor;
use crate::controlplane::accounts::deploys::Inspected;
use crate::controlplane::error::Error;

/// Creates a deploy of a deployment. The answer has the URL to upload its archive to.
#[utoipa::path(post, path = "/deployments/{id}/deploys", request_body = NewDeploy, responses((status = 200, body = Deploy)))]
pub(super) async fn create_deploy(
    State(control): Control,
    actor: Actor,
    Path((organization, id)): Path<(String, String)>,
    Body(new): Body<NewDeploy>,
) -> Response {
    answer_created(&control, move |c| c.create_deploy(&actor, &organization, &id, &new)).await
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
    answer_created(&control, move |c| c.roll_back(&actor, &organization, &id, &deploy, &update)).await
}
