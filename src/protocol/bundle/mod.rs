//! Reads and writes bundles: the answers of the feed, and the files that operators carry to hosts without a network.
//!
//! A bundle is one zstd frame (RFC 8878) with a checksum, whose content is NDJSON: the keyset chain, one head, then one
//! change on each line. docs/protocol/replica.md has the format.
//!
//! The reader verifies no signature: keysets, head and records are untrusted until the store has proved them. It limits
//! the bytes of a line, the bytes in all, the number of keysets and the decoder's memory, so that no server and no file
//! can exhaust a node.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::json::object;
use super::record::{Record, RecordKind};
use super::version::number;

/// Media type of a bundle, for `Content-Type` and `Accept`.
pub const MEDIA_TYPE: &str = "application/vnd.halligan.bundle";

/// One change on the way from one version of a replica to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Inserts a record, in place of the record of the same kind and key if there is one.
    Put(Record),
    /// Deletes the record of this kind and key.
    Remove {
        /// Kind of the deleted record.
        kind: RecordKind,
        /// Key of the deleted record.
        key: String,
    },
}

impl Change {
    /// Returns the kind of the record.
    #[must_use]
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Put(record) => record.kind,
            Self::Remove { kind, .. } => *kind,
        }
    }

    /// Returns the key of the record.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(record) => &record.key,
            Self::Remove { key, .. } => key,
        }
    }
}

/// Reasons to reject a bundle.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The input can't be read, ends early, or holds broken compression.
    #[error("the bundle can't be read: {0}")]
    Io(#[from] io::Error),
    /// The input is not exactly one zstd frame with a checksum.
    #[error("the bundle is not one zstd frame with a checksum: {0}")]
    Frame(&'static str),
    /// A line holds a member, a kind of record or an operation that this build does not know.
    #[error(
        "line {line} of the bundle is of a newer control plane ({reason}); upgrade this node, or put the older control plane back"
    )]
    Newer {
        /// Number of the line, from 1.
        line: u64,
        /// serde's sentence about the unknown member or variant.
        reason: String,
    },
    /// A line exceeds [`Limits::line`].
    #[error("line {line} of the bundle is longer than {limit} bytes")]
    Line {
        /// Number of the line, from 1.
        line: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The decompressed content exceeds [`Limits::total`], in bytes.
    #[error("the bundle is larger than {0} bytes")]
    TooLarge(u64),
    /// The chain exceeds [`Limits::keysets`].
    #[error("the bundle holds more than {0} keysets")]
    Keysets(usize),
    /// A line is not a keyset, a head or a change where the format demands one.
    #[error("line {line} of the bundle is malformed: {reason}")]
    Malformed {
        /// Number of the line, from 1.
        line: u64,
        /// The parser's sentence about the fault.
        reason: String,
    },
}

/// Bounds on a bundle. The reader returns an error as soon as one of them is exceeded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes in one line, with its line feed.
    pub line: u64,
    /// Bytes in all lines together, after decompression.
    pub total: u64,
    /// Number of keysets in the chain.
    pub keysets: usize,
}

