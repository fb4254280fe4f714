//! Files that a start reads. `check-config` reads them with the same function, so that it refuses what a start would refuse.

use thiserror::Error;
use tokio_rustls::TlsAcceptor;

use super::archives::{Archives, ArchivesError};
use super::config::Config;
use super::signing::{Signing, SigningError};
use super::webhook::{Webhook, WebhookError};
use crate::platform::certificate;
use crate::platform::net::tls::{TlsError, acceptor_of};
use crate::protocol::ends::End;

/// Reasons why a control plane can't start with its files.
#[derive(Debug, Error)]
pub enum FilesError {
    /// The keys or keysets can't be used.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The certificate and its key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The webhook can't be set up.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The place of the archives can't be used.
    #[error(transparent)]
    Archives(#[from] ArchivesError),
}

/// Parts of a control plane that are made of files and of the configuration.
pub struct Files {
    /// Keys that it signs with, and their keysets.
    pub signing: Signing,
    /// TLS of its listener, if it terminates TLS itself.
    pub tls: Option<TlsAcceptor>,
    /// Expiry of the listener's certificate.
    pub certificate: Option<End>,
    /// Endpoint that its announcements are sent to, if there is one.
    pub webhook: Option<Webhook>,
    /// Place of the archives of code, if the configuration names one.
    pub archives: Option<Archives>,
}

impl Files {
    /// Reads the files that the configuration names, and those in the state directory.
    pub fn read(config: &Config) -> Result<Self, FilesError> {
        let signing = Signing::load(&config.state_dir)?;
        signing.check_issuer(&config.issuer)?;
        let tls = config.tls.as_ref().map(|tls| acceptor_of(&tls.certificate, &tls.key)).transpose()?;
        let certificate = certificate_end(config);
        let webhook = read_webhook(config)?;
        let archives = config.deploys.store.as_deref().map(Archives::open).transpose()?;
        Ok(Self { signing, tls, certificate, webhook, archives })
    }
}

/// Reads the secret of the webhook, and returns the endpoint, if there is one.
pub fn read_webhook(config: &Config) -> Result<Option<Webhook>, WebhookError> {
    config.webhook.as_ref().map(Webhook::load).transpose()
}

/// Returns the expiry of the listener's certificate. An unknown expiry is only logged: rustls decides whether the file
/// can be served.
fn certificate_end(config: &Config) -> Option<End> {
    let end = certificate::end(&config.tls.as_ref()?.certificate);
    end.inspect_err(|error| tracing::warn!(%error, "the expiry of the certificate can't be read")).ok()
}
