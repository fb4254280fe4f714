//! Reads an archive: one gzip member (RFC 1952) that holds a tar file (POSIX ustar or pax, or GNU) of regular files and
//! directories.
//!
//! The control plane reads an archive to its end before it takes it, and a host unpacks with the same reader. The reader
//! refuses more than `tar` does: padding without an end, bytes behind the end, and every entry that another reader could
//! interpret differently.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use tar::{EntryType, Header};
use thiserror::Error;

use super::MAX_ENTRIES;
use super::tree::{Tree, TreeFault};

/// Length of a block of a tar file, in bytes.
const BLOCK: usize = 512;
/// Maximum length of a header that extends the one behind it, in bytes.
const MAX_EXTENSION: u64 = 64 << 10;
/// Maximum length of the zeros behind the end of a tar file, in bytes. Writers fill up a record of usually 10 KiB.
const MAX_FILLING: u64 = 1 << 20;

/// Reasons to refuse an archive.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The archive ends early.
    #[error("the archive ends early; send all of it")]
    Truncated,
    /// The archive is not gzip, or is damaged.
    #[error("the archive is not a gzip file, or is damaged")]
    Gzip,
    /// More bytes follow the archive.
    #[error("the archive has bytes behind its end")]
    Trailing,
    /// The content is not a tar file.
    #[error("the archive holds no tar file: block {0} is not a header")]
    Tar(u64),
    /// An entry is refused.
    #[error("entry {number} of the archive, {name:?}: {fault}")]
    Entry {
        /// Number of the entry, from 1.
        number: u64,
        /// Name of the entry, cut off if it is long.
        name: String,
        /// Fault of the entry.
        fault: TreeFault,
    },
    /// The archive can't be read, or its content can't be written.
    #[error(transparent)]
    Io(io::Error),
}

impl ArchiveError {
    /// Returns true if the archive is at fault, and false if the machine is.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Io(_))
    }
}

/// Entry of an archive. Paths are relative and have no dots.
pub enum Entry<'a> {
    /// Directory to be made. Those that it lies in came before.
    Directory {
        /// Path of the directory.
        path: &'a str,
    },
    /// File. The directories that it lies in came before.
    File {
        /// Path of the file.
        path: &'a str,
        /// Size of the file, in bytes.
        size: u64,
        /// True if its owner may execute it.
        executable: bool,
        /// Content, which ends after `size` bytes. What the visitor leaves is skipped.
        content: &'a mut dyn Read,
    },
}

/// Extent of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Number of files and directories.
    pub entries: usize,
    /// Size of all files together, in bytes.
    pub bytes: u64,
}

