//! Inspects an archive in the object store: reads it to its end, as a host will.

use std::io::{self, BufRead, Read};

use axum::body::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{Receiver, channel};

use crate::controlplane::ControlPlane;
use crate::controlplane::archives::{Archives, pieces};
use crate::controlplane::error::Error;
use crate::protocol::deploy::archive::{ArchiveError, Extent, read_archive};

/// Pieces that are read ahead.
const AHEAD: usize = 1;

impl Archives {
    /// Reads an archive to its end. The outer error is this machine's, the inner one the archive's. An archive that is not
    /// the one with this digest any more is an error of the machine.
    pub(in crate::controlplane) async fn inspect(
        &self,
        archive: &str,
        digest: [u8; 32],
        size: u64,
    ) -> Result<Result<Extent, ArchiveError>, Error> {
        let (sender, receiver) = channel(AHEAD);
        let reading = tokio::task::spawn_blocking(move || {
            let mut pieces = Pieces { receiver, piece: Bytes::new(), hash: Sha256::new() };
            let read = read_archive(&mut pieces, |_| Ok(()));
            (read, pieces.hash.finalize())
        });
        for range in pieces(0, size) {
            let piece = self.read(archive, range).await;
            let failed = piece.as_ref().err().map(ToString::to_string);
            // The reader ends early when it refuses the archive.
            if sender.send(piece.map_err(drop)).await.is_err() {
                break;
            }
            if let Some(why) = failed {
                return Err(Error::Io(io::Error::other(format!(
                    "the archive {archive} can't be read: {why}"
                ))));
            }
        }
        drop(sender);
        let (read, found) = reading.await.map_err(|ended| Error::Io(io::Error::other(ended)))?;
        match read {
            Ok(_) if found[..] != digest => {
                Err(Error::Io(io::Error::other(format!("the archive {archive} was changed in its store"))))
            }
            Err(ArchiveError::Io(error)) => Err(Error::Io(error)),
            read => Ok(read),
        }
    }
}

impl ControlPlane {
    /// Reads an archive to its end, when it is its turn.
    pub(in crate::controlplane) async fn inspect(
        &self,
        archive: &str,
        digest: [u8; 32],
        size: u64,
    ) -> Result<Result<Extent, ArchiveError>, Error> {
        let _turn = self.inspecting.acquire().await.map_err(|closed| Error::Io(io::Error::other(closed)))?;
        self.archives.inspect(archive, digest, size).await
    }
}

/// Reader of the pieces that arrive from the store. It blocks while none is there.
struct Pieces {
    receiver: Receiver<Result<Bytes, ()>>,
    piece: Bytes,
    hash: Sha256,
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                None => break,
                Some(Ok(piece)) => {
                    self.hash.update(&piece);
                    self.piece = piece;
                }
                Some(Err(())) => return Err(io::Error::other("the archive can't be read from its store")),
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, amount: usize) {
        self.piece = self.piece.slice(amount..);
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}
