//! Archives of deploys in a bucket. The test server implements the part of S3 that archives need.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::rig::control::Control;
use crate::rig::{curl, until};

/// Objects by path, and the parts of unfinished uploads.
#[derive(Default)]
struct Objects {
    whole: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<(String, usize), Vec<u8>>,
    fails: bool,
}

type Bucket = Arc<Mutex<Objects>>;

/// Returns the value of a query parameter, or `None` if it is missing.
fn parameter<'u>(uri: &'u Uri, name: &str) -> Option<&'u str> {
    uri.query()?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

async fn serve(
    State(bucket): State<Bucket>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut objects = bucket.lock().unwrap();
    if objects.fails {
        return StatusCode::FORBIDDEN.into_response();
    }
    assert!(headers[header::AUTHORIZATION].to_str().unwrap().starts_with("AWS4-HMAC-SHA256"), "{headers:?}");
    let path = uri.path().to_owned();
    let tag = [(header::ETAG, "\"x\"")];
    match (method.as_str(), parameter(&uri, "uploadId")) {
        ("POST", None) if parameter(&uri, "uploads").is_some() => {
            "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
                .into_response()
        }
        ("PUT", Some(_)) => {
            let number = parameter(&uri, "partNumber").unwrap().parse().unwrap();
            objects.parts.insert((path, number), body.into());
            tag.into_response()
        }
        ("POST", Some(_)) => {
            let parts: Vec<_> = objects.parts.keys().filter(|(of, _)| *of == path).cloned().collect();
            let whole = parts.iter().flat_map(|part| objects.parts.remove(part).unwrap()).collect();
            objects.whole.insert(path, whole);
            "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>".into_response()
        }
        ("GET", None) => {
            let Some(found) = objects.whole.get(&path) else { return StatusCode::NOT_FOUND.into_response() };
            let range = headers[header::RANGE].to_str().unwrap().strip_prefix("bytes=").unwrap();
            let (from, to) = range.split_once('-').unwrap();
            let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
            let told = format!("bytes {from}-{to}/{}", found.len());
            let fields = [
                (header::ETAG, "\"x\"".to_owned()),
                (header::LAST_MODIFIED, "Fri, 27 Nov 2026 12:00:00 GMT".to_owned()),
                (header::CONTENT_RANGE, told),
            ];
            (StatusCode::PARTIAL_CONTENT, fields, found[from..=to].to_vec()).into_response()
        }
        ("POST", None) => {
            let text = String::from_utf8(body.into()).unwrap();
            let key = text.split_once("<Key>").unwrap().1.split_once("</Key>").unwrap().0;
            objects.whole.remove(&format!("{path}/{key}"));
            format!("<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>").into_response()
        }
        other => panic!("{other:?} {uri}"),
    }
}

/// Starts a bucket and returns its URL.
fn start(bucket: Bucket) -> (String, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let limit = axum::extract::DefaultBodyLimit::disable();
    let router = Router::new().fallback(serve).layer(limit).with_state(bucket);
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let router = router.clone();
            let service = hyper::service::service_fn(move |request| {
                let mut router = router.clone();
                async move { tower_service::Service::call(&mut router, request).await }
            });
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(async move {
                hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await
            });
        }
    });
    (url, runtime)
}

/// Returns an archive of 20 MiB that cannot be compressed, so that its upload has three parts.
fn archive() -> Vec<u8> {
    let mut content = vec![0; 20 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, "a.bin", &*content).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn archives_are_kept_in_a_bucket_and_read_and_deleted_there() {
    let bucket = Bucket::default();
    let (url, _runtime) = start(Arc::clone(&bucket));
    let environment = [
        ("AWS_ENDPOINT_URL", &*url),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "s3cret-741852963"),
    ];
    let control = Control::start_in("[deploys]\nstore = \"s3://acme/halligan/deploys/\"", &environment);
    let estate = control.estate();
    let place = format!("/deployments/{}/deploys", estate.deployment);
    let made = control.make(&place, &json!({ "type": "DAG_ONLY" }));
    let file = control.directory.path().join("a.tar.gz");
    std::fs::write(&file, archive()).unwrap();
    let upload = |url: &str| curl(&["-T", file.to_str().unwrap(), "-H", "Expect:", url]);
    assert_eq!(upload(made["dagsUploadUrl"].as_str().unwrap()).status, 201);
    let finalize = format!("{place}/{}/finalize", made["id"].as_str().unwrap());
    let deployed = control.make(&finalize, &json!({}));
    assert_eq!(deployed["isInForce"], true);
    {
        let objects = bucket.lock().unwrap();
        let (path, kept) = objects.whole.first_key_value().unwrap();
        assert!(path.starts_with(&format!("/acme/halligan/deploys/{}/c", estate.deployment)), "{path}");
        assert!(*kept == std::fs::read(&file).unwrap() && objects.parts.is_empty());
    }
    // A failing bucket is named in the log, and all other calls still work.
    bucket.lock().unwrap().fails = true;
    let made = control.make(&place, &json!({ "type": "DAG_ONLY" }));
    let refused = upload(made["dagsUploadUrl"].as_str().unwrap());
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (503, &json!("deploys_unavailable")),
        "{refused:?}"
    );
    assert_eq!(control.call("GET", &place, None).status, 200);
    let log = std::fs::read_to_string(control.log()).unwrap();
    assert!(log.contains("object store of deploys") && !log.contains("s3cret-741852963"), "{log}");
    bucket.lock().unwrap().fails = false;
    assert_eq!(control.call("DELETE", &format!("/deployments/{}", estate.deployment), None).status, 204);
    until("the archives are deleted", || bucket.lock().unwrap().whole.is_empty());
}

#[test]
fn a_place_that_is_none_is_named_before_anything_starts() {
    let control = Control::start("");
    let file = control.directory.path().join("control.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    for bad in ["deploys", "s3://", "s3:///prefix", "gs://bucket", "https://bucket"] {
        std::fs::write(&file, format!("{config}\n[deploys]\nstore = \"{bad}\"\n")).unwrap();
        let checked = control.program().arg("check-config").output().unwrap();
        let told = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(78), "{bad}: {told}");
        assert!(told.contains("deploys.store"), "{bad}: {told}");
    }
}
