//! Archives of code between peers. Their digests stand in signed deploys, so that a peer can withhold one, but not change it.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use thiserror::Error;
use tokio::time::timeout;

use crate::dataplane::code::{Code, ReceiveError, Wanted};
use crate::dataplane::node::credential::Prover;
use crate::dataplane::uplink::client::{Fault, Patience, receive_archive, rest};
use crate::platform::clock::Clock;
use crate::platform::net::http_client::HttpClient;
use crate::protocol::id::NodeId;

/// Path of archives. The ids of the deployment and of the deploy follow.
pub(super) const ARCHIVES: &str = "/v2/peer/deploys/";

/// Part of an archive that a peer asked for.
pub(super) struct Part {
    pub(super) file: File,
    pub(super) start: u64,
    pub(super) size: u64,
}

impl Part {
    /// Finds the archive at `path`, from the byte on that a header `Range: bytes=N-` names (RFC 9110 section 14.2). Any other
    /// range is ignored.
    pub(super) fn find(code: &Code, path: &str, headers: &HeaderMap) -> Option<Self> {
        let (deployment, deploy) = path.strip_prefix(ARCHIVES)?.split_once('/')?;
        let (mut file, size) = code.archive(&deployment.parse().ok()?, &deploy.parse().ok()?)?;
        let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
        let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let start = start.filter(|start| *start < size).unwrap_or(0);
        file.seek(SeekFrom::Start(start)).ok()?;
        Some(Self { file, start, size })
    }

    /// Writes status and headers of the answer.
    pub(super) fn describe(&self, status: &mut StatusCode, headers: &mut HeaderMap) {
        if self.start > 0 {
            *status = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {}-{}/{}", self.start, self.size - 1, self.size);
            headers.extend(HeaderValue::from_str(&range).ok().map(|range| (header::CONTENT_RANGE, range)));
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.size - self.start));
    }
}

#[derive(Debug, Error)]
enum FetchError {
    #[error("it can't be reached: {0}")]
    Transport(Box<dyn std::error::Error + Send + Sync>),
    #[error("it did not answer in time")]
    Timeout,
    #[error("it answered {0}")]
    Status(u16),
    #[error("its archive was given up: {0}")]
    Body(#[from] Fault),
    #[error("its archive is not stored: {0}")]
    Receive(#[from] ReceiveError),
    #[error("the thread of the disk ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Fetches archives from one peer.
pub(super) struct Archives {
    pub(super) code: Arc<Code>,
    pub(super) prover: Arc<Prover>,
    pub(super) clock: Clock,
    pub(super) client: HttpClient<Full<Bytes>>,
    pub(super) url: String,
    /// Node that answered at the address.
    pub(super) peer: NodeId,
}

impl Archives {
    /// Fetches what is wanted and what the peer has.
    pub(super) async fn fetch(self, wanted: Vec<Wanted>) {
        for wanted in wanted {
            let Wanted { deployment, deploy, .. } = &wanted;
            match self.fetch_one(&wanted).await {
                Ok(()) => tracing::info!(peer = self.url, %deployment, %deploy, "a peer sent an archive"),
                Err(error) => {
                    let disk = matches!(
                        &error,
                        FetchError::Receive(_) | FetchError::Body(Fault::Disk(_) | Fault::TooLarge(_))
                    );
                    if disk {
                        self.code.failed(&wanted, &format!("peer {}: {error}", self.url), (self.clock)());
                    }
                    tracing::debug!(peer = self.url, %deployment, %deploy, %error, "no archive came from a peer");
                }
            }
        }
    }

    async fn fetch_one(&self, wanted: &Wanted) -> Result<(), FetchError> {
        // A client of this host, or another peer, may be sending one.
        let Some(claim) = self.code.claim(&wanted.deployment) else { return Ok(()) };
        let (code, asked) = (Arc::clone(&self.code), wanted.clone());
        let mut incoming = tokio::task::spawn_blocking(move || code.receive(&asked)).await??;
        let (patience, now) = (Patience::default(), (self.clock)());
        let bearer = self.prover.jwt(self.peer.as_str(), &self.prover.nonces.next(), now);
        let uri = format!("{}{ARCHIVES}{}/{}", self.url, wanted.deployment, wanted.deploy);
        let mut request = Request::get(uri).header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        if let Some(range) = rest(&incoming) {
            request = request.header(header::RANGE, range);
        }
        let request = request.body(Full::default()).map_err(|error| FetchError::Transport(error.into()))?;
        let answer = timeout(patience.headers, self.client.request(request)).await;
        let answer = answer.map_err(|_| FetchError::Timeout)?;
        let answer = answer.map_err(|error| FetchError::Transport(error.into()))?;
        let (parts, body) = answer.into_parts();
        if !matches!(parts.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Err(FetchError::Status(parts.status.as_u16()));
        }
        receive_archive(parts.status, &parts.headers, body, &patience, &mut incoming).await?;
        let (code, wanted, now) = (Arc::clone(&self.code), wanted.clone(), (self.clock)());
        tokio::task::spawn_blocking(move || {
            code.arrived(&wanted, incoming)?;
            code.settle_one(&claim, false, now);
            Ok::<_, FetchError>(())
        })
        .await?
    }
}

/// Time limit for a peer to take a piece of an archive.
pub(super) const IDLE: Duration = Duration::from_secs(30);
