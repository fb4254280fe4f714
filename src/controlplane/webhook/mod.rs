//! The webhook: tells an operator's endpoint what is announced, as Standard Webhooks (<https://www.standardwebhooks.com>)
//! says. What waits is in the store (`announcements`); how one attempt goes is here, when it is repeated in `pace`.

mod pace;
mod secret;
mod sender;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode, Url};
use thiserror::Error;

pub use self::secret::SecretError;
use self::secret::Secrets;
pub use self::sender::Sender;
use super::announcements::Announcement;
use super::config;
use crate::protocol::time::Time;
use crate::systemd;

/// Why a webhook can't be set up.
#[derive(Debug, Error)]
pub enum WebhookError {
    /// Nothing to sign with.
    #[error(
        "webhook.secret_file is not in the configuration, and there is no credential halligan.webhook-secret"
    )]
    NoSecret,
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificate authorities.
    #[error("the certificate authorities in {path} can't be used: {why}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The client.
    #[error("the webhook's client can't be set up: {0}")]
    Client(String),
}

/// Why an attempt failed. None of it is the endpoint's own words.
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
    /// How long the endpoint asked to be left alone.
    fn retry_after(&self) -> Option<Duration> {
        if let Self::Refused { retry_after, .. } = self { *retry_after } else { None }
    }
}

/// An endpoint, and what is signed with for it.
pub struct Webhook {
    client: Client,
    // Whoever runs an endpoint may have put a secret into its path: it is in no log and no error.
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
    /// Reads the files the configuration names.
    pub fn load(config: &config::Webhook) -> Result<Self, WebhookError> {
        let path = config.secret_file.as_deref().ok_or(WebhookError::NoSecret)?;
        let secrets = Secrets::read(path, systemd::is_credential(path))?;
        let patience = config.patience();
        // Installed already by the listener of this process: the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(patience.min(Duration::from_secs(5)))
            .timeout(patience)
            .referer(false)
            .user_agent(concat!("halligan-control/", env!("CARGO_PKG_VERSION")));
        if config.url.scheme() == "http" {
            // It is on this host.
            builder = builder.no_proxy();
        }
        if let Some(path) = &config.ca_file {
            builder = builder.tls_certs_only(authorities(path)?);
        }
        let client = builder.build().map_err(|error| WebhookError::Client(innermost(&error)))?;
        Ok(Self { client, url: config.url.clone(), secrets, patience })
    }

    /// Where it is, without its path.
    pub(super) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Tells `announcement` once. Any 2xx says that it has arrived; the body of the answer is not read.
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
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err(Fault::Refused { status, retry_after: seconds.map(Duration::from_secs) })
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, WebhookError> {
    let failed = |why: String| WebhookError::Authorities { path: path.into(), why };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| failed(innermost(&error)))?;
    if authorities.is_empty() { Err(failed("there is none in it".into())) } else { Ok(authorities) }
}

/// The cause at the bottom: the layers above it name the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // One without a cause is the client's own, and may name the URL.
    if std::ptr::addr_eq(cause, error) { "the request failed".into() } else { cause.to_string() }
}
