//! Handlers of nodes' calls about code: the deploys in force, their archives, and the deploys that hosts took themselves.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::Channel;

use super::caller::bearer;
use super::deploys::receive;
use super::reconciliation::{MAX_QUESTION, taken};
use super::{Control, off_reactor, written};
use crate::controlplane::ControlPlane;
use crate::controlplane::code::archives::Received;
use crate::controlplane::code::inspection::pieces;
use crate::controlplane::error::Error;
use crate::protocol::deploy::MEDIA_TYPE;
use crate::protocol::deploy::exchange::{DeployAnswer, DeployQuestion, HostDeployAnswer, HostDeployReport};
use crate::protocol::deploy::host::MAX_HOST_DEPLOY;

/// Time after which a node that accepts no data is disconnected.
const PATIENCE: Duration = Duration::from_mins(1);

/// Returns the deploys in force of the data plane's deployments, signed.
///
/// Those are left out of which the node holds the present version.
#[utoipa::path(post, path = "/v1/data-planes/{id}/deploys", request_body = DeployQuestion,
    responses((status = 200, body = DeployAnswer)))]
pub(super) async fn deploys(State(control): Control, Path(id): Path<String>, request: Request) -> Response {
    taken(&control, id, request, MAX_QUESTION, |c, sent| {
        c.deploys_for(&sent.caller, &sent.read("question for deploys")?)
    })
    .await
}

/// Returns the first byte that a request for a part asks for (RFC 9110 section 14.2). Of the forms of a range, this server
/// knows one: from a byte to the end. Any other request is answered with the whole.
fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// Returns the archive of a deploy. With `Range: bytes=N-`, the rest of it from byte N.
#[utoipa::path(get, path = "/v1/data-planes/{id}/deploys/{deployment}/{deploy}",
    responses((status = 200, content_type = "application/gzip", body = Vec<u8>),
        (status = 206, content_type = "application/gzip", body = Vec<u8>, description = "the rest of the archive")))]
pub(super) async fn archive(
    State(control): Control,
    Path((id, deployment, deploy)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let found = async {
        let bearer = bearer(&headers)?;
        off_reactor(&control, move |c| {
            let caller = c.node_in(&bearer, &id)?;
            c.archive_for(&caller, &deployment, &deploy)
        })
        .await
    };
    let (name, archive) = match found.await {
        Ok(found) => found,
        Err(error) => return error.into_response(),
    };
    let from = first_byte(&headers).filter(|from| *from < archive.size);
    let (status, first) = from.map_or((StatusCode::OK, 0), |from| (StatusCode::PARTIAL_CONTENT, from));
    let (mut sender, body) = Channel::<axum::body::Bytes, Error>::new(1);
    tokio::spawn(async move {
        for range in pieces(first, archive.size) {
            let piece = match control.archives.read(&name, range).await {
                Ok(piece) => piece,
                Err(error) => {
                    tracing::error!(%error, archive = name, "an archive of deploys can't be read");
                    return sender.abort(error);
                }
            };
            // A node that went away, or one that takes nothing.
            if !matches!(tokio::time::timeout(PATIENCE, sender.send_data(piece)).await, Ok(Ok(()))) {
                return;
            }
        }
    });
    let mut response = (
        status,
        [
            (header::CONTENT_TYPE, MEDIA_TYPE.to_owned()),
            (header::CONTENT_LENGTH, (archive.size - first).to_string()),
            (header::CACHE_CONTROL, "no-store".to_owned()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
        ],
        Body::new(body),
    )
        .into_response();
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = format!("bytes {first}-{}/{}", archive.size - 1, archive.size).parse()
    {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    response
}

/// Receives a deploy that a host took itself, and says whether its archive is to be sent.
#[utoipa::path(post, path = "/v1/data-planes/{id}/host-deploys", request_body = HostDeployReport,
    responses((status = 200, body = HostDeployAnswer)))]
pub(super) async fn host_deploy(
    State(control): Control,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    taken(&control, id, request, 2 * MAX_HOST_DEPLOY, |c, sent| {
        let report: HostDeployReport = sent.read("report of a host's deploy")?;
        c.take_host_deploy(&sent.caller, &report.host_deploy)
    })
    .await
}

/// Receives the archive of a deploy that a host took itself.
#[utoipa::path(put, path = "/v1/data-planes/{id}/host-deploys/{deployment}/{deploy}",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = HostDeployAnswer)))]
pub(super) async fn host_archive(
    State(control): Control,
    Path((id, deployment, deploy)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let bearer = match bearer(request.headers()) {
        Ok(bearer) => bearer,
        Err(error) => return error.into_response(),
    };
    let begun = off_reactor(&control, move |c| {
        let caller = c.node_in(&bearer, &id)?;
        Ok(match c.wanted_host_deploy(&caller, &deployment, &deploy)? {
            Ok(wanted) => Ok((caller, wanted, c.expect_archive(&deployment)?)),
            Err(answer) => Err(answer),
        })
    });
    let (caller, wanted, archive) = match begun.await {
        Ok(Ok(begun)) => begun,
        Ok(Err(answer)) => return written(StatusCode::OK, &answer),
        Err(error) => return error.into_response(),
    };
    let received = match receive(&control, &archive, request).await {
        Ok(received) => received,
        Err(refused) => return refused,
    };
    let finished = async {
        let Received { digest, size } = received;
        let checked = match ControlPlane::check_received(&wanted, received) {
            Ok(()) => control.inspect(&archive, digest, size).await?.map(drop).map_err(Error::from),
            Err(error) => Err(error),
        };
        off_reactor(&control, move |c| match checked {
            Ok(()) => c.finish_host_deploy(&caller, &wanted, &archive),
            Err(error) => {
                c.discard_archive(&archive)?;
                Err(error)
            }
        })
        .await
    };
    match finished.await {
        Ok(answer) => written(StatusCode::OK, &answer),
        Err(error) => Error::into_response(error),
    }
}
