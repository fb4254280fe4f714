//! Answers of the feed, written once. Large ones are kept for a while: for other nodes that ask the same, and for those
//! whose line broke.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::{SpooledData, SpooledTempFile, spooled_tempfile};

use crate::protocol::time::Time;

/// What is kept in memory, in bytes. Nothing smaller is kept for later, either.
const IN_MEMORY: usize = 1 << 20;
/// How many answers are kept, and for how long, in seconds. Their heads are good for longer.
const KEPT: (usize, i64) = (16, 600);
/// How old an answer may be when a node is given it that does not ask for it by name, in seconds.
const RECENT: i64 = 30;

/// An answer: a bundle, byte for byte.
pub struct Answer {
    /// What it is an answer to.
    what: String,
    made: Time,
    length: u64,
    bytes: Bytes,
}

enum Bytes {
    Memory(Vec<u8>),
    /// A file without a name: it goes with the last who reads it.
    File(File),
}

impl Answer {
    /// The strong validator of these bytes (RFC 9110 section 8.8.3), without its quotes.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{}-{}", self.what, self.made.unix())
    }

    /// How many bytes there are.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes from `start` on, at most `most` of them.
    pub fn read(&self, start: u64, most: usize) -> io::Result<Vec<u8>> {
        match &self.bytes {
            Bytes::Memory(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(most).min(bytes.len());
                Ok(bytes[start..end].to_vec())
            }
            Bytes::File(file) => {
                let mut piece = vec![0; most];
                let read = file.read_at(&mut piece, start)?;
                piece.truncate(read);
                Ok(piece)
            }
        }
    }
}

/// The answers that are kept.
#[derive(Default)]
pub struct Spool {
    kept: Mutex<Vec<Arc<Answer>>>,
}

impl Spool {
    /// Where the next answer is written to.
    pub(super) fn page() -> SpooledTempFile {
        spooled_tempfile(IN_MEMORY)
    }

    /// Takes an answer over, and keeps it if it is large.
    pub(super) fn keep(&self, what: String, now: Time, mut page: SpooledTempFile) -> io::Result<Arc<Answer>> {
        let length = page.stream_position()?;
        let (bytes, large) = match page.into_inner() {
            SpooledData::InMemory(bytes) => (Bytes::Memory(bytes.into_inner()), false),
            SpooledData::OnDisk(file) => (Bytes::File(file), true),
        };
        let answer = Arc::new(Answer { what, made: now, length, bytes });
        if large {
            let mut kept = self.living(now);
            kept.push(Arc::clone(&answer));
            if kept.len() > KEPT.0 {
                kept.remove(0);
            }
        }
        Ok(answer)
    }

    /// An answer to the same, made a moment ago.
    pub(super) fn recent(&self, what: &str, now: Time) -> Option<Arc<Answer>> {
        let kept = self.living(now);
        let found = kept.iter().rev().find(|answer| answer.what == what && now.since(answer.made) <= RECENT);
        found.cloned()
    }

    /// The answer that `tag` names.
    pub(super) fn find(&self, tag: &str, now: Time) -> Option<Arc<Answer>> {
        self.living(now).iter().find(|answer| answer.tag() == tag).cloned()
    }

    fn living(&self, now: Time) -> std::sync::MutexGuard<'_, Vec<Arc<Answer>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|answer| (0..KEPT.1).contains(&now.since(answer.made)));
        kept
    }
}
