//! Handlers of nodes' calls about code: the deploys in force, their archives, and the deploys that hosts took themselves.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::Channel;

use super::caller::bearer;
use super::reconciliation::{MAX_QUESTION, taken};
use super::uploads::receive;
use super::{Control, off_reactor, written};
use crate::controlplane::ControlPlane;
use crate::controlplane::archives::{Received, pieces};
use crate::controlplane::error::Error;
use crate::protocol::deploy::MEDIA_TYPE;
use crate::protocol::deploy::exchange::{DeployAnswer, HostDeployAnswer, HostDeployReport};
use crate::protocol::deploy::host::MAX_HOST_DEPLOY;
use crate::protocol::version::HeldVersions;

/// Time after which a node that accepts no data is disconnected.
const PATIENCE: Duration = Duration::from_mins(1);

/// Returns the deploys in force of the data plane's deployments, signed.
///
/// Deploys of which the node holds the present version are left out.
#[utoipa::path(post, path = "/v1/data-planes/{id}/deploys", request_body = HeldVersions,
    responses((status = 200, body = DeployAnswer)))]
pub(super) async fn deploys(State(control): Control, Path(id): Path<String>, request: Request) -> Response {
    taken(&control, id, request, MAX_QUESTION, |c, sent| {
        c.deploys_for(&sent.caller, &sent.read("question for deploys")?)
    })
    .await
}

/// Returns the first byte that a request for a part asks for (RFC 9110 section 14.2). Of the forms of a range, this server
/// knows one: from a byte to the end. Any other request is answered with the whole archive.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;
    use std::sync::Arc;

    use axum::body::to_bytes;
    use axum::http::Method;
    use serde_json::{Value, json};
    use sha2::{Digest as _, Sha256};
    use tower_service::Service as _;

    use crate::controlplane::ControlPlane;
    use crate::controlplane::http::{Edge, router};
    use crate::controlplane::test_world::World;
    use crate::protocol::deploy::host::{HostDeploy, sign_host_deploy};
    use crate::protocol::key::SigningKey;

    /// Control plane behind its API, with proofs of its node.
    struct Api {
        control: Arc<ControlPlane>,
        proofs: std::vec::IntoIter<String>,
        runtime: tokio::runtime::Runtime,
        key: SigningKey,
        deployment: String,
        _directory: tempfile::TempDir,
    }

    impl Api {
        fn new() -> Self {
            let world = World::new();
            let deployment = world.with_deployment();
            let proofs: Vec<String> = (0..20).map(|call| world.proof(&call.to_string())).collect();
            let (control, key, directory) = world.into_parts();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let (control, proofs) = (Arc::new(control), proofs.into_iter());
            Self { control, proofs, runtime: runtime.unwrap(), key, deployment, _directory: directory }
        }

        /// Calls a path of the data plane with a fresh proof. Returns the status, the range that was sent, and the body.
        fn call(&mut self, method: Method, path: &str, range: &str, body: Vec<u8>) -> (u16, String, Vec<u8>) {
            let request = axum::http::Request::builder()
                .method(method)
                .uri(format!("/v1/data-planes/dpl_a{path}"))
                .header("authorization", format!("Bearer {}", self.proofs.next().unwrap()))
                .header("range", range)
                .body(axum::body::Body::from(body))
                .unwrap();
            let mut router = router(Edge::new(Arc::clone(&self.control)));
            self.runtime.block_on(async move {
                let response = router.call(request).await.unwrap();
                let status = response.status().as_u16();
                let range = response.headers().get("content-range");
                let range = range.map_or("", |range| range.to_str().unwrap()).to_owned();
                (status, range, to_bytes(response.into_body(), usize::MAX).await.unwrap().into())
            })
        }

        fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
            let (status, _, body) = self.call(Method::POST, path, "", body.to_string().into());
            (status, serde_json::from_slice(&body).unwrap())
        }

        fn host_deploy(&self, id: &str, bytes: &[u8]) -> Value {
            let deploy = HostDeploy {
                iss: "nod_a".parse().unwrap(),
                aud: "dpl_a".parse().unwrap(),
                sub: self.deployment.parse().unwrap(),
                deploy: id.parse().unwrap(),
                base: 0,
                seq: 1,
                iat: self.control.now(),
                digest: Sha256::digest(bytes).into(),
                size: bytes.len() as u64,
                token: "tok_a".parse().unwrap(),
                event: "evt_1-1".into(),
            };
            json!({ "hostDeploy": sign_host_deploy(&deploy, &self.key) })
        }
    }

    fn archive(bytes: usize) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes as u64);
        header.set_mode(0o644);
        // Random bytes can't be compressed, so the archive has several pieces.
        let mut content = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        tar.append_data(&mut header, "a.bin", &*content).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar.into_inner().unwrap()).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn a_host_deploy_is_sent_once_and_fetched_whole_or_from_a_byte_on() {
        let mut api = Api::new();
        let bytes = archive(20 << 20);
        assert!(bytes.len() > 2 * crate::controlplane::archives::PIECE);
        let report = api.host_deploy("h1", &bytes);
        let place = format!("/host-deploys/{}/h1", api.deployment);
        assert_eq!(api.call(Method::PUT, &place, "", bytes.clone()).0, 404, "it is reported first");
        assert_eq!(api.post("/host-deploys", &report), (200, json!({ "state": "wanted" })));
        for wrong in [&bytes[1..], b"", &archive(9)] {
            assert_eq!(api.call(Method::PUT, &place, "", wrong.to_vec()).0, 422);
        }
        let (status, _, answer) = api.call(Method::PUT, &place, "", bytes.clone());
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status, &answer), (200, &json!({ "state": "stored" })));
        assert_eq!(api.post("/host-deploys", &report), (200, json!({ "state": "stored" })));
        let (status, given) = api.post("/deploys", &json!({}));
        assert_eq!((status, given["deploys"].as_array().unwrap().len()), (200, 1));

        let place = format!("/deploys/{}/h1", api.deployment);
        let size = bytes.len();
        for (range, status, from) in [
            ("", 200, 0),
            ("bytes=9000000-", 206, 9_000_000),
            ("bytes=0-", 206, 0),
            // Any other form of a range, and one behind the end, is answered with the whole.
            ("bytes=1-2", 200, 0),
            ("bytes=99999999-", 200, 0),
            ("lines=1-", 200, 0),
        ] {
            let told =
                if status == 206 { format!("bytes {from}-{}/{size}", size - 1) } else { String::new() };
            let (got, content_range, body) = api.call(Method::GET, &place, range, Vec::new());
            assert_eq!((got, content_range), (status, told), "{range}");
            assert!(body == bytes[from..], "{range}");
        }
        assert_eq!(api.call(Method::GET, &format!("/deploys/{}/h2", api.deployment), "", Vec::new()).0, 404);
    }

    #[test]
    fn a_host_deploy_that_is_no_archive_is_not_adopted() {
        let mut api = Api::new();
        let bytes = b"no archive".to_vec();
        let report = api.host_deploy("h1", &bytes);
        assert_eq!(api.post("/host-deploys", &report).1, json!({ "state": "wanted" }));
        let place = format!("/host-deploys/{}/h1", api.deployment);
        let (status, _, answer) = api.call(Method::PUT, &place, "", bytes);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status, &answer["fieldErrors"][0]["field"]), (422, &json!("archive")));
        assert_eq!(api.post("/deploys", &json!({})), (200, json!({ "deploys": [] })));
        let (status, _) = api.post("/host-deploys", &json!({ "hostDeploy": "x" }));
        assert_eq!(status, 422);
    }
}
