//! Download of a bundle: limited in time and size, stored on disk if it is large, and resumed after an interruption (RFC
//! 9110 sections 13.1.5 and 14).

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use tempfile::{SpooledTempFile, spooled_tempfile_in};
use thiserror::Error;

use super::Patience;
use super::archives::receive_body;

/// Maximum size that stays in memory, in bytes: a delta is smaller, a snapshot larger.
const IN_MEMORY: usize = 1 << 20;
/// Minimum size of a part that is worth resuming, in bytes.
const WORTH_KEEPING: u64 = 64 << 10;

/// Faults of a body.
#[derive(Debug, Error)]
pub enum Fault {
    /// The connection broke after this number of bytes.
    #[error("it broke off after {0} bytes")]
    Broken(u64),
    /// The body was too slow.
    #[error("it came too slowly: {length} bytes in {} seconds", .within.as_secs_f32())]
    Slow {
        /// Total number of received bytes.
        length: u64,
        /// Time that they took.
        within: Duration,
    },
    /// The body exceeds this number of bytes.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// The answer is not the requested part.
    #[error("it is not the part that was asked for")]
    Range,
    /// The body cannot be stored.
    #[error("it can't be kept on the disk: {0}")]
    Disk(io::Error),
}

impl Fault {
    /// Returns true if the received part can be resumed.
    pub(super) fn can_go_on(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Slow { .. })
    }
}

/// Received part of an answer.
pub(super) struct Download {
    path: String,
    /// Strong validator of the answer. Without one it cannot be resumed.
    tag: Option<HeaderValue>,
    file: SpooledTempFile,
    length: u64,
    begun: Instant,
}

impl Download {
    /// Begins to receive the answer to `path`.
    pub(super) fn begin(path: &str, headers: &HeaderMap, spool: &Path) -> Self {
        let tag = headers.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned();
        Self {
            path: path.into(),
            tag,
            file: spooled_tempfile_in(IN_MEMORY, spool),
            length: 0,
            begun: Instant::now(),
        }
    }

    /// Returns true if it is an answer to `path`.
    pub(super) fn answers(&self, path: &str) -> bool {
        self.path == path
    }

    pub(super) fn worth_keeping(&self) -> bool {
        self.tag.is_some() && self.length >= WORTH_KEEPING
    }

    /// Requests the missing part, or the complete answer if the control plane has another one by now.
    pub(super) fn ask_for_the_rest(&self, headers: &mut HeaderMap) {
        if let (Some(tag), Ok(range)) = (&self.tag, HeaderValue::from_str(&format!("bytes={}-", self.length)))
        {
            headers.insert(header::RANGE, range);
            headers.insert(header::IF_RANGE, tag.clone());
        }
    }

    /// Returns the download if a partial answer continues it.
    pub(super) fn goes_on_in(self, headers: &HeaderMap) -> Option<Self> {
        let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
        let (start, _) = range.strip_prefix("bytes ")?.split_once('-')?;
        let fits = start.parse() == Ok(self.length) && headers.get(header::ETAG) == self.tag.as_ref();
        fits.then_some(self)
    }

    /// Receives a body part by part.
    pub(super) async fn receive(&mut self, body: Incoming, patience: &Patience) -> Result<(), Fault> {
        let before = self.length;
        let mut take = |piece: &[u8]| {
            if self.length + piece.len() as u64 > patience.size {
                return Err(Fault::TooLarge(patience.size));
            }
            // The write reaches the page cache at most, so it does not block for the disk.
            self.file.write_all(piece).map_err(Fault::Disk)?;
            self.length += piece.len() as u64;
            Ok(())
        };
        receive_body(body, patience, before, &mut take).await
    }

    /// Returns the complete answer, positioned at its beginning, and the time since it began.
    pub(super) fn finish(mut self) -> io::Result<(SpooledTempFile, Duration)> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok((self.file, self.begun.elapsed()))
    }
}