impl Default for Limits {
    /// Returns 4 MiB for a line (the Dag tags of a large deployment), 1 GiB in all (two million tokens), and 1000
    /// keysets.
    fn default() -> Self {
        Self { line: 4 << 20, total: 1 << 30, keysets: 1000 }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysetLine<'a> {
    #[serde(borrow)]
    keyset: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadLine {
    head: String,
    #[serde(deserialize_with = "number")]
    base: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum ChangeLine {
    Put { kind: RecordKind, key: String, body: String },
    Remove { kind: RecordKind, key: String },
}

/// Writes a bundle line by line, so that a large replica never lies in memory as a whole.
pub struct BundleWriter<W: Write> {
    encoder: zstd::Encoder<'static, W>,
}

impl<W: Write> BundleWriter<W> {
    /// Writes the keyset chain (JWS texts, oldest first) and the head. The changes that follow lead from version `base`
    /// to the head's version. A `base` of 0 is the empty replica: such a bundle is a snapshot.
    ///
    /// Fails if a keyset is not JSON, or if `out` fails.
    pub fn new<S: AsRef<str>>(out: W, keysets: &[S], head: &str, base: u64) -> io::Result<Self> {
        let mut encoder = zstd::Encoder::new(out, LEVEL)?;
        encoder.include_checksum(true)?;
        write_start(&mut encoder, keysets, head, base)?;
        Ok(Self { encoder })
    }

    /// Writes one change.
    pub fn change(&mut self, change: Change) -> io::Result<()> {
        write_change(&mut self.encoder, change)
    }

    /// Ends the frame and returns the output.
    pub fn finish(self) -> io::Result<W> {
        self.encoder.finish()
    }
}

/// Compression level: the feed compresses for every node, and random ids and hashes hardly shrink at higher levels.
const LEVEL: i32 = 1;

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn write_start<S: AsRef<str>>(out: &mut impl Write, keysets: &[S], head: &str, base: u64) -> io::Result<()> {
    for keyset in keysets {
        write_line(out, &KeysetLine { keyset: serde_json::from_str(keyset.as_ref())? })?;
    }
    write_line(out, &HeadLine { head: head.into(), base })
}

/// Writes a change as a line, uncompressed, for [`small_bundle`].
pub fn write_change(out: &mut impl Write, change: Change) -> io::Result<()> {
    let line = match change {
        Change::Put(record) => {
            ChangeLine::Put { kind: record.kind, key: record.key.to_string(), body: record.body.to_string() }
        }
        Change::Remove { kind, key } => ChangeLine::Remove { kind, key },
    };
    write_line(out, &line)
}

/// Makes a bundle of a few changes that are lines already, in one step: the encoder takes only as much memory as these
/// need, where [`BundleWriter`] makes room for a stream.
pub fn small_bundle<S: AsRef<str>>(
    keysets: &[S],
    head: &str,
    base: u64,
    changes: &[u8],
) -> io::Result<Vec<u8>> {
    let mut lines = Vec::with_capacity(head.len() + changes.len() + 64);
    write_start(&mut lines, keysets, head, base)?;
    lines.extend_from_slice(changes);
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(&lines)
}

/// Writes a bundle into memory: the keyset chain, the head, and the changes from version `base` on.
pub fn write_bundle<S: AsRef<str>>(
    keysets: &[S],
    head: &str,
    base: u64,
    changes: impl IntoIterator<Item = Change>,
) -> io::Result<Vec<u8>> {
    let mut writer = BundleWriter::new(Vec::new(), keysets, head, base)?;
    changes.into_iter().try_for_each(|change| writer.change(change))?;
    writer.finish()
}

/// Reads a bundle. Keysets and head are read at once; the changes follow one by one, as an iterator.
pub struct BundleReader<R: Read> {
    keysets: Vec<String>,
    head: String,
    base: u64,
    lines: Lines<R>,
}

impl<R: Read> BundleReader<R> {
    /// Reads the keysets and the head. Returns an error if the input is no bundle or exceeds `limits`.
    pub fn new(input: R, limits: Limits) -> Result<Self, BundleError> {
        let mut lines = Lines::new(input, limits)?;
        let mut keysets = Vec::new();
        loop {
            let Some(line) = lines.next()? else {
                return Err(lines.malformed("it ends before the head"));
            };
            if let Ok(found) = object::<KeysetLine<'_>>(line.as_bytes()) {
                keysets.push(found.keyset.get().to_owned());
                if keysets.len() > limits.keysets {
                    return Err(BundleError::Keysets(limits.keysets));
                }
                continue;
            }
            let HeadLine { head, base } = match object(line.as_bytes()) {
                Ok(head) => head,
                Err(error) => return Err(lines.malformed(error)),
            };
            return Ok(Self { keysets, head, base, lines });
        }
    }

    /// Returns the keyset chain, oldest first, as unverified JWS texts.
    #[must_use]
    pub fn keysets(&self) -> &[String] {
        &self.keysets
    }

    /// Returns the head as an unverified JWS text.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Returns the version from which the changes start; 0 for a snapshot.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    fn read(&mut self) -> Result<Option<Change>, BundleError> {
        let Some(line) = self.lines.next()? else { return Ok(None) };
        match object(line.as_bytes()) {
            Ok(ChangeLine::Put { kind, key, body }) => Ok(Some(Change::Put(Record::new(kind, key, body)))),
            Ok(ChangeLine::Remove { kind, key }) => Ok(Some(Change::Remove { kind, key })),
            Err(error) => Err(self.lines.malformed(error)),
        }
    }
}

impl<R: Read> Iterator for BundleReader<R> {
    type Item = Result<Change, BundleError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// zstd decoder whose input begins with the bytes that [`Lines::new`] has inspected.
type Frame<R> = zstd::Decoder<'static, BufReader<Chain<Cursor<Vec<u8>>, R>>>;

/// Reads lines from a compressed stream within [`Limits`].
struct Lines<R: Read> {
    input: BufReader<Frame<R>>,
    limits: Limits,
    buffer: Vec<u8>,
    number: u64,
    total: u64,
}

impl<R: Read> Lines<R> {
    fn new(mut input: R, limits: Limits) -> Result<Self, BundleError> {
        // The zstd library also accepts skippable frames, frames without a checksum, and several frames in a row. Then
        // one content would have many encodings, and a cut at a frame's end would go unnoticed. RFC 8878 section 3.1.1:
        // the magic number comes first, then the descriptor, whose bit 2 announces a checksum.
        let mut start = Vec::with_capacity(5);
        (&mut input).take(5).read_to_end(&mut start)?;
        match start.as_slice() {
            [0x28, 0xb5, 0x2f, 0xfd, descriptor] if descriptor & 0b100 != 0 => {}
            [0x28, 0xb5, 0x2f, 0xfd, _] => return Err(BundleError::Frame("it has no checksum")),
            _ => return Err(BundleError::Frame("it does not begin with one")),
        }
        let mut decoder = zstd::Decoder::new(Cursor::new(start).chain(input))?.single_frame();
        // Levels 1 to 19 need a window of at most 8 MiB (2^23); a hostile frame could ask for gigabytes.
        decoder.window_log_max(23)?;
        Ok(Self { input: BufReader::new(decoder), limits, buffer: Vec::new(), number: 0, total: 0 })
    }

