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

    /// Rejects a place of the archives that can't be used. A start only warns of it, because nothing but deploys needs it.
    pub fn examine_archives(config: &Config) -> Result<(), FilesError> {
        let place = config.deploys.store.as_deref();
        let archives = place.map_or_else(|| Ok(Archives::beside(&config.state_dir)), Archives::open)?;
        Ok(archives.examine()?)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::platform::configuration::parse;

    #[test]
    fn a_place_of_archives_where_something_else_stands_is_refused_with_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let (state, file) = (directory.path().display(), directory.path().join("file"));
        let examined = |rest: String| {
            let text = format!(
                "state_dir = '{state}'\nissuer = 'https://c.example'\nlisten = '127.0.0.1:1'\n{rest}"
            );
            Files::examine_archives(&parse::<Config>(std::path::Path::new("control.toml"), &text).unwrap())
                .map_err(|error| error.to_string())
        };
        std::fs::write(&file, "somebody's").unwrap();
        let file = file.display();
        assert_eq!(examined(String::new()), Ok(()));
        for good in [format!("{state}"), format!("{state}/a/b"), "s3://bucket/prefix".to_owned()] {
            assert_eq!(examined(format!("[deploys]\nstore = '{good}'\n")), Ok(()), "{good}");
        }
        for bad in [format!("{file}"), format!("{file}/deploys")] {
            let said = examined(format!("[deploys]\nstore = '{bad}'\n")).unwrap_err();
            assert!(said.contains("deploys.store") && said.contains(&bad), "{said}");
        }
        std::fs::write(directory.path().join("deploys"), "").unwrap();
        assert!(examined(String::new()).unwrap_err().contains("deploys.store"));
    }
}
