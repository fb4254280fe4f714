//! The network between a node and its control plane: HTTPS, every step bounded in time and size, redirects not followed.

mod addresses;
mod connector;
mod download;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::SpooledTempFile;
use thiserror::Error;
use tokio::time::timeout;

use self::addresses::Addresses;
use self::connector::Connector;
use self::download::{Download, Fault};
use super::sync::state::Outcome;
use crate::protocol::bundle;

/// Where Debian keeps the certificate authorities it trusts.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The largest answer taken that is no bundle, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// What is sent.
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// How long each step may take, and how large a bundle may be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To connect to one address.
    pub connect: Duration,
    /// From the first packet to the headers of an answer, besides what the answer may be held back.
    pub headers: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// How long a body may be slower than `rate`, in all.
    pub grace: Duration,
    /// How fast a body must come, in bytes a second.
    pub rate: u64,
    /// For a whole body.
    pub total: Duration,
    /// The largest bundle, compressed, in bytes.
    pub size: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            headers: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            rate: 8 << 10,
            total: Duration::from_mins(30),
            size: 256 << 20,
        }
    }
}

/// Why a call to the control plane failed.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// The certificate authorities can't be read.
    #[error("the certificate authorities in {0} can't be read")]
    Authorities(PathBuf),
    /// No answer in time.
    #[error("{url} did not answer within {} seconds", .after.as_secs_f32())]
    Timeout {
        /// What was called.
        url: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// No connection, or a broken one.
    #[error("{url} can't be reached: {}", innermost(&**source))]
    Transport {
        /// What was called.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer broke off, came too slowly, or would not end.
    #[error("the answer of {url} was given up: {fault}")]
    Body {
        /// What was called.
        url: String,
        /// What was wrong with it.
        fault: Fault,
    },
    /// Another answer than asked for.
    #[error("{url} answered {status}: {detail}")]
    Answer {
        /// What was called.
        url: String,
        /// The status.
        status: StatusCode,
        /// The stable code of a refusal; empty where none was given.
        code: String,
        /// The beginning of the answer.
        detail: String,
    },
    /// An answer of another kind than asked for.
    #[error(
        "{url} answered with {kind}, which is no bundle: something else answers in the control plane's place"
    )]
    Kind {
        /// What was called.
        url: String,
        /// The media type.
        kind: String,
    },
}

impl UpstreamError {
    /// What it means for the state of sync. A refusal is an answer of the control plane itself; what a gateway in front of
    /// it says in its place, or a login page, is none.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Answer { status, .. } if status.is_client_error() => Outcome::Refused,
            Self::Body { fault: Fault::Disk(_) | Fault::TooLarge(_), .. } => Outcome::Refused,
            _ => Outcome::Unreachable,
        }
    }

    /// What the control plane says of this node if it says that it was retired. Unsigned, it is a reason for an alarm and for
    /// nothing else.
    #[must_use]
    pub fn retired(&self) -> Option<&str> {
        match self {
            Self::Answer { code, detail, .. } if code == "node_retired" => Some(detail),
            _ => None,
        }
    }

    /// Whether asking again comes to nothing: what stands on this host contradicts what stands above.
    #[must_use]
    pub fn contradicts(&self) -> bool {
        matches!(self, Self::Answer { status, code, .. } if *status == StatusCode::CONFLICT && !code.is_empty())
    }

    /// Whether there was nobody to talk to, rather than somebody who did not listen to the end.
    #[must_use]
    pub fn nobody_there(&self) -> bool {
        let Self::Transport { source, .. } = self else { return false };
        source.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect)
    }
}

