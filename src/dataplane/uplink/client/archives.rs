//! Archives of code: received piece by piece into a file, and sent from one.

use std::fs::File;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Either};
use hyper::body::{Bytes, Incoming as Body};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::time::timeout;

use super::{Bearer, Fault, Patience, Upstream, UpstreamError, refusal};
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
        let mut attempts = self.attempts(path);
        while let Some(url) = attempts.next_url() {
            let received = self.download_from(&url, bearer, incoming).await;
            if let Some(settled) = attempts.settle(received) {
                return settled;
            }
        }
        Err(attempts.failure())
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
            return Err(refusal(url, parts.status, &parts.headers, &self.short(url, body).await?));
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
        let mut attempts = self.attempts(path);
        while let Some(url) = attempts.next_url() {
            let disk = |error| UpstreamError::Body { url: url.clone(), fault: Fault::Disk(error) };
            let file = open().map_err(disk)?;
            if let Some(settled) = attempts.settle(self.upload_to(&url, bearer, file, size).await) {
                return settled;
            }
        }
        Err(attempts.failure())
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
        if parts.status.is_success() {
            Ok(body)
        } else {
            Err(refusal(url, parts.status, &parts.headers, &body))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;

    use getrandom::SysRng;
    use rand_core::UnwrapErr;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::dataplane::code::{Code, Wanted};
    use crate::dataplane::decide::snapshot::Snapshot;
    use crate::dataplane::node::credential::{Nonces, Prover};
    use crate::dataplane::node::identity::Identity;
    use crate::dataplane::node::state::Live;
    use crate::protocol::key::SigningKey;
    use crate::protocol::time::Time;

    /// Answers one request after the other with these bytes. Returns the URL, and the heads that came.
    fn scripted(answers: &[&str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let served = std::thread::spawn(move || {
            let mut heads = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                    head.push(byte[0]);
                }
                heads.push(String::from_utf8(head).unwrap().to_lowercase());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            heads
        });
        (url, served)
    }

    fn code(directory: &std::path::Path) -> Code {
        let identity = Identity {
            node_id: "nod_a".parse().unwrap(),
            data_plane_id: "dpl_a".parse().unwrap(),
            issuer: "https://control.example".into(),
        };
        let (key, nonces) = (Arc::new(SigningKey::from_seed(&[1; 32])), Nonces::new(&mut UnwrapErr(SysRng)));
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), Time::default()));
        Code::new(directory.join("code"), 3, Arc::new(Prover { identity, key, nonces }), live, [0; 16])
    }

    #[tokio::test]
    async fn a_download_that_broke_off_goes_on_and_one_that_goes_on_elsewhere_is_given_up() {
        const HEAD: &str = "\r\nConnection: close\r\n\r\n";
        let (url, served) = scripted(&[
            &format!("HTTP/1.1 200 OK\r\nContent-Length: 6{HEAD}abc"),
            &format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-5/6\r\nContent-Length: 4{HEAD}cdef"
            ),
            &format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-5/6\r\nContent-Length: 3{HEAD}def"
            ),
        ]);
        let directory = tempfile::tempdir().unwrap();
        let code = code(directory.path());
        let upstream = Upstream::new(vec![url], None, directory.path().into(), Patience::default()).unwrap();
        let wanted = Wanted {
            deployment: "dep_a".parse().unwrap(),
            deploy: "c1".parse().unwrap(),
            digest: Sha256::digest(b"abcdef").into(),
            size: 6,
            signed: true,
        };
        let bearer = || "proof".to_owned();
        let mut faults = Vec::new();
        for length in [0, 3, 3] {
            let mut incoming = code.receive(&wanted).unwrap();
            assert_eq!(incoming.length(), length);
            match upstream.download("/a", &bearer, &mut incoming).await {
                Ok(()) => code.arrived(&wanted, incoming).unwrap(),
                Err(error) => faults.push(error.to_string()),
            }
        }
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(
            faults[0].contains("broke off after 3 bytes") && faults[1].contains("not the part"),
            "{faults:?}"
        );
        let heads = served.join().unwrap();
        assert!(!heads[0].contains("range:") && heads[1].contains("\r\nrange: bytes=3-\r\n"));
    }

    #[tokio::test]
    async fn a_whole_answer_to_a_request_for_the_rest_begins_anew() {
        let half = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nxyz";
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nabcdef";
        let longer = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nabcdefg";
        let (url, served) = scripted(&[half, whole, longer]);
        let directory = tempfile::tempdir().unwrap();
        let code = code(directory.path());
        let upstream = Upstream::new(vec![url], None, directory.path().into(), Patience::default()).unwrap();
        let wanted = |deploy: &str| Wanted {
            deployment: "dep_a".parse().unwrap(),
            deploy: deploy.parse().unwrap(),
            digest: Sha256::digest(b"abcdef").into(),
            size: 6,
            signed: true,
        };
        let bearer = || "proof".to_owned();
        let mut incoming = code.receive(&wanted("c1")).unwrap();
        upstream.download("/a", &bearer, &mut incoming).await.unwrap_err();
        upstream.download("/a", &bearer, &mut incoming).await.unwrap();
        code.arrived(&wanted("c1"), incoming).unwrap();
        let mut incoming = code.receive(&wanted("c2")).unwrap();
        let error = upstream.download("/a", &bearer, &mut incoming).await.unwrap_err();
        assert!(error.to_string().contains("larger than 6 bytes"), "{error}");
        served.join().unwrap();
    }
}
