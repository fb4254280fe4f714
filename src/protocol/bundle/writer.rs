//! Writes bundles.

use std::io::{self, Write};

use serde::Serialize;

use super::{Change, ChangeLine, HeadLine, KeysetLine};

/// Writes a bundle line by line, so that a large replica never lies in memory as a whole.
pub struct BundleWriter<W: Write> {
    encoder: zstd::Encoder<'static, W>,
}

impl<W: Write> BundleWriter<W> {
    /// Writes the keyset chain (JWS texts, oldest first) and the head. The changes that follow lead from version `base`
    /// to the head's version. A `base` of 0 is the empty replica: such a bundle is a snapshot.
    ///
    /// Fails if a keyset is not JSON, or if `out` fails.
    ///
    /// ```
    /// use halligan::protocol::bundle::{BundleWriter, Change};
    /// use halligan::protocol::record::RecordKind;
    ///
    /// let keysets = [r#"{"payload":"a","signatures":[]}"#];
    /// let mut writer = BundleWriter::new(Vec::new(), &keysets, "a.b.c", 7)?;
    /// for key in ["tok_a", "tok_b"] {
    ///     writer.change(Change::Remove { kind: RecordKind::Token, key: key.into() })?;
    /// }
    /// let bytes = writer.finish()?;
    /// // The magic number of a zstd frame.
    /// assert!(bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    ///
    /// assert!(BundleWriter::new(Vec::new(), &["not JSON"], "a.b.c", 7).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
///
/// ```
/// use halligan::protocol::bundle::{Change, write_change};
/// use halligan::protocol::record::RecordKind;
///
/// let mut lines = Vec::new();
/// let change = Change::Remove { kind: RecordKind::Token, key: "tok_a".into() };
/// write_change(&mut lines, change).unwrap();
/// assert_eq!(lines, b"{\"op\":\"remove\",\"kind\":\"token\",\"key\":\"tok_a\"}\n");
/// ```
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
///
/// ```
/// use halligan::protocol::bundle::{BundleReader, Change, Limits, small_bundle, write_change};
/// use halligan::protocol::record::RecordKind;
///
/// let change = Change::Remove { kind: RecordKind::Token, key: "tok_a".into() };
/// let mut lines = Vec::new();
/// write_change(&mut lines, change.clone()).unwrap();
/// let keysets = [r#"{"payload":"a","signatures":[]}"#];
/// let bundle = small_bundle(&keysets, "a.b.c", 7, &lines).unwrap();
/// let mut changes = BundleReader::new(&*bundle, Limits::default()).unwrap();
/// assert_eq!(changes.next().unwrap().unwrap(), change);
/// ```
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
///
/// ```
/// use halligan::protocol::bundle::{BundleReader, Change, Limits, write_bundle};
/// use halligan::protocol::record::RecordKind;
///
/// let changes = [Change::Remove { kind: RecordKind::Token, key: "tok_a".into() }];
/// let keysets = [r#"{"payload":"a","signatures":[]}"#];
/// let bundle = write_bundle(&keysets, "a.b.c", 7, changes.clone()).unwrap();
/// let reader = BundleReader::new(&*bundle, Limits::default()).unwrap();
/// assert_eq!((reader.head(), reader.base()), ("a.b.c", 7));
/// assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), changes);
/// ```
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