/// The cause at the bottom: the layers above it only say that something below them failed.
pub(super) fn innermost<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> &'e (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// TLS as a client that trusts the authorities in `ca_file`, or the system's.
pub(super) fn client_tls(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, UpstreamError> {
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
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| unreadable())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// A bundle as it came, and from which of the addresses.
pub struct Received {
    /// Its bytes, unverified: in memory while they are few, else in a file without a name.
    pub bytes: SpooledTempFile,
    /// How long ago it began to come: as old as that it was when it was asked for.
    pub took: Duration,
    /// The address, by its place in the configuration.
    pub source: usize,
}

/// Makes a node's proof. Each request has its own, since a proof counts once: also the same call at another address.
pub type Bearer<'b> = &'b (dyn Fn() -> String + Send + Sync);

/// A client of the control plane.
pub struct Upstream {
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
    addresses: Addresses,
    patience: Patience,
    /// Where large answers are kept while they come.
    spool: PathBuf,
    /// What came of an answer that broke off.
    partial: Mutex<Option<Download>>,
}

impl Upstream {
    /// A client that trusts the authorities in `ca_file`, or the system's, and keeps large answers in the directory `spool`
    /// while they come.
    pub fn new(
        urls: Vec<String>,
        ca_file: Option<&Path>,
        spool: PathBuf,
        patience: Patience,
    ) -> Result<Self, UpstreamError> {
        let tls = client_tls(ca_file)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector::new(patience.connect));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, addresses: Addresses::new(urls), patience, spool, partial: Mutex::default() })
    }

    /// Asks for a bundle, which may be held back for `hold` seconds while there is nothing new in it. An answer to the same
    /// question that broke off is taken up where it broke, if the control plane still has it.
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

    /// Asks the address `source` after the others from now on: what it said was not believed.
    pub fn distrust(&self, source: usize) {
        self.addresses.put_last(source);
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Result<Bytes, UpstreamError> {
        self.send(Method::POST, path, None, body).await
    }

    /// Sends JSON, as the node that `bearer` proves if there is one, and takes a short answer.
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
        let mut last = None;
        for (source, url) in self.addresses.in_turn() {
            let url = format!("{url}{path}");
            match self.send_to(kind, method.clone(), &url, bearer, body.clone()).await {
                Ok(answer) => {
                    self.addresses.prefer(source);
                    return Ok(answer);
                }
                // What the control plane refuses at one of its addresses it refuses at all of them.
                Err(error @ UpstreamError::Answer { status, .. }) if status.is_client_error() => {
                    return Err(error);
                }
                Err(error) => {
                    self.addresses.put_last(source);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(no_address))
    }

    /// Posts a form as the node that `bearer` proves, and takes a short answer.
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
        let answer = self.request(method, url, bearer, headers, body, self.patience.headers).await?;
        let status = answer.status();
        let body = self.short(url, answer.into_body()).await?;
        if status.is_success() { Ok(body) } else { Err(refusal(url, status, &body)) }
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
        let answer = self.request(Method::GET, url, Some(bearer), headers, Bytes::new(), within).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.keep(partial);
                return Err(error);
            }
        };
        let status = answer.status();
        if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Err(refusal(url, status, &self.short(url, answer.into_body()).await?));
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
        body: Bytes,
        within: Duration,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let transport = |source| UpstreamError::Transport { url: url.into(), source };
        if let Some(bearer) = bearer {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", bearer()))
                .map_err(|error| transport(error.into()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() =
            url.parse().map_err(|error: hyper::http::uri::InvalidUri| transport(error.into()))?;
        *request.headers_mut() = headers;
        match timeout(within, self.client.request(request)).await {
            Ok(answer) => answer.map_err(|error| transport(error.into())),
            Err(_) => Err(UpstreamError::Timeout { url: url.into(), after: within }),
        }
    }

    /// Reads the body of an answer that is not a bundle.
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

fn refusal(url: &str, status: StatusCode, body: &[u8]) -> UpstreamError {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let member = |name: &str| problem.as_ref().and_then(|problem| problem[name].as_str().map(str::as_bytes));
    let code = printable(member("code").unwrap_or_default());
    UpstreamError::Answer {
        url: url.into(),
        status,
        code,
        detail: printable(member("detail").unwrap_or(body)),
    }
}

/// The beginning of what a stranger sent, as it may stand in a log and on a terminal.
fn printable(bytes: &[u8]) -> String {
    let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' };
    bytes[..bytes.len().min(300)].iter().map(shown).collect()
}
