//! Certificate of the gateway. It is read again when its files change, so that a renewal drops no connection and needs no restart.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::config::TlsConfig;
use crate::net::tls::{TlsError, acceptor, read_pair};

/// Time between two looks at the files. No watch tells of all that changes what a path leads to: a link anywhere on the way, a
/// mount, a directory in place of another, a file system of another host.
const LOOKS: Duration = Duration::from_secs(1);

/// Certificate in force.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// A TLS acceptor, and what keeps its certificate fresh: it ends when this is dropped.
pub(super) struct Certificate {
    pub(super) acceptor: TlsAcceptor,
    _looks: JoinSet<()>,
}

impl Certificate {
    /// Reads the files, and looks at them from then on.
    pub(super) fn new(config: TlsConfig) -> Result<Self, TlsError> {
        let seen = State::of(&config);
        let current = Arc::new(Current(ArcSwap::from_pointee(read(&config)?)));
        let acceptor = acceptor(Arc::clone(&current) as Arc<dyn ResolvesServerCert>)?;
        let mut looks = JoinSet::new();
        looks.spawn(keep_fresh(config, current, seen));
        Ok(Self { acceptor, _looks: looks })
    }
}

/// Whether the files hold a certificate and its key.
pub(super) fn check(config: &TlsConfig) -> Result<(), TlsError> {
    read(config).map(drop)
}

fn read(config: &TlsConfig) -> Result<CertifiedKey, TlsError> {
    read_pair(&config.certificate_file, &config.key_file)
}

/// Which files the paths lead to, and when those were last changed. None: there is no such file.
#[derive(PartialEq, Eq)]
struct State([Option<[i64; 7]>; 2]);

impl State {
    fn of(config: &TlsConfig) -> Self {
        let of = |file: Metadata| {
            let [device, inode, size] = [file.dev(), file.ino(), file.size()].map(u64::cast_signed);
            [device, inode, size, file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()]
        };
        // This follows every link on the way.
        Self([&config.certificate_file, &config.key_file].map(|path| std::fs::metadata(path).ok().map(of)))
    }
}

/// Reads the files when they are not what was `seen` last.
async fn keep_fresh(config: TlsConfig, current: Arc<Current>, mut seen: State) {
    // A file that is written while it is read can look as it did before: it is read again at the next look.
    let mut settled = false;
    loop {
        tokio::time::sleep(LOOKS).await;
        let state = State::of(&config);
        let changed = state != seen;
        if !changed && settled {
            continue;
        }
        (seen, settled) = (state, !changed);
        match read(&config) {
            Ok(fresh) if fresh.cert != current.0.load().cert => {
                current.0.store(Arc::new(fresh));
                tracing::info!(certificate = %config.certificate_file.display(), "a new certificate is in force");
            }
            Ok(_) => {}
            // One of the two may be on its way still; the old one goes on until they fit.
            Err(error) if changed => tracing::warn!(%error, "the certificate stays as it was"),
            Err(_) => {}
        }
    }
}
