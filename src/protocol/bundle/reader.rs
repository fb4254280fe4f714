//! Reads bundles within bounds.

use std::io::{BufRead, BufReader, Chain, Cursor, Read};

use super::{BundleError, Change, ChangeLine, HeadLine, KeysetLine, Limits};
use crate::protocol::json::object;
use crate::protocol::record::Record;

/// Reads a bundle. Keysets and head are read at once; the changes follow one by one, as an iterator.
pub struct BundleReader<R: Read> {
    keysets: Vec<String>,
    head: String,
    base: u64,
    lines: Lines<R>,
}

impl<R: Read> BundleReader<R> {
    /// Reads the keysets and the head. Returns an error if the input is no bundle or exceeds `limits`.
    ///
    /// ```
    /// use halligan::protocol::bundle::{BundleError, BundleReader, Change, Limits, write_bundle};
    /// use halligan::protocol::record::{Record, RecordKind};
    ///
    /// let token = Change::Put(Record::new(RecordKind::Token, "tok_etl", r#"{"generation":2}"#));
    /// let keysets = [r#"{"payload":"a","signatures":[]}"#];
    /// let bytes = write_bundle(&keysets, "a.b.c", 7, [token.clone()])?;
    /// let reader = BundleReader::new(&*bytes, Limits::default())?;
    /// assert_eq!((reader.keysets().len(), reader.head(), reader.base()), (1, "a.b.c", 7));
    /// assert_eq!(reader.collect::<Result<Vec<_>, _>>()?, [token]);
    ///
    /// let error = |bytes: &[u8], limits| BundleReader::new(bytes, limits).err();
    /// assert!(matches!(error(b"{}", Limits::default()), Some(BundleError::Frame(_))));
    /// let small = Limits { line: 16, ..Limits::default() };
    /// assert!(matches!(error(&bytes, small), Some(BundleError::Line { line: 1, limit: 16 })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
