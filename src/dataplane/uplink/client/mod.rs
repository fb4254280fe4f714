//! HTTPS client of the control plane. Every step is limited in time and size, and redirects are not followed.

mod addresses;
mod archives;
mod attempts;
mod connector;
mod download;
mod error;
mod patience;

pub use self::error::UpstreamError;
pub use self::patience::Patience;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use tempfile::SpooledTempFile;
use tokio::time::timeout;

use self::addresses::Addresses;
pub use self::archives::{receive_archive, rest};
use self::connector::Connector;
use self::download::Download;
pub use self::download::Fault;
use self::error::{printable, refusal};
use crate::platform::net::http_client;
use crate::platform::net::tls;
use crate::protocol::bundle;

/// Maximum size of an answer other than a bundle, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Time for which an unused connection is kept. The control plane closes it after 75 seconds, and a proxy in front of it may do
/// so after 60: a call must not meet a connection that is about to be closed.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Media type of requests.
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Bundle as received, and the address that sent it.
pub struct Received {
    /// Unverified bytes: in memory if they are few, otherwise in an unnamed file.
    pub bytes: SpooledTempFile,
    /// Time since the answer began.
    pub took: Duration,
    /// Index of the address in the configuration.
    pub source: usize,
}

/// Signs a node's proof. Each request needs a new one, since a proof is valid once, also for the same call at another address.
pub type Bearer<'b> = &'b (dyn Fn() -> String + Send + Sync);

/// Body of a request: complete, or piece by piece.
type Sent = Either<Full<Bytes>, Channel<Bytes>>;

/// Client of the control plane.
pub struct Upstream {
    client: Client<HttpsConnector<Connector>, Sent>,
    addresses: Addresses,
    patience: Patience,
    /// Directory for large answers while they arrive.
    spool: PathBuf,
    /// Received part of an answer that broke off.
    partial: Mutex<Option<Download>>,
}

impl Upstream {
    /// Returns a client that trusts the authorities in `ca_file`, or the system's, and stores large answers in the
    /// directory `spool` while they arrive.
    pub fn new(
        urls: Vec<String>,
        ca_file: Option<&Path>,
        spool: PathBuf,
        patience: Patience,
    ) -> Result<Self, UpstreamError> {
        let connector = http_client::over_tls(Connector::new(patience.connect), tls::client(ca_file)?);
        let client = http_client::client(connector, Some(POOL_IDLE));
        Ok(Self { client, addresses: Addresses::new(urls), patience, spool, partial: Mutex::default() })
    }

