//! Keeps the keysets that this host has seen in a file beside the database. A replica that is lost, moved aside or restored
//! from a backup must not restore a retired root: the node follows the keyset that retired it from this file, before it
//! accepts anything from the network.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{ReplicaStore, StoreError, keyset_chain};
use crate::platform::private_file::write_private;

/// Maximum number of damaged files that can be moved aside.
const MAX_ASIDE: u32 = 1000;

/// Returns the path of the file that is kept beside the replica's database at `replica`.
#[must_use]
pub fn seen_file(replica: &Path) -> PathBuf {
    replica.with_extension("keysets")
}

impl ReplicaStore {
    fn seen_file(&self) -> PathBuf {
        seen_file(&self.path)
    }

    /// Follows the keysets of the file, from the newest one of the database, or from the pinned roots if the database has
    /// none. A file that cannot be read or verified is moved aside.
    pub(super) fn recall(&mut self) -> Result<(), StoreError> {
        let chain = keyset_chain(&self.connection)?;
        if !chain.is_empty() && self.chain.verify(chain, &self.pinned).is_err() {
            // The caller that loads the replica moves the database aside. The file is judged when the next database is opened.
            return Ok(());
        }
        let text = match std::fs::read_to_string(self.seen_file()) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.remember();
                return Ok(());
            }
            Err(error) => {
                self.set_aside(&error);
                return Ok(());
            }
        };
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.is_empty() {
            self.set_aside(&"it is empty");
            return Ok(());
        }
        // No clock is read before the daemon runs. The time floor is the latest proved time.
        let now = self.floor()?;
        match self.follow(&lines, now) {
            Ok(_) if self.seen_text()? == text => {}
            Ok(_) => self.remember(),
            // Either an operator pinned roots that succeed none of those seen, or the file is damaged.
            Err(error @ (StoreError::Keyset(_) | StoreError::KeysetFork(_))) => self.set_aside(&error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes the chain held into the file. A failure is only logged, since the database holds the chain: the next keyset,
    /// or the next start, writes the file again. A file that could not be parsed or moved aside is left as it is.
    pub(super) fn remember(&self) {
        if self.keeps_seen_file {
            return;
        }
        match self.seen_text() {
            Ok(text) if text.is_empty() => {}
            Ok(text) => {
                if let Err(error) = write_private(&self.seen_file(), text.as_bytes()) {
                    tracing::warn!(%error, "the keysets this host has seen can't be written to their file");
                }
            }
            Err(error) => tracing::warn!(%error, "the keysets this host has seen can't be read"),
        }
    }

    /// Returns the content of a file that holds the chain of the database.
    fn seen_text(&self) -> Result<String, StoreError> {
        Ok(keyset_chain(&self.connection)?.iter().flat_map(|line| [line, "\n"]).collect())
    }

    /// Moves the file to a free name because of `fault`, and writes a new one with the chain of the database.
    fn set_aside(&mut self, fault: &dyn std::fmt::Display) {
        let file = self.seen_file();
        let names =
            (0..MAX_ASIDE).map(|number| self.path.with_extension(format!("keysets.unproved-{number}")));
        let free = names.into_iter().find(|name| name.symlink_metadata().is_err());
        let moved = free
            .ok_or_else(|| std::io::Error::from(ErrorKind::AlreadyExists))
            .and_then(|aside| std::fs::rename(&file, &aside).map(|()| aside));
        match moved {
            Ok(aside) => {
                tracing::warn!(
                    error = %fault,
                    aside = %aside.display(),
                    "the keysets this host has seen can't be read, or the pinned roots do not prove them; the file was moved aside"
                );
                self.remember();
            }
            Err(error) => {
                self.keeps_seen_file = true;
                tracing::error!(
                    fault = %fault,
                    file = %file.display(),
                    %error,
                    "the keysets this host has seen can't be read, or the pinned roots do not prove them, and the file can't be \
                     moved aside; move it away and restart the daemon"
                );
            }
        }
    }
}