    fn next(&mut self) -> Result<Option<&str>, BundleError> {
        self.buffer.clear();
        self.number += 1;
        let mut bounded = (&mut self.input).take(self.limits.line + 1);
        let read = bounded.read_until(b'\n', &mut self.buffer)? as u64;
        self.total += read;
        if read > self.limits.line {
            return Err(BundleError::Line { line: self.number, limit: self.limits.line });
        }
        if self.total > self.limits.total {
            return Err(BundleError::TooLarge(self.limits.total));
        }
        match self.buffer.pop() {
            // The checksum does not cover bytes behind the frame.
            None if !self.input.get_mut().get_mut().fill_buf()?.is_empty() => {
                Err(BundleError::Frame("something follows it"))
            }
            None => Ok(None),
            Some(b'\n') if self.buffer.last() == Some(&b'\r') => Err(self.malformed("it ends in CR LF")),
            Some(b'\n') => match std::str::from_utf8(&self.buffer) {
                Ok(line) => Ok(Some(line)),
                Err(error) => Err(BundleError::Malformed { line: self.number, reason: error.to_string() }),
            },
            Some(_) => Err(self.malformed("it ends within a line")),
        }
    }

    fn malformed(&self, reason: impl std::fmt::Display) -> BundleError {
        let (line, reason) = (self.number, reason.to_string());
        // serde has no type for these errors: its text tells an unknown member, kind or operation from other faults.
        if reason.starts_with("unknown field") || reason.starts_with("unknown variant") {
            return BundleError::Newer { line, reason };
        }
        BundleError::Malformed { line, reason }
    }
}

#[cfg(test)]
mod tests;
