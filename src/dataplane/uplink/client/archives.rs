//! Archives of code: received piece by piece into a file, and sent from one.

use std::fs::File;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Either};
use hyper::body::{Bytes, Incoming as Body};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::time::timeout;

use super::{Bearer, Fault, Patience, Upstream, UpstreamError, no_address, refusal};
use crate::dataplane::code::{Incoming, ReceiveError, body_of};
use crate::protocol::deploy::MEDIA_TYPE;

/// Passes the pieces of a body to `take`, within the limits of `patience`. `before` bytes arrived earlier.
pub(super) async fn receive_body(
    mut body: Body,
    patience: &Patience,
    before: u64,
    take: &mut (dyn FnMut(&[u8]) -> Result<(), Fault> + Send),
) -> Result<(), Fault> {
    let (started, mut length) = (Instant::now(), before);
    loop {
        let came = length - before;
        let allowed = patience.grace + Duration::from_secs(came / patience.rate.max(1));
        let left = allowed.min(patience.total).checked_sub(started.elapsed());
        let slow = |length| Fault::Slow { length, within: started.elapsed() };
        let left = left.ok_or_else(|| slow(length))?.min(patience.idle);
        let frame = match timeout(left, body.frame()).await {
            Err(_) => return Err(slow(length)),
            Ok(None) => return Ok(()),
            Ok(Some(Err(_))) => return Err(Fault::Broken(length)),
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers are ignored.
        let Ok(piece) = frame.into_data() else { continue };
        take(&piece)?;
        length += piece.len() as u64;
    }
}

/// Receives the answer to a request for an archive, of which `incoming` may hold a part (RFC 9110 section 14).
pub async fn receive_archive(
    status: StatusCode,
    headers: &HeaderMap,
    body: Body,
    patience: &Patience,
    incoming: &mut Incoming,
) -> Result<(), Fault> {
    if status == StatusCode::PARTIAL_CONTENT {
        let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let start =
            range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')).map(|(start, _)| start);
        if start.and_then(|start| start.parse().ok()) != Some(incoming.length()) {
            return Err(Fault::Range);
        }
    } else {
        incoming.restart().map_err(fault)?;
    }
    let before = incoming.length();
    receive_body(body, patience, before, &mut |piece| incoming.write(piece).map_err(fault)).await
}

/// Returns the header that asks for the part of an archive that did not come yet.
#[must_use]
pub fn rest(incoming: &Incoming) -> Option<HeaderValue> {
    let length = incoming.length();
    (length > 0).then(|| HeaderValue::from_str(&format!("bytes={length}-")).ok()).flatten()
}

fn fault(error: ReceiveError) -> Fault {
    match error {
        ReceiveError::TooLarge(most) => Fault::TooLarge(most),
        ReceiveError::Disk { source, .. } => Fault::Disk(source),
        other @ ReceiveError::Another { .. } => Fault::Disk(std::io::Error::other(other)),
    }
}

impl Upstream {
    /// Downloads an archive, or what is missing of it.
    pub async fn download(
        &self,
        path: &str,
        bearer: Bearer<'_>,
        incoming: &mut Incoming,
    ) -> Result<(), UpstreamError> {
        let mut last = None;
        for (source, url) in self.addresses.in_turn() {
            let url = format!("{url}{path}");
            match self.download_from(&url, bearer, incoming).await {
                Ok(()) => {
                    self.addresses.prefer(source);
                    return Ok(());
                }
                // A refusal is the same at all addresses of the control plane.
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

    async fn download_from(
        &self,
        url: &str,
        bearer: Bearer<'_>,
        incoming: &mut Incoming,
    ) -> Result<(), UpstreamError> {
        let mut headers = HeaderMap::new();
        headers.extend(rest(incoming).map(|range| (header::RANGE, range)));
        let none = Either::Left(http_body_util::Full::default());
        let answer =
            self.request(Method::GET, url, Some(bearer), headers, none, self.patience.headers).await?;
        let (parts, body) = answer.into_parts();
        if !matches!(parts.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Err(refusal(url, parts.status, &self.short(url, body).await?));
        }
        let received = receive_archive(parts.status, &parts.headers, body, &self.patience, incoming).await;
        received.map_err(|fault| UpstreamError::Body { url: url.into(), fault })
    }

    /// Sends an archive of `size` bytes.
    pub async fn upload(
        &self,
        path: &str,
        bearer: Bearer<'_>,
        open: &(dyn Fn() -> std::io::Result<File> + Send + Sync),
        size: u64,
    ) -> Result<Bytes, UpstreamError> {
        let mut last = None;
        for (source, url) in self.addresses.in_turn() {
            let url = format!("{url}{path}");
            let disk = |error| UpstreamError::Body { url: url.clone(), fault: Fault::Disk(error) };
            let file = open().map_err(disk)?;
            match self.upload_to(&url, bearer, file, size).await {
                Ok(answer) => {
                    self.addresses.prefer(source);
                    return Ok(answer);
                }
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

    async fn upload_to(
        &self,
        url: &str,
        bearer: Bearer<'_>,
        file: File,
        size: u64,
    ) -> Result<Bytes, UpstreamError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        let (body, feeding) = body_of(file, self.patience.idle);
        let body = Either::Right(body);
        let answer = self.request(Method::PUT, url, Some(bearer), headers, body, self.patience.total).await;
        feeding.abort();
        let (parts, body) = answer?.into_parts();
        let body = self.short(url, body).await?;
        if parts.status.is_success() { Ok(body) } else { Err(refusal(url, parts.status, &body)) }
    }
}