/// Reads an archive to its end and calls `visit` for each entry, in order. An error can come after entries that were
/// visited: the caller then discards what it made of them.
///
/// ```
/// use flate2::{Compression, write::GzEncoder};
/// use halligan::protocol::deploy::archive::{Entry, read_archive};
///
/// let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
/// let mut header = tar::Header::new_ustar();
/// header.set_size(6);
/// header.set_mode(0o644);
/// tar.append_data(&mut header, "packages.txt", &b"gcc-12"[..]).unwrap();
/// let archive = tar.into_inner().unwrap().finish().unwrap();
/// let mut paths = Vec::new();
/// let extent = read_archive(&*archive, |entry| {
///     if let Entry::File { path, .. } = entry {
///         paths.push(path.to_owned());
///     }
///     Ok(())
/// });
/// assert_eq!(extent.unwrap().bytes, 6);
/// assert_eq!(paths, ["packages.txt"]);
/// ```
pub fn read_archive(
    source: impl BufRead,
    mut visit: impl FnMut(Entry<'_>) -> io::Result<()>,
) -> Result<Extent, ArchiveError> {
    let mut reader = Reader { gzip: GzDecoder::new(source), tree: Tree::default(), blocks: 0, entries: 0 };
    let (mut bytes, mut long_name) = (0, None);
    while let Some(header) = reader.header()? {
        let size = header.entry_size().map_err(|_| ArchiveError::Tar(reader.blocks))?;
        let kind = header.entry_type();
        reader.entries += 1;
        // A pax and a GNU header may stand before each entry.
        if reader.entries > 3 * MAX_ENTRIES as u64 {
            let name = shown(&header.path_bytes());
            return Err(ArchiveError::Entry { number: reader.entries, name, fault: TreeFault::Many });
        }
        if let Some(name) = reader.extension(kind, size)? {
            if long_name.replace(name).is_some() {
                return Err(ArchiveError::Tar(reader.blocks));
            }
            continue;
        }
        if kind == EntryType::XGlobalHeader {
            // Some readers would give it the name that is meant for the entry.
            if long_name.is_some() {
                return Err(ArchiveError::Tar(reader.blocks));
            }
            continue;
        }
        let name = match long_name.take().flatten() {
            Some(name) => name,
            None => header.path_bytes().into_owned(),
        };
        let number = reader.entries;
        let fault = |fault| ArchiveError::Entry { number, name: shown(&name), fault };
        match kind {
            EntryType::Directory if size == 0 => {
                for path in reader.tree.directory(&name).map_err(fault)? {
                    visit(Entry::Directory { path }).map_err(ArchiveError::Io)?;
                }
            }
            EntryType::Regular => {
                let (path, parents) = reader.tree.file(&name, size).map_err(fault)?;
                for path in parents {
                    visit(Entry::Directory { path }).map_err(ArchiveError::Io)?;
                }
                let executable = header.mode().is_ok_and(|mode| mode & 0o100 != 0);
                let mut content = Content { reader: &mut reader.gzip, left: size, failed: None };
                let visited = visit(Entry::File { path, size, executable, content: &mut content });
                if let Some(error) = content.failed.take() {
                    return Err(broken(error));
                }
                visited.map_err(ArchiveError::Io)?;
                let left = content.left;
                reader.skip(left)?;
                reader.fill_up(size)?;
                bytes += size;
            }
            EntryType::Symlink | EntryType::Link | EntryType::GNULongLink => {
                return Err(fault(TreeFault::Link));
            }
            _ => return Err(fault(TreeFault::Kind)),
        }
    }
    if long_name.is_some() {
        return Err(ArchiveError::Tar(reader.blocks));
    }
    let entries = reader.tree.entries();
    reader.end()?;
    Ok(Extent { entries, bytes })
}

/// Reader of the blocks of a tar file.
struct Reader<R> {
    gzip: GzDecoder<R>,
    tree: Tree,
    /// Number of headers read.
    blocks: u64,
    entries: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads the next header; none at the end of the tar file.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut header = Header::new_old();
        self.gzip.read_exact(header.as_mut_bytes()).map_err(broken)?;
        self.blocks += 1;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The checksum is that of the header with spaces in its place.
        let sum: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
        let own: u32 = header.as_old().cksum.iter().map(|byte| u32::from(*byte)).sum();
        if header.cksum().ok() != Some(sum - own + 8 * u32::from(b' ')) {
            return Err(ArchiveError::Tar(self.blocks));
        }
        Ok(Some(header))
    }

    /// Reads the content of a header that extends the next header (pax, or GNU long name). Returns `None` for any other
    /// kind, and otherwise the name that it gives to the next entry, if it gives one.
    #[expect(clippy::option_option, reason = "no extension, and one without a name, differ")]
    fn extension(&mut self, kind: EntryType, size: u64) -> Result<Option<Option<Vec<u8>>>, ArchiveError> {
        let pax = matches!(kind, EntryType::XHeader | EntryType::XGlobalHeader);
        if !pax && kind != EntryType::GNULongName {
            return Ok(None);
        }
        let malformed = ArchiveError::Tar(self.blocks);
        if size > MAX_EXTENSION || self.tree.content(size).is_err() {
            return Err(malformed);
        }
        let mut content = Vec::new();
        (&mut self.gzip).take(size).read_to_end(&mut content).map_err(broken)?;
        if u64::try_from(content.len()) != Ok(size) {
            return Err(ArchiveError::Truncated);
        }
        self.fill_up(size)?;
        if !pax {
            let name = content.strip_suffix(b"\0").unwrap_or(&content);
            return Ok(Some(Some(name.to_vec())));
        }
        let mut name = None;
        let mut rest = &content[..];
        while !rest.is_empty() {
            let Some((key, value, after)) = pax_record(rest) else { return Err(malformed) };
            match key {
                b"path" if kind == EntryType::XHeader && name.is_none() => name = Some(value.to_vec()),
                // A size in a pax header would move the next header, and a global path would give all entries one name.
                b"path" | b"size" | b"linkpath" => return Err(malformed),
                sparse if sparse.starts_with(b"GNU.sparse.") => return Err(malformed),
                _ => {}
            }
            rest = after;
        }
        if kind == EntryType::XGlobalHeader { Ok(None) } else { Ok(Some(name)) }
    }

    fn skip(&mut self, size: u64) -> Result<(), ArchiveError> {
        let skipped = io::copy(&mut (&mut self.gzip).take(size), &mut io::sink()).map_err(broken)?;
        if skipped == size { Ok(()) } else { Err(ArchiveError::Truncated) }
    }

    /// Skips the zeros that fill up the last block of a content of `size` bytes.
    fn fill_up(&mut self, size: u64) -> Result<(), ArchiveError> {
        self.skip(size.next_multiple_of(BLOCK as u64) - size)
    }

    /// Checks the end: a second block of zeros, nothing but zeros behind it, the checksum and the length of the gzip file,
    /// and nothing behind that.
    fn end(mut self) -> Result<(), ArchiveError> {
        let mut buffer = [0; BLOCK];
        self.gzip.read_exact(&mut buffer).map_err(broken)?;
        let mut filling = 0;
        let mut read = BLOCK;
        while read > 0 {
            filling += read as u64;
            if buffer[..read].iter().any(|byte| *byte != 0) || filling > MAX_FILLING {
                return Err(ArchiveError::Trailing);
            }
            read = self.gzip.read(&mut buffer).map_err(broken)?;
        }
        let mut source = self.gzip.into_inner();
        let rest = source.fill_buf().map_err(ArchiveError::Io)?;
        if rest.is_empty() { Ok(()) } else { Err(ArchiveError::Trailing) }
    }
}

/// Reads one record of a pax header, `LENGTH KEY=VALUE` and a line feed. Returns key, value and what follows.
fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

/// Content of a file. It stores the archive's error, so that the caller can tell it from an error of the visitor.
struct Content<'a, R> {
    reader: &'a mut R,
    left: u64,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let failed = |kind| io::Error::new(kind, "the archive can't be read");
        match self.reader.read(&mut buffer[..most]) {
            Ok(0) => {
                self.failed = Some(io::ErrorKind::UnexpectedEof.into());
                Err(failed(io::ErrorKind::UnexpectedEof))
            }
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(failed(kind))
            }
        }
    }
}

/// Returns the reason for which the decoder gave an error.
fn broken(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => ArchiveError::Gzip,
        _ => ArchiveError::Io(error),
    }
}

/// Returns a name for a message: at most 80 characters.
fn shown(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    if name.chars().count() <= 80 {
        name.into_owned()
    } else {
        name.chars().take(79).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests;
