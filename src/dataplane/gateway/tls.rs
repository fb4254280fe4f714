//! The gateway's certificate, read anew when its files change: a renewal drops no connection and needs no restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher as _};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::config::TlsConfig;
use crate::net::tls::{TlsError, acceptor, read_pair};

/// Files that come one after the other are read together.
const SETTLES: Duration = Duration::from_millis(200);

/// Why a certificate is not taken.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// They can't be read, or don't belong together.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Their directory can't be watched.
    #[error("{path} can't be watched: {source}")]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
}

/// The certificate in force.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// A TLS acceptor, and what keeps its certificate fresh: the watching ends when this is dropped.
pub(super) struct Certificate {
    pub(super) acceptor: TlsAcceptor,
    _watcher: notify::RecommendedWatcher,
}

impl Certificate {
    /// Reads the files, and watches them.
    pub(super) fn new(config: TlsConfig) -> Result<Self, CertificateError> {
        let current = Arc::new(Current(ArcSwap::from_pointee(read(&config)?)));
        let acceptor = acceptor(Arc::clone(&current) as Arc<dyn ResolvesServerCert>)?;
        Ok(Self { acceptor, _watcher: watch(config, current)? })
    }
}

/// Whether the files hold a certificate and its key.
pub(super) fn check(config: &TlsConfig) -> Result<(), CertificateError> {
    Ok(read(config).map(drop)?)
}

fn read(config: &TlsConfig) -> Result<CertifiedKey, TlsError> {
    read_pair(&config.certificate_file, &config.key_file)
}

/// Watches the directories, not the files: a renewal puts new files, or new links, in their place.
fn watch(config: TlsConfig, current: Arc<Current>) -> Result<notify::RecommendedWatcher, CertificateError> {
    let (news, mut changes) = mpsc::unbounded_channel();
    let mut directories: Vec<PathBuf> = [&config.certificate_file, &config.key_file]
        .iter()
        .map(|file| match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        })
        .collect();
    directories.dedup();
    let failed = |path: &Path, source| CertificateError::Watch { path: path.into(), source };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the files is an event, too, and would go on for ever.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = news.send(());
        }
    })
    .map_err(|source| failed(&directories[0], source))?;
    for directory in &directories {
        watcher.watch(directory, RecursiveMode::NonRecursive).map_err(|source| failed(directory, source))?;
    }
    tokio::spawn(async move {
        while changes.recv().await.is_some() {
            tokio::time::sleep(SETTLES).await;
            while changes.try_recv().is_ok() {}
            match read(&config) {
                Ok(fresh) if fresh.cert != current.0.load().cert => {
                    current.0.store(Arc::new(fresh));
                    tracing::info!(certificate = %config.certificate_file.display(), "a new certificate is in force");
                }
                Ok(_) => {}
                // One of the two may be on its way still; the old one goes on until they fit.
                Err(error) => tracing::warn!(%error, "the certificate stays as it was"),
            }
        }
    });
    Ok(watcher)
}
