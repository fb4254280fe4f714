//! Uploads of archives: to the URL that the control plane gave for one, or to the daemon of a host.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use http_body_util::channel::Channel;
use hyper::body::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Client};
use serde::de::DeserializeOwned;

use super::control::{api_token, client};
use super::failure::{Failure, cause, read, refused};
use crate::platform::net::origin::keeps_secrets;
use crate::protocol::deploy::MEDIA_TYPE;

/// Size of a piece, in bytes, and pieces that wait to be sent.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;
/// Time limit of an upload. A gigabyte takes a quarter of it at 2.5 Mbit/s.
const PATIENCE: Duration = Duration::from_hours(4);

/// Client that sends archives.
pub(super) struct Upload {
    client: Client,
    url: String,
    /// Name of the receiver in errors.
    what: String,
}

fn check(url: &str) -> Result<(), Failure> {
    if keeps_secrets(url) {
        return Ok(());
    }
    let shown = url.split('?').next().unwrap_or_default();
    Err(Failure::Usage(format!(
        "{shown:?} is not https:// (or http:// on loopback), and the code would go there in the clear; use https://"
    )))
}

impl Upload {
    /// Returns a client of an upload URL, which authenticates by itself. It may be anywhere, so it is not given the
    /// caller's token.
    pub(super) fn to_url(url: String, ca_file: Option<&Path>) -> Result<Self, Failure> {
        check(&url)?;
        Ok(Self { client: client(None, ca_file)?, url, what: "the control plane".into() })
    }

    /// Returns a client of a path of the daemon at `host`, with the caller's token.
    pub(super) fn to_host(
        host: &str,
        path: &str,
        token_file: Option<&Path>,
        ca_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        check(host)?;
        let client = client(Some(&api_token(token_file)?), ca_file)?;
        let url = format!("{}{path}", host.trim_end_matches('/'));
        Ok(Self { client, url, what: format!("the host at {host}") })
    }

    /// Sends a file, and returns the body of the answer.
    pub(super) async fn send(&self, mut file: File, size: u64) -> Result<Vec<u8>, Failure> {
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(PIECES);
        let reading = tokio::spawn(async move {
            loop {
                let piece = tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; PIECE];
                    let read = file.read(&mut piece);
                    read.map(|read| {
                        piece.truncate(read);
                        (file, piece)
                    })
                });
                match piece.await.map_err(std::io::Error::other).flatten() {
                    Ok((_, piece)) if piece.is_empty() => return,
                    Ok((rest, piece)) => {
                        file = rest;
                        if sender.send_data(piece.into()).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => return sender.abort(error),
                }
            }
        });
        let request = self
            .client
            .put(&self.url)
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .header(CONTENT_LENGTH, size)
            .timeout(PATIENCE)
            .body(Body::wrap(body));
        let unreachable =
            |error: reqwest::Error| Failure::Unreachable { what: self.what.clone(), why: cause(&error) };
        let answer = request.send().await;
        reading.abort();
        let answer = answer.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(unreachable)?;
        if status.is_success() { Ok(body.into()) } else { Err(refused(&self.what, status.as_u16(), &body)) }
    }

    /// Sends a file, and reads the answer.
    pub(super) async fn send_for<T: DeserializeOwned>(&self, file: File, size: u64) -> Result<T, Failure> {
        read(&self.what, &self.send(file, size).await?)
    }
}
