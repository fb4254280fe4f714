//! Trust directory of a host: root keys (`*.pem`) and keysets (`keyset*.json`) that its operator installs, read while the
//! daemon runs. An invalid file raises an alarm, and the previous state stays in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher as _};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};

use super::replication::Replication;
use super::store::StoreError;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::identity::{IdentityError, pinned_roots};
use crate::platform::clock::Clock;
use crate::platform::failing::Failing;
use crate::protocol::keyset::{KeysetError, UnverifiedKeyset};
use crate::protocol::time::Time;

/// Interval at which the directory is read without a notification: some file systems send none.
const LOOK: Duration = Duration::from_mins(1);
/// Time without changes before the directory is read, so that a copy can finish.
const SETTLE: Duration = Duration::from_millis(200);

/// Reasons why a file is rejected.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The root keys cannot be read.
    #[error("{0}; the roots that were pinned stay pinned")]
    Roots(#[from] IdentityError),
    /// The roots are valid, but do not prove the keysets held.
    #[error(
        "the root keys in {path} do not vouch for the keysets held ({source}); the roots that were pinned stay pinned \
         until the daemon is started anew, which sets the replica aside"
    )]
    Strangers {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the store.
        source: StoreError,
    },
    /// A keyset file cannot be read.
    #[error("{path} can't be read: {source}; no keyset is taken from it")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// The file holds no valid keyset.
    #[error("{path} is not taken: {source}")]
    Keyset {
        /// Path of the file.
        path: PathBuf,
        /// Error of the keyset.
        source: KeysetError,
    },
    /// The keysets do not follow the one held.
    #[error("the keysets in {path} are not followed: {source}")]
    Refused {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the store.
        source: StoreError,
    },
}

/// Trust directory of the host.
pub struct TrustDirectory {
    path: PathBuf,
    threshold: u32,
    /// Fingerprint of the directory at the last look, so that unchanged files are not judged twice.
    seen: Option<[u8; 32]>,
}

impl TrustDirectory {
    /// Returns the directory at `path`. `threshold` of its roots must have signed the first keyset.
    #[must_use]
    pub fn new(path: PathBuf, threshold: u32) -> Self {
        Self { path, threshold, seen: None }
    }

    /// Reads new roots and keysets, and puts them in force. Returns true if anything changed.
    pub fn take_up(&mut self, replication: &Replication, now: Time) -> bool {
        let found = fingerprint(&self.path);
        if self.seen == Some(found) {
            return false;
        }
        let first = self.seen.replace(found).is_none();
        let mut errors = Vec::new();
        // At the start the roots have just been read.
        if !first && let Err(error) = self.pin(replication) {
            errors.push(error);
        }
        let (keysets, faults) = self.keysets();
        errors.extend(faults);
        if !keysets.is_empty()
            && let Err(source) = replication.follow(&keysets, now)
        {
            errors.push(TrustError::Refused { path: self.path.clone(), source });
        }
        for error in &errors {
            let kind = match error {
                TrustError::Refused { source, .. } => source.alarm().unwrap_or(AlarmKind::Refused),
                _ => AlarmKind::Refused,
            };
            replication.live().alarms.raise(kind, &error.to_string(), now);
        }
        !first
    }

    fn pin(&self, replication: &Replication) -> Result<(), TrustError> {
        let roots = pinned_roots(&self.path, self.threshold)?;
        replication.pin(roots).map_err(|source| TrustError::Strangers { path: self.path.clone(), source })
    }

    /// Returns the keysets of all files, oldest first without duplicates, and the errors of the other files.
    fn keysets(&self) -> (Vec<String>, Vec<TrustError>) {
        let (mut keysets, mut faults) = (Vec::new(), Vec::new());
        for path in files(&self.path).into_iter().filter(|path| is_keyset(path)) {
            match read(&path) {
                Ok(found) => keysets.extend(found),
                Err(error) => faults.push(error),
            }
        }
        keysets.sort_by_key(|keyset| keyset.body().version);
        keysets.dedup_by(|a, b| a.payload() == b.payload());
        (keysets.iter().map(UnverifiedKeyset::to_line).collect(), faults)
    }

    /// Watches the directory until the task is dropped. After a change it makes sync ask the control plane at once.
    pub async fn watch(mut self, replication: Arc<Replication>, clock: Clock, wake: Arc<Notify>) {
        let (sender, mut heard) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is no change. A full channel already holds a notification.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                let _ = sender.try_send(());
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "the trust directory can't be watched; it is read every minute");
                None
            }
        };
        let watching = Failing::default();
        loop {
            // Registered each time: a replaced directory is another one to the kernel.
            if let Some(watcher) = &mut watcher {
                let registered = watcher.watch(&self.path, RecursiveMode::NonRecursive);
                watching.log(&registered, "the trust directory can't be watched; it is read every minute");
            }
            tokio::select! {
                _ = heard.recv(), if watcher.is_some() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            while tokio::time::timeout(SETTLE, heard.recv()).await.is_ok_and(|news| news.is_some()) {}
            let (replication, now) = (Arc::clone(&replication), clock());
            let work = move || {
                let news = self.take_up(&replication, now);
                (self, news)
            };
            let Ok((back, news)) = tokio::task::spawn_blocking(work).await else { return };
            self = back;
            if news {
                wake.notify_one();
            }
        }
    }
}

/// Returns the files of a directory, sorted by name. Empty if it cannot be read.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn is_keyset(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("keyset")
        && path.extension().is_some_and(|extension| extension == "json" || extension == "ndjson")
}

fn read(path: &Path) -> Result<Vec<UnverifiedKeyset>, TrustError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| TrustError::File { path: path.into(), source })?;
    let wrong = |source| TrustError::Keyset { path: path.into(), source };
    let values = serde_json::Deserializer::from_str(&text).into_iter::<Box<RawValue>>();
    let keysets = values
        .map(|value| {
            let value = value.map_err(|error| wrong(KeysetError::Malformed(error.to_string())))?;
            UnverifiedKeyset::parse(value.get()).map_err(wrong)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if keysets.is_empty() { Err(wrong(KeysetError::Missing)) } else { Ok(keysets) }
}

/// Returns a hash over the names and contents of the relevant files.
fn fingerprint(directory: &Path) -> [u8; 32] {
    let mut hash = Sha256::new();
    for path in files(directory) {
        if path.extension().is_some_and(|extension| extension == "pem") || is_keyset(&path) {
            let content = std::fs::read(&path).unwrap_or_default();
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update(Sha256::digest(content));
        }
    }
    hash.finalize().into()
}
