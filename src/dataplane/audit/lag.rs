//! Measures how far the uploaded part is behind the log: the events that would be lost with this host.
//!
//! The disk is read at intervals, not when metrics are requested, so that metrics are answered while the disk hangs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

use super::{AuditError, extent, readable};
use crate::protocol::time::Time;

/// Interval between two reads. Events are sent every two seconds while the control plane answers.
const INTERVAL: Duration = Duration::from_secs(5);
/// Value of `since` if no event waits for its upload.
const NONE: i64 = i64::MIN;

/// Latest measurement of the lag.
#[derive(Debug)]
pub struct UploadLag {
    path: PathBuf,
    uploaded: AtomicU64,
    /// Time of the first event that was not uploaded.
    since: AtomicI64,
}

#[derive(Deserialize)]
struct Dated {
    time: Time,
}

impl UploadLag {
    /// Returns the lag of the log at `path`. It is unknown until the first [`Self::look`].
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, uploaded: AtomicU64::new(0), since: AtomicI64::new(NONE) }
    }

    /// Reads the log once.
    pub fn look(&self) -> Result<(), AuditError> {
        let log = extent(&self.path)?;
        let behind = log.last > log.uploaded;
        let known = self.since().is_some() && self.uploaded() == log.uploaded;
        if !behind {
            self.since.store(NONE, Ordering::Relaxed);
        } else if !known {
            let first = readable(&self.path, log.uploaded, 1)?.lines;
            let first = first.first().and_then(|line| serde_json::from_str::<Dated>(line).ok());
            self.since.store(first.map_or(NONE, |first| first.time.unix()), Ordering::Relaxed);
        }
        self.uploaded.store(log.uploaded, Ordering::Relaxed);
        Ok(())
    }

    /// Reads the log at intervals, until the task is dropped.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let own = Arc::clone(&self);
            // The thread pool ends only with the daemon.
            let Ok(looked) = tokio::task::spawn_blocking(move || own.look()).await else { return };
            if let Err(error) = looked {
                tracing::warn!(%error, "the audit log can't be read to find how much of it was uploaded");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Returns the sequence number of the last uploaded event.
    #[must_use]
    pub fn uploaded(&self) -> u64 {
        self.uploaded.load(Ordering::Relaxed)
    }

    /// Returns the time of the first event that was not uploaded, or `None` if there is none.
    #[must_use]
    pub fn since(&self) -> Option<Time> {
        Some(self.since.load(Ordering::Relaxed)).filter(|since| *since != NONE).map(Time::from_unix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::AtomicI64;

    use super::*;
    use crate::dataplane::audit::{AuditLog, set_uploaded};
    use crate::protocol::event::{Connectivity, Draft, EventKind};
    use crate::protocol::id::NodeId;
    use crate::protocol::key::SigningKey;
    use crate::protocol::reconciliation::Position;

    #[test]
    fn the_oldest_that_was_not_taken_in_is_told_by_its_own_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.db");
        let clock = Arc::new(AtomicI64::new(1_800_000_000));
        let read = Arc::clone(&clock);
        let key = Arc::new(SigningKey::from_seed(&[7; 32]));
        let node = NodeId::new("nod_a").unwrap();
        let read = Arc::new(move || Time::from_unix(read.load(Ordering::SeqCst)));
        let log = AuditLog::open(&path, node.clone(), key, read, 1000).unwrap();
        let lag = UploadLag::new(path.clone());
        lag.look().unwrap();
        assert_eq!((lag.since(), lag.uploaded()), (None, 0), "an empty log");
        for number in 0..3 {
            let id = log.next_id();
            let time = Time::from_unix(1_800_000_000 + number);
            let draft = Draft::new(EventKind::Decision, &id, time, &node, Connectivity::Offline);
            log.record(&draft, false).unwrap();
        }
        log.close();
        let after = |sequence| {
            set_uploaded(&path, &Position { sequence, hash: "h".into() }).unwrap();
            lag.look().unwrap();
            (lag.since().map(|since| since.unix() - 1_800_000_000), lag.uploaded())
        };
        assert_eq!(after(0), (Some(0), 0));
        assert_eq!(after(2), (Some(2), 2), "a part of it arrived");
        assert_eq!(after(1), (Some(1), 1), "a control plane that was restored wants it again");
        // The log may have grown since: the expected end is the uploaded one.
        let last = extent(&path).unwrap().last;
        assert_eq!(after(last), (None, last));
    }
}
