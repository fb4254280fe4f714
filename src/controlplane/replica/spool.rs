//! Spool of the feed's answers. Those that several nodes may share are kept for a while, and so are large ones, for
//! downloads to be resumed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use tempfile::{SpooledData, SpooledTempFile, spooled_tempfile};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::protocol::time::Time;

/// Maximum size of an answer in memory, in bytes.
const IN_MEMORY: usize = 1 << 20;
/// Number of answers kept, of those in memory and of those in files, and the time for which each is kept, in seconds. Their
/// heads are valid longer.
const KEPT: (usize, i64) = (16, 600);
/// Number of answers from files that are sent at a time. Each holds some pieces in memory.
const TRANSFERS: usize = 64;
/// Time for which a node waits for its transfer to begin.
const QUEUED: Duration = Duration::from_secs(5);
/// Maximum age of a kept answer that is given to a node without a matching entity tag, in seconds.
const RECENT: i64 = 30;

/// Answer of the feed: the bytes of a bundle.
pub struct Answer {
    /// Key of the request that it answers.
    what: String,
    made: Time,
    length: u64,
    content: Content,
}

enum Content {
    Memory(Bytes),
    /// File without a name. The kernel deletes it when the last reader closes it.
    File(File),
}

impl Answer {
    /// Returns an answer that lies in memory, and is not kept.
    pub(in crate::controlplane) fn small(what: String, made: Time, bytes: Vec<u8>) -> Self {
        Self { what, made, length: bytes.len() as u64, content: Content::Memory(bytes.into()) }
    }

    /// Returns all bytes, unless they lie in a file.
    pub(in crate::controlplane) fn in_memory(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Memory(bytes) => Some(bytes),
            Content::File(_) => None,
        }
    }

    /// Returns the strong validator of these bytes (RFC 9110 section 8.8.3), without its quotes.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{}-{}", self.what, self.made.unix())
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads at most `most` bytes from offset `start`.
    pub fn read(&self, start: u64, most: usize) -> io::Result<Vec<u8>> {
        match &self.content {
            Content::Memory(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(most).min(bytes.len());
                Ok(bytes[start..end].to_vec())
            }
            Content::File(file) => {
                let mut piece = vec![0; most];
                let read = file.read_at(&mut piece, start)?;
                piece.truncate(read);
                Ok(piece)
            }
        }
    }
}

/// Answers that are kept for other nodes and resumed downloads.
pub struct Spool {
    kept: Mutex<Vec<Arc<Answer>>>,
    /// Locks by data plane. The holder writes a large answer; those who waited find it in the spool.
    turns: Mutex<HashMap<String, Turn>>,
    transfers: Arc<Semaphore>,
}

/// Lock that is held while a large answer is written.
pub(in crate::controlplane) type Turn = Arc<tokio::sync::Mutex<()>>;

/// Right to send an answer from a file.
pub(in crate::controlplane) struct Transfer {
    _permit: OwnedSemaphorePermit,
}

impl Default for Spool {
    fn default() -> Self {
        let transfers = Arc::new(Semaphore::new(TRANSFERS));
        Self { kept: Mutex::default(), turns: Mutex::default(), transfers }
    }
}

impl Spool {
    /// Returns the lock for the large answers of a data plane.
    pub(in crate::controlplane) fn turn(&self, data_plane: &str) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(data_plane.to_owned()).or_default())
    }

    /// Waits for the right to send an answer from a file. Returns none if too many are sent for too long.
    pub(in crate::controlplane) async fn transfer(&self) -> Option<Transfer> {
        let permit = timeout(QUEUED, Arc::clone(&self.transfers).acquire_owned()).await.ok()?.ok()?;
        Some(Transfer { _permit: permit })
    }

    /// Creates the buffer that the next answer is written to.
    pub(in crate::controlplane) fn page() -> SpooledTempFile {
        spooled_tempfile(IN_MEMORY)
    }

    /// Turns a written buffer into an answer. Keeps it if it is large, or if other nodes may share it.
    pub(in crate::controlplane) fn keep(
        &self,
        what: String,
        now: Time,
        mut page: SpooledTempFile,
        shared: bool,
    ) -> io::Result<Arc<Answer>> {
        let length = page.stream_position()?;
        let content = match page.into_inner() {
            SpooledData::InMemory(bytes) => Content::Memory(bytes.into_inner().into()),
            SpooledData::OnDisk(file) => Content::File(file),
        };
        let answer = Arc::new(Answer { what, made: now, length, content });
        let large = answer.in_memory().is_none();
        if large || shared {
            let mut kept = self.living(now);
            kept.push(Arc::clone(&answer));
            // Small answers do not displace downloads that can be resumed.
            let alike = |kept: &Arc<Answer>| kept.in_memory().is_none() == large;
            if kept.iter().filter(|answer| alike(answer)).count() > KEPT.0
                && let Some(oldest) = kept.iter().position(alike)
            {
                kept.remove(oldest);
            }
        }
        Ok(answer)
    }

    /// Returns a kept answer to the same request, at most [`RECENT`] seconds old.
    pub(in crate::controlplane) fn find_recent(&self, what: &str, now: Time) -> Option<Arc<Answer>> {
        let kept = self.living(now);
        let found = kept.iter().rev().find(|answer| answer.what == what && now.since(answer.made) <= RECENT);
        found.cloned()
    }

    /// Returns the kept answer with this entity tag.
    pub(in crate::controlplane) fn find(&self, tag: &str, now: Time) -> Option<Arc<Answer>> {
        self.living(now).iter().find(|answer| answer.tag() == tag).cloned()
    }

    fn living(&self, now: Time) -> std::sync::MutexGuard<'_, Vec<Arc<Answer>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|answer| (0..KEPT.1).contains(&now.since(answer.made)));
        kept
    }
}
