//! The network between a node and its control plane: HTTPS, bounded in time and size, redirects not followed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;

use crate::protocol::bundle;

/// Where Debian keeps the certificate authorities it trusts.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The largest answer taken, compressed.
const MAX_ANSWER: usize = 256 << 20;

/// Why a call to the control plane failed.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// The certificate authorities can't be read.
    #[error("the certificate authorities in {0} can't be read")]
    Authorities(PathBuf),
    /// No answer in time.
    #[error("{url} did not answer within {seconds} seconds")]
    Timeout {
        /// What was called.
        url: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// No connection, or a broken one.
    #[error("{url} can't be reached: {}", innermost(&**source))]
    Transport {
        /// What was called.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another answer than asked for.
    #[error("{url} answered {status}: {detail}")]
    Answer {
        /// What was called.
        url: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the answer.
        detail: String,
    },
}

/// The cause at the bottom: the layers above it only say that something below them failed.
fn innermost<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// A client of the control plane.
pub struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    urls: Vec<String>,
}

impl Upstream {
    /// A client that trusts the authorities in `ca_file`, or the system's.
    pub fn new(urls: Vec<String>, ca_file: Option<&Path>) -> Result<Self, UpstreamError> {
        let path = ca_file.unwrap_or(Path::new(SYSTEM_CA));
        let unreadable = || UpstreamError::Authorities(path.into());
        let mut roots = rustls::RootCertStore::empty();
        if ca_file.is_some() || path.exists() {
            for certificate in CertificateDer::pem_file_iter(path).map_err(|_| unreadable())? {
                // An authority of a form rustls does not take is one that can't vouch for anybody.
                let _ = roots.add(certificate.map_err(|_| unreadable())?);
            }
        }
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| unreadable())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), urls })
    }

    /// Asks for what has changed since version `since`; waits up to `wait` seconds for something to change.
    pub async fn feed(&self, path: &str, bearer: &str, wait: u64) -> Result<Bytes, UpstreamError> {
        self.call(Method::GET, path, Some(bearer), Bytes::new(), Some(bundle::MEDIA_TYPE), wait + 15).await
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Result<Bytes, UpstreamError> {
        self.call(Method::POST, path, None, body.into(), None, 15).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Bytes,
        accept: Option<&str>,
        seconds: u64,
    ) -> Result<Bytes, UpstreamError> {
        let mut last = None;
        for url in &self.urls {
            let url = format!("{}{path}", url.trim_end_matches('/'));
            let call = self.once(&method, &url, bearer, body.clone(), accept);
            match tokio::time::timeout(Duration::from_secs(seconds), call).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(UpstreamError::Timeout { url, seconds }),
            }
        }
        Err(last.unwrap_or_else(|| UpstreamError::Transport {
            url: "nothing".into(),
            source: "no address is configured".into(),
        }))
    }

    async fn once(
        &self,
        method: &Method,
        url: &str,
        bearer: Option<&str>,
        body: Bytes,
        accept: Option<&str>,
    ) -> Result<Bytes, UpstreamError> {
        let transport = |source| UpstreamError::Transport { url: url.into(), source };
        let mut request = Request::builder().method(method).uri(url);
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).map_err(|error| transport(error.into()))?;
        let answer = self.client.request(request).await.map_err(|error| transport(error.into()))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(transport)?.to_bytes();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !parts.status.is_success() || accept.is_some_and(|accept| kind != Some(accept)) {
            let detail = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            return Err(UpstreamError::Answer { url: url.into(), status: parts.status, detail });
        }
        Ok(body)
    }
}
