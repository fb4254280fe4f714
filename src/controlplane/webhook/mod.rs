//! Webhook: sends announcements to an operator's endpoint, in the format of Standard Webhooks
//! (<https://www.standardwebhooks.com>). The queue is in `announcements`, the attempts are made here, and `retry`
//! decides when they are repeated.

pub mod announcements;
mod retry;
mod secret;
mod sender;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode, Url};
use thiserror::Error;

use self::announcements::Announcement;
pub use self::secret::SecretError;
use self::secret::Secrets;
pub use self::sender::Sender;
use super::config;
use crate::platform::cause;
use crate::platform::net::fields::retry_after;
use crate::platform::net::provider;
use crate::platform::systemd;
use crate::protocol::time::Time;

/// Reasons for which a webhook cannot be set up.
#[derive(Debug, Error)]
pub enum WebhookError {
    /// There is no secret to sign with.
    #[error(
        "webhook.secret_file is not in the configuration, and there is no credential halligan.webhook-secret"
    )]
    NoSecret,
    /// The secrets' file is rejected.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificate authorities cannot be read.
    #[error("the certificate authorities in {path} can't be used: {why}")]
    Authorities {
        /// Path of the file.
        path: PathBuf,
        /// Cause of the failure.
        why: String,
    },
    /// The HTTP client cannot be created.
    #[error("the webhook's client can't be set up: {0}")]
    Client(String),
}

/// Reasons for which an attempt failed. None of them quotes the endpoint.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("it can't be reached: {0}")]
    Unreachable(String),
    #[error("it did not answer within {} seconds", .0.as_secs())]
    Silent(Duration),
    #[error("it answered {status}{}", if .status.is_redirection() { ", and redirects are not followed" } else { "" })]
    Refused { status: StatusCode, retry_after: Option<Duration> },
}

impl Fault {
    /// Returns the pause that the endpoint requested (`Retry-After`).
    fn retry_after(&self) -> Option<Duration> {
        if let Self::Refused { retry_after, .. } = self { *retry_after } else { None }
    }
}

/// Endpoint, with the secrets that sign its messages.
pub struct Webhook {
    client: Client,
    // The path may contain a secret, so the URL must not get into logs or errors.
    url: Url,
    secrets: Secrets,
    patience: Duration,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Webhook({})", self.origin())
    }
}

impl Webhook {
    /// Reads the files that the configuration names.
    pub fn load(config: &config::Webhook) -> Result<Self, WebhookError> {
        let path = config.secret_file.as_deref().ok_or(WebhookError::NoSecret)?;
        let secrets = Secrets::read(path, systemd::is_credential(path))?;
        let patience = config.patience();
        provider::install();
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(patience.min(Duration::from_secs(5)))
            .timeout(patience)
            .referer(false)
            .user_agent(concat!("halligan-control/", env!("CARGO_PKG_VERSION")));
        if config.url.scheme() == "http" {
            // A loopback address must not be reached through a proxy.
            builder = builder.no_proxy();
        }
        if let Some(path) = &config.ca_file {
            builder = builder.tls_certs_only(authorities(path)?);
        }
        let client = builder.build().map_err(|error| WebhookError::Client(innermost(&error)))?;
        Ok(Self { client, url: config.url.clone(), secrets, patience })
    }

    /// Returns the origin of its URL, without the path.
    pub(super) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Sends `announcement` once. Any 2xx status means success; the body of the response is not read.
    async fn attempt(&self, announcement: &Announcement, now: Time) -> Result<(), Fault> {
        let Announcement { id, body, .. } = announcement;
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now.unix())
            .header("webhook-signature", self.secrets.sign(id, now.unix(), body))
            .body(body.clone());
        let answer = request.send().await.map_err(|error| {
            if error.is_timeout() {
                Fault::Silent(self.patience)
            } else {
                Fault::Unreachable(innermost(&error))
            }
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Fault::Refused { status, retry_after: retry_after(answer.headers()) })
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, WebhookError> {
    let failed = |why: String| WebhookError::Authorities { path: path.into(), why };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| failed(innermost(&error)))?;
    if authorities.is_empty() { Err(failed("there is none in it".into())) } else { Ok(authorities) }
}

/// Returns the innermost cause of an error, because the outer ones name the URL.
fn innermost(error: &reqwest::Error) -> String {
    let cause = cause::innermost(error);
    // An error without a cause is the client's own, and may name the URL.
    if std::ptr::addr_eq(cause, error) { "the request failed".into() } else { cause.to_string() }
}
