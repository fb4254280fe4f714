//! Handler of upload URLs. It takes an archive as a whole, or in blocks, as the platform's command line sends an archive of
//! more than a megabyte: `comp=block` keeps one, and `comp=blocklist` names those that make up the archive.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::body;
use super::problem::{of_field, problem};
use super::query::Query;
use super::{Control, off_reactor};
use crate::controlplane::ControlPlane;
use crate::controlplane::accounts::deploys::Upload;
use crate::controlplane::archives::{NotReceived, Received};
use crate::controlplane::error::Error;
use crate::platform::net::serve::BodyTime;
use crate::protocol::deploy::{MAX_ARCHIVE, digest_text};

/// Maximum length of a block's id, in bytes.
const MAX_BLOCK_ID: usize = 100;
/// Maximum size of a list of blocks, in bytes.
const MAX_LIST: usize = 512 << 10;

/// Query of an upload URL.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadQuery {
    /// Secret of the upload URL.
    key: String,
    /// Part of an upload: `block`, or `blocklist` for the list of the blocks that make up the archive, in XML.
    #[serde(default)]
    #[param(inline)]
    comp: Option<Component>,
    /// Id of the block.
    #[serde(default)]
    #[param(max_length = 100)]
    blockid: Option<String>,
}

/// Part of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Component {
    /// One block.
    Block,
    /// List of the blocks.
    Blocklist,
}

/// Receives the archive of a deploy, a tar.gz of at most 1 GiB. The path is that of the deploy's upload URL.
///
/// The field `x-ms-version-id` of the answer is the SHA-256 of the archive, base64url. Another upload replaces the archive
/// until the deploy is finalized.
#[utoipa::path(put, path = "/v1/deploy-uploads/{id}", security(()), params(UploadQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "the archive or the block was received")))]
pub(super) async fn upload(
    State(control): Control,
    Path(id): Path<String>,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> Response {
    match receive_upload(&control, id, query, request).await {
        Ok(headers) => (StatusCode::CREATED, headers).into_response(),
        Err(refused) => refused,
    }
}

/// Receives an upload, and returns the fields of the answer. The clients of such URLs take no other status than 201 for
/// success.
async fn receive_upload(
    control: &Arc<ControlPlane>,
    id: String,
    query: UploadQuery,
    request: Request,
) -> Result<HeaderMap, Response> {
    let UploadQuery { key, comp, blockid } = query;
    let upload =
        off_reactor(control, move |c| c.begin_upload(&id, &key)).await.map_err(Error::into_response)?;
    let received = match (comp, blockid) {
        (None, None) => receive(control, &upload.archive, request).await?,
        (Some(Component::Block), Some(block)) if (1..=MAX_BLOCK_ID).contains(&block.len()) => {
            let received = receive(control, &upload.archive, request).await?;
            off_reactor(control, move |c| c.finish_block(&upload, &block, received))
                .await
                .map_err(Error::into_response)?;
            return Ok(HeaderMap::new());
        }
        (Some(Component::Blocklist), None) => join(control, &upload, request).await?,
        _ => {
            let detail = format!("has 1 to {MAX_BLOCK_ID} bytes, and stands with comp=block alone");
            return Err(of_field(StatusCode::BAD_REQUEST, "malformed", "blockid", &detail));
        }
    };
    let digest = digest_text(&received.digest);
    off_reactor(control, move |c| c.finish_upload(&upload, received)).await.map_err(Error::into_response)?;
    let mut headers = HeaderMap::new();
    if let Ok(digest) = HeaderValue::from_str(&digest) {
        headers.insert("x-ms-version-id", digest);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(headers)
}

/// Makes an archive of the blocks that a list names.
async fn join(control: &Arc<ControlPlane>, upload: &Upload, request: Request) -> Result<Received, Response> {
    let list = body::read(request.into_body(), MAX_LIST).await?;
    let ids = std::str::from_utf8(&list).ok().and_then(block_ids).ok_or_else(|| {
        let detail = "is no list of blocks (<BlockList><Latest>ID</Latest>…</BlockList>)";
        of_field(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "blocklist", detail)
    })?;
    let blocks = {
        let upload = upload.clone();
        off_reactor(control, move |c| c.blocks(&upload, &ids)).await.map_err(Error::into_response)?
    };
    let _place = control.archives.admit().map_err(Error::into_response)?;
    control.archives.join(&upload.archive, &blocks).await.map_err(refusal)
}

/// Reads the ids of a list of blocks. Whether a block was in a list before makes no difference here.
fn block_ids(xml: &str) -> Option<Vec<String>> {
    let list = xml.split_once("<BlockList>")?.1.split_once("</BlockList>")?.0;
    let mut ids = Vec::new();
    let mut rest = list.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.strip_prefix('<')?.split_once('>')?;
        if !matches!(name, "Latest" | "Uncommitted" | "Committed") {
            return None;
        }
        let (id, after) = after.split_once("</")?;
        if id.is_empty() || id.contains(['<', '&']) {
            return None;
        }
        ids.push(id.to_owned());
        rest = after.strip_prefix(name)?.strip_prefix('>')?.trim_start();
    }
    Some(ids)
}

fn refusal(fault: NotReceived) -> Response {
    match fault {
        NotReceived::TooLarge => {
            let detail = format!("an archive has at most {MAX_ARCHIVE} bytes");
            problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &detail)
        }
        NotReceived::CutOff => {
            let detail = "the archive was cut off, or came too slowly; send it again";
            of_field(StatusCode::UNPROCESSABLE_ENTITY, "truncated", "archive", detail)
        }
        NotReceived::Store(error) => error.into_response(),
    }
}

/// Receives the body of a request as an archive.
pub(super) async fn receive(
    control: &Arc<ControlPlane>,
    archive: &str,
    request: Request,
) -> Result<Received, Response> {
    let (parts, body) = request.into_parts();
    let length =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > MAX_ARCHIVE) {
        return Err(refusal(NotReceived::TooLarge));
    }
    if let Some(time) = parts.extensions.get::<BodyTime>() {
        time.count_for_each_piece();
    }
    let _place = control.archives.admit().map_err(Error::into_response)?;
    control.archives.receive(archive, Body::new(body)).await.map_err(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_blocks_names_each_in_its_order() {
        let ids = |xml: &str| block_ids(xml);
        let xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList>\n <Latest>YQ==</Latest><Uncommitted>Yg==</Uncommitted>\n</BlockList>";
        assert_eq!(ids(xml), Some(vec!["YQ==".to_owned(), "Yg==".to_owned()]));
        assert_eq!(ids("<BlockList></BlockList>"), Some(Vec::new()));
        for bad in [
            "",
            "<BlockList>",
            "<BlockList><Latest>a</Latest>",
            "<BlockList><Latest>a</Committed></BlockList>",
            "<BlockList><Latest></Latest></BlockList>",
            "<BlockList><Other>a</Other></BlockList>",
            "<BlockList>a</BlockList>",
            "<BlockList><Latest><b/></Latest></BlockList>",
        ] {
            assert_eq!(ids(bad), None, "{bad}");
        }
    }
}
