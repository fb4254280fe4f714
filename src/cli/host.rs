//! Client of this host's daemon: HTTP over its Unix socket.

use std::path::{Path, PathBuf};

use reqwest::{Client, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::{Failure, cause, read, refused};
use super::id::check_path;
use crate::platform::net::provider;

/// Client of the daemon on this host.
pub(super) struct Host {
    client: Client,
    socket: PathBuf,
}

impl Host {
    pub(super) fn new(socket: &Path) -> Result<Self, Failure> {
        provider::install();
        let client = Client::builder()
            .unix_socket(socket)
            .no_proxy()
            .build()
            .map_err(|error| Failure::Usage(cause(&error)))?;
        Ok(Self { client, socket: socket.to_owned() })
    }

    /// Calls `path` and returns the answer's body unchanged.
    pub(super) async fn bytes(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>, Failure> {
        check_path(path)?;
        let unreachable = |error: reqwest::Error| Failure::Unreachable {
            what: format!("the daemon at {}", self.socket.display()),
            why: cause(&error),
        };
        let request = self.client.request(method, format!("http://daemon{path}")).body(body);
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            Ok(bytes.into())
        } else {
            Err(refused("the daemon", status.as_u16(), &bytes))
        }
    }

    /// Calls `path` without a body and returns the JSON answer.
    pub(super) async fn call<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Failure> {
        self.exchange(method, path, Vec::new()).await
    }

    /// Calls `path` with a JSON body and returns the JSON answer.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::Data(format!("the request can't be written: {error}")))?;
        self.exchange(method, path, body).await
    }

    /// Calls `path` with any body and returns the JSON answer.
    pub(super) async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, Failure> {
        read("the daemon", &self.bytes(method, path, body).await?)
    }
}
