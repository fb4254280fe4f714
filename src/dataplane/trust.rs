//! What a host trusts: root keys (`*.pem`) and keysets (`keyset*.json`) in a directory of its operator's, taken up while
//! the daemon runs. A file that is wrong is alarmed, and what was in force stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher as _};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};

use super::Clock;
use super::alarm::AlarmKind;
use super::identity::{IdentityError, pinned_roots};
use super::replication::Replication;
use super::store::StoreError;
use crate::protocol::keyset::{KeysetError, UnverifiedKeyset};
use crate::protocol::time::Time;

/// How often the directory is looked at though nothing was heard of it: a file system may not tell.
const LOOK: Duration = Duration::from_mins(1);
/// How long it must have been quiet: whoever copies files in is given the time to finish.
const SETTLE: Duration = Duration::from_millis(200);

/// Why a file is not taken up.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The root keys.
    #[error("{0}; the roots that were pinned stay pinned")]
    Roots(#[from] IdentityError),
    /// The roots are fine, and what is held does not reach back to them.
    #[error(
        "the root keys in {path} do not vouch for the keysets held ({source}); the roots that were pinned stay pinned \
         until the daemon is started anew, which sets the replica aside"
    )]
    Strangers {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// A keyset file.
    #[error("{path} can't be read: {source}; no keyset is taken from it")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file without a keyset.
    #[error("{path} is not taken: {source}")]
    Keyset {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeysetError,
    },
    /// The keysets do not follow the one held.
    #[error("the keysets in {path} are not followed: {source}")]
    Refused {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// The directory.
pub struct TrustDirectory {
    path: PathBuf,
    threshold: u32,
    /// What it held when it was last looked at: what has not changed is not judged twice.
    seen: Option<[u8; 32]>,
}

impl TrustDirectory {
    /// The directory at `path`, of whose roots `threshold` must have signed the first keyset.
    #[must_use]
    pub fn new(path: PathBuf, threshold: u32) -> Self {
        Self { path, threshold, seen: None }
    }

    /// Takes up what is new in it. Whether anything was.
    pub fn take_up(&mut self, replication: &Replication, now: Time) -> bool {
        let found = fingerprint(&self.path);
        if self.seen == Some(found) {
            return false;
        }
        let first = self.seen.replace(found).is_none();
        let mut errors = Vec::new();
        // At the start they have just been read.
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

    /// The keysets of all its files, oldest first and each once, and what was wrong with the others.
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

    /// Watches it until the task is dropped, and has sync ask anew when something was taken up.
    pub async fn watch(mut self, replication: Arc<Replication>, clock: Clock, wake: Arc<Notify>) {
        let (sender, mut heard) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change. A full channel holds the news already.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                let _ = sender.try_send(());
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "the keys can't be watched; they are looked at every minute");
                None
            }
        };
        loop {
            // Each time: a directory that was put in the place of another is another to the kernel.
            if let Some(watcher) = &mut watcher
                && let Err(error) = watcher.watch(&self.path, RecursiveMode::NonRecursive)
            {
                tracing::warn!(%error, path = %self.path.display(), "the keys can't be watched");
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

/// The files of a directory, in the order of their names. One that can't be read has none.
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

/// What is in the files that matter.
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