    /// Requests a bundle, which the control plane may hold back for `hold` seconds while there is nothing new. An
    /// interrupted answer to the same request is resumed, if the control plane still has it.
    pub async fn feed(&self, path: &str, bearer: Bearer<'_>, hold: u64) -> Result<Received, UpstreamError> {
        let mut last = None;
        for (source, url) in self.addresses.in_turn() {
            let url = format!("{url}{path}&wait={hold}");
            match self.feed_from(&url, path, bearer, hold).await {
                Ok((bytes, took)) => {
                    self.addresses.prefer(source);
                    return Ok(Received { bytes, took, source });
                }
                Err(error) => {
                    self.addresses.put_last(source);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(no_address))
    }

    /// Moves the address `source` to the end of the order: its answer was rejected.
    pub fn distrust(&self, source: usize) {
        self.addresses.put_last(source);
    }

    /// Posts JSON without a proof, and returns a short answer.
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Result<Bytes, UpstreamError> {
        self.send(Method::POST, path, None, body).await
    }

    /// Sends JSON, with the proof of `bearer` if there is one, and returns a short answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        bearer: Option<Bearer<'_>>,
        body: Vec<u8>,
    ) -> Result<Bytes, UpstreamError> {
        self.send_as(JSON, method, path, bearer, Bytes::from(body)).await
    }

    async fn send_as(
        &self,
        kind: &'static str,
        method: Method,
        path: &str,
        bearer: Option<Bearer<'_>>,
        body: Bytes,
    ) -> Result<Bytes, UpstreamError> {
        let mut attempts = self.attempts(path);
        while let Some(url) = attempts.next_url() {
            let answer = self.send_to(kind, method.clone(), &url, bearer, body.clone()).await;
            if let Some(settled) = attempts.settle(answer) {
                return settled;
            }
        }
        Err(attempts.failure())
    }

    /// Posts a form with the proof of `bearer`, and returns a short answer.
    pub async fn form(&self, path: &str, bearer: Bearer<'_>, form: &str) -> Result<Bytes, UpstreamError> {
        let body = Bytes::copy_from_slice(form.as_bytes());
        self.send_as(FORM, Method::POST, path, Some(bearer), body).await
    }

    async fn send_to(
        &self,
        kind: &'static str,
        method: Method,
        url: &str,
        bearer: Option<Bearer<'_>>,
        body: Bytes,
    ) -> Result<Bytes, UpstreamError> {
        let mut headers = header::HeaderMap::new();
        if !body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let answer = self
            .request(method, url, bearer, headers, Either::Left(Full::new(body)), self.patience.headers)
            .await?;
        let (parts, body) = answer.into_parts();
        let body = self.short(url, body).await?;
        if parts.status.is_success() {
            Ok(body)
        } else {
            Err(refusal(url, parts.status, &parts.headers, &body))
        }
    }

    async fn feed_from(
        &self,
        url: &str,
        path: &str,
        bearer: Bearer<'_>,
        hold: u64,
    ) -> Result<(SpooledTempFile, Duration), UpstreamError> {
        let mut headers = header::HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(bundle::MEDIA_TYPE));
        let partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner).take();
        let partial = partial.filter(|partial| partial.answers(path));
        if let Some(partial) = &partial {
            partial.ask_for_the_rest(&mut headers);
        }
        let within = self.patience.headers + Duration::from_secs(hold);
        let answer = self
            .request(Method::GET, url, Some(bearer), headers, Either::Left(Full::default()), within)
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.keep(partial);
                return Err(error);
            }
        };
        let status = answer.status();
        if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            let (parts, body) = answer.into_parts();
            return Err(refusal(url, status, &parts.headers, &self.short(url, body).await?));
        }
        let kind = answer.headers().get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != bundle::MEDIA_TYPE) {
            let kind = kind.map_or("nothing", |kind| kind.to_str().unwrap_or("something"));
            return Err(UpstreamError::Kind { url: url.into(), kind: printable(kind.as_bytes()) });
        }
        let (parts, body) = answer.into_parts();
        let mut download = match partial {
            Some(partial) if status == StatusCode::PARTIAL_CONTENT => partial
                .goes_on_in(&parts.headers)
                .ok_or_else(|| UpstreamError::Body { url: url.into(), fault: Fault::Range })?,
            _ if status == StatusCode::PARTIAL_CONTENT => {
                return Err(UpstreamError::Body { url: url.into(), fault: Fault::Range });
            }
            _ => Download::begin(path, &parts.headers, &self.spool),
        };
        match download.receive(body, &self.patience).await {
            Ok(()) => download
                .finish()
                .map_err(|error| UpstreamError::Body { url: url.into(), fault: Fault::Disk(error) }),
            Err(fault) => {
                if fault.can_go_on() {
                    self.keep(Some(download));
                }
                Err(UpstreamError::Body { url: url.into(), fault })
            }
        }
    }

    fn keep(&self, partial: Option<Download>) {
        if let Some(partial) = partial.filter(Download::worth_keeping) {
            *self.partial.lock().unwrap_or_else(PoisonError::into_inner) = Some(partial);
        }
    }

    async fn request(
        &self,
        method: Method,
        url: &str,
        bearer: Option<Bearer<'_>>,
        mut headers: header::HeaderMap,
        body: Sent,
        within: Duration,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let transport = |source| UpstreamError::Transport { url: url.into(), source };
        if let Some(bearer) = bearer {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", bearer()))
                .map_err(|error| transport(error.into()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() =
            url.parse().map_err(|error: hyper::http::uri::InvalidUri| transport(error.into()))?;
        *request.headers_mut() = headers;
        match timeout(within, self.client.request(request)).await {
            Ok(answer) => answer.map_err(|error| transport(error.into())),
            Err(_) => Err(UpstreamError::Timeout { url: url.into(), after: within }),
        }
    }

    /// Reads the body of an answer other than a bundle.
    async fn short(&self, url: &str, body: Incoming) -> Result<Bytes, UpstreamError> {
        match timeout(self.patience.headers, Limited::new(body, MAX_ANSWER).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(source)) => Err(UpstreamError::Transport { url: url.into(), source }),
            Err(_) => Err(UpstreamError::Timeout { url: url.into(), after: self.patience.headers }),
        }
    }
}

fn no_address() -> UpstreamError {
    UpstreamError::Transport { url: "nothing".into(), source: "no address is configured".into() }
}
