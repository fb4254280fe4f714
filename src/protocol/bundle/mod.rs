//! Reads and writes bundles: the answers of the feed, and the files that operators carry to hosts without a network.
//!
//! A bundle is one zstd frame (RFC 8878) with a checksum, whose content is NDJSON: the keyset chain, one head, then one
//! change on each line. docs/protocol/replica.md has the format.
//!
//! The reader verifies no signature: keysets, head and records are untrusted until the store has proved them. It limits
//! the bytes of a line, the bytes in all, the number of keysets and the decoder's memory, so that no server and no file
//! can exhaust a node.

mod reader;
mod writer;

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::record::{Record, RecordKind};
use super::version::number;

pub use reader::BundleReader;
pub use writer::{BundleWriter, small_bundle, write_bundle, write_change};

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

#[cfg(test)]
mod tests;
