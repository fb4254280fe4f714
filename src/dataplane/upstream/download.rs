//! A bundle on its way: bounded in time and size, kept outside of memory when it is large, and taken up where it broke off
//! (RFC 9110 sections 13.1.5 and 14).

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use tempfile::{SpooledTempFile, spooled_tempfile_in};
use thiserror::Error;
use tokio::time::timeout;

use super::Patience;

/// What is kept in memory, in bytes: a delta is smaller, a snapshot larger.
const IN_MEMORY: usize = 1 << 20;
/// The least that is worth being taken up again, in bytes.
const WORTH_KEEPING: u64 = 64 << 10;

/// What was wrong with a body.
#[derive(Debug, Error)]
pub enum Fault {
    /// The connection broke.
    #[error("it broke off after {0} bytes")]
    Broken(u64),
    /// It came too slowly.
    #[error("it came too slowly: {length} bytes in {} seconds", .within.as_secs_f32())]
    Slow {
        /// How many bytes there were in all.
        length: u64,
        /// How long they took.
        within: Duration,
    },
    /// It was too large.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// It was not the part that was asked for.
    #[error("it is not the part that was asked for")]
    Range,
    /// It could not be kept.
    #[error("it can't be kept on the disk: {0}")]
    Disk(io::Error),
}

impl Fault {
    /// Whether what came may be the beginning of what is to come.
    pub(super) fn can_go_on(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Slow { .. })
    }
}

/// What has come of an answer.
pub(super) struct Download {
    path: String,
    /// The strong validator of the answer; without one it can't be taken up.
    tag: Option<HeaderValue>,
    file: SpooledTempFile,
    length: u64,
    begun: Instant,
}

impl Download {
    /// Begins to take in the answer to `path`.
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

    /// Whether it is an answer to `path`.
    pub(super) fn answers(&self, path: &str) -> bool {
        self.path == path
    }

    pub(super) fn worth_keeping(&self) -> bool {
        self.tag.is_some() && self.length >= WORTH_KEEPING
    }

    /// Asks for what is missing, or for everything if the control plane has something else by now.
    pub(super) fn ask_for_the_rest(&self, headers: &mut HeaderMap) {
        if let (Some(tag), Ok(range)) = (&self.tag, HeaderValue::from_str(&format!("bytes={}-", self.length)))
        {
            headers.insert(header::RANGE, range);
            headers.insert(header::IF_RANGE, tag.clone());
        }
    }

    /// Whether a partial answer is the rest of this one.
    pub(super) fn goes_on_in(self, headers: &HeaderMap) -> Option<Self> {
        let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
        let (start, _) = range.strip_prefix("bytes ")?.split_once('-')?;
        let fits = start.parse() == Ok(self.length) && headers.get(header::ETAG) == self.tag.as_ref();
        fits.then_some(self)
    }

    /// Takes in a body, piece by piece.
    pub(super) async fn receive(&mut self, mut body: Incoming, patience: &Patience) -> Result<(), Fault> {
        let (started, before) = (Instant::now(), self.length);
        loop {
            let came = self.length - before;
            let allowed = patience.grace + Duration::from_secs(came / patience.rate.max(1));
            let left = allowed.min(patience.total).checked_sub(started.elapsed());
            let slow = |length| Fault::Slow { length, within: started.elapsed() };
            let left = left.ok_or_else(|| slow(self.length))?.min(patience.idle);
            let frame = match timeout(left, body.frame()).await {
                Err(_) => return Err(slow(self.length)),
                Ok(None) => return Ok(()),
                Ok(Some(Err(_))) => return Err(Fault::Broken(self.length)),
                Ok(Some(Ok(frame))) => frame,
            };
            // Trailers say nothing here.
            let Ok(piece) = frame.into_data() else { continue };
            if self.length + piece.len() as u64 > patience.size {
                return Err(Fault::TooLarge(patience.size));
            }
            // Into the page cache at most: nothing here is waited for.
            self.file.write_all(&piece).map_err(Fault::Disk)?;
            self.length += piece.len() as u64;
        }
    }

    /// Hands the whole answer over, to be read from its beginning, and how long ago it began to come.
    pub(super) fn finish(mut self) -> io::Result<(SpooledTempFile, Duration)> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok((self.file, self.begun.elapsed()))
    }
}
