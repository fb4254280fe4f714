//! Certificate of the gateway. It is read again when its files change, so that a renewal drops no connection and needs no restart.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_rustls::TlsAcceptor;

use super::config::TlsConfig;
use crate::platform::net::tls::{TlsError, acceptor, read_pair};

/// Interval between two checks of the files. A file watch would miss some changes of the path: a link in a parent
/// directory, a mount, a replaced directory, a network file system.
const LOOKS: Duration = Duration::from_secs(1);

/// Certificate in force.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// TLS acceptor, and the task that checks its files, which ends when this is dropped.
pub(super) struct Certificate {
    pub(super) acceptor: TlsAcceptor,
    _looks: JoinSet<()>,
}

impl Certificate {
    /// Reads the files, and starts to check them.
    pub(super) fn new(config: TlsConfig) -> Result<Self, TlsError> {
        let seen = State::read(&config);
        let current = Arc::new(Current(ArcSwap::from_pointee(read(&config)?)));
        let acceptor = acceptor(Arc::clone(&current) as Arc<dyn ResolvesServerCert>)?;
        let mut looks = JoinSet::new();
        looks.spawn(keep_fresh(Watched { config, current, seen, settled: false }));
        Ok(Self { acceptor, _looks: looks })
    }
}

/// Checks that the files hold a certificate and its key.
pub(super) fn check(config: &TlsConfig) -> Result<(), TlsError> {
    read(config).map(drop)
}

fn read(config: &TlsConfig) -> Result<CertifiedKey, TlsError> {
    read_pair(&config.certificate_file, &config.key_file)
}

/// Identity and times of the two files. `None` if a file does not exist.
#[derive(PartialEq, Eq)]
struct State([Option<[i64; 7]>; 2]);

impl State {
    fn read(config: &TlsConfig) -> Self {
        let of = |file: Metadata| {
            let [device, inode, size] = [file.dev(), file.ino(), file.size()].map(u64::cast_signed);
            [device, inode, size, file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()]
        };
        // `metadata` follows every link of the path.
        Self([&config.certificate_file, &config.key_file].map(|path| std::fs::metadata(path).ok().map(of)))
    }
}

/// Files of the certificate, and their state at the last check.
struct Watched {
    config: TlsConfig,
    current: Arc<Current>,
    seen: State,
    /// A file that is written while it is read may keep its size and time, so it is read once more at the next check.
    settled: bool,
}

impl Watched {
    /// Reads the files again if they differ from those of the last check. It blocks: a network file system may take long.
    fn check(&mut self) {
        let state = State::read(&self.config);
        let changed = state != self.seen;
        if !changed && self.settled {
            return;
        }
        (self.seen, self.settled) = (state, !changed);
        match read(&self.config) {
            Ok(fresh) if fresh.cert != self.current.0.load().cert => {
                self.current.0.store(Arc::new(fresh));
                let certificate = self.config.certificate_file.display();
                tracing::info!(%certificate, "a new certificate is in force");
            }
            // One of the two files may not be in place yet. The old certificate stays until they match.
            Err(error) if changed => {
                tracing::warn!(%error, "the new certificate can't be used; the previous one stays in force");
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Checks the files again and again, on a thread where blocking delays no request.
async fn keep_fresh(mut watched: Watched) {
    loop {
        tokio::time::sleep(LOOKS).await;
        let checked = spawn_blocking(move || {
            watched.check();
            watched
        });
        match checked.await {
            Ok(still) => watched = still,
            // The daemon stops.
            Err(_) => return,
        }
    }
}
