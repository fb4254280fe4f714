//! Archive that arrives: written to the disk and hashed piece by piece.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::place::remove;

/// Reasons why an archive could not be received.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// More bytes came than may come.
    #[error("the archive is larger than {0} bytes")]
    TooLarge(u64),
    /// The bytes are not those that were announced.
    #[error("{length} bytes came with another digest than that of the archive, which has {size} bytes")]
    Another {
        /// Number of bytes that came.
        length: u64,
        /// Size of the archive.
        size: u64,
    },
    /// The bytes cannot be stored.
    #[error("{path} can't be written: {source}; free space on its disk and check its owner", path = .path.display())]
    Disk {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        source: io::Error,
    },
}

/// Archive that arrives, in a file that nothing else uses.
pub struct Incoming {
    path: PathBuf,
    file: File,
    hash: Sha256,
    length: u64,
    most: u64,
}

/// Complete archive, on the disk.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) path: PathBuf,
    pub(super) digest: [u8; 32],
    pub(super) size: u64,
}

impl Incoming {
    /// Begins an archive of at most `most` bytes, in a file of this path.
    pub(super) fn begin(path: PathBuf, most: u64) -> Result<Self, ReceiveError> {
        let opened = remove(&path).and_then(|()| open(&path, true));
        match opened {
            Ok(file) => Ok(Self { path, file, hash: Sha256::new(), length: 0, most }),
            Err(source) => Err(ReceiveError::Disk { path, source }),
        }
    }

    /// Goes on with an archive of `size` bytes, of which a part may be in the file of this path. A part that can't be read,
    /// or that is too long, begins anew.
    pub(super) fn resume(path: PathBuf, size: u64) -> Result<Self, ReceiveError> {
        let part =
            std::fs::symlink_metadata(&path).ok().filter(|found| found.is_file() && found.len() < size);
        let hashed = part.and_then(|_| open(&path, false).and_then(|file| Ok((hash(&path)?, file))).ok());
        match hashed {
            Some(((hash, length), file)) if length < size => {
                Ok(Self { path, file, hash, length, most: size })
            }
            _ => Self::begin(path, size),
        }
    }

    /// Returns the number of bytes received.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Discards the bytes received: the sender begins anew.
    pub fn restart(&mut self) -> Result<(), ReceiveError> {
        if self.length > 0 {
            *self = Self::begin(std::mem::take(&mut self.path), self.most)?;
        }
        Ok(())
    }

    /// Appends a piece. The write reaches the page cache.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), ReceiveError> {
        let length = self.length.saturating_add(piece.len() as u64);
        if length > self.most {
            return Err(ReceiveError::TooLarge(self.most));
        }
        self.file.write_all(piece).map_err(|source| self.failed(source))?;
        self.hash.update(piece);
        self.length = length;
        Ok(())
    }

    /// Waits until the archive is on the disk.
    pub(super) fn finish(self) -> Result<Received, ReceiveError> {
        self.file.sync_all().map_err(|source| self.failed(source))?;
        Ok(Received { path: self.path, digest: self.hash.finalize().into(), size: self.length })
    }

    /// Removes the bytes received.
    pub(super) fn discard(self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a part of an archive can't be removed");
        }
    }

    fn failed(&self, source: io::Error) -> ReceiveError {
        ReceiveError::Disk { path: self.path.clone(), source }
    }
}

fn open(path: &Path, new: bool) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(new).mode(0o600).open(path)
}

/// Returns the state of the hash of a file, and the file's size.
pub(super) fn hash(path: &Path) -> io::Result<(Sha256, u64)> {
    let mut file = File::open(path)?;
    let (mut hash, mut length, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hash, length)),
            Ok(read) => {
                hash.update(buffer.get(..read).unwrap_or_default());
                length += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_archive_that_broke_off_goes_on_where_it_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.part");
        let mut incoming = Incoming::resume(path.clone(), 6).unwrap();
        incoming.write(b"abc").unwrap();
        drop(incoming);
        let mut incoming = Incoming::resume(path.clone(), 6).unwrap();
        assert_eq!(incoming.length(), 3);
        incoming.write(b"def").unwrap();
        let received = incoming.finish().unwrap();
        let digest: [u8; 32] = Sha256::digest(b"abcdef").into();
        assert_eq!((received.digest, received.size), (digest, 6));
        assert_eq!(std::fs::read(&path).unwrap(), b"abcdef");
        // A part that is as long as the archive is another one.
        assert_eq!(Incoming::resume(path.clone(), 6).unwrap().length(), 0);
    }

    #[test]
    fn what_is_too_long_is_refused_and_what_begins_anew_keeps_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.part");
        let mut incoming = Incoming::begin(path.clone(), 4).unwrap();
        incoming.write(b"abc").unwrap();
        assert!(matches!(incoming.write(b"de"), Err(ReceiveError::TooLarge(4))));
        incoming.restart().unwrap();
        incoming.write(b"wxyz").unwrap();
        assert_eq!(incoming.finish().unwrap().size, 4);
        assert_eq!(std::fs::read(&path).unwrap(), b"wxyz");
        Incoming::begin(path.clone(), 4).unwrap().discard();
        assert!(!path.exists());
    }
}
