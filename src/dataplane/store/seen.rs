//! The keysets this host has seen, in a file beside the database. A replica that is lost or set aside must not bring a retired
//! root back: the keyset that retired it is followed from here again, before anything is taken from the network.

use std::path::PathBuf;

use rusqlite::params;

use super::{ReplicaStore, StoreError, keyset_chain};
use crate::dataplane::identity::write_private;
use crate::protocol::keyset::{Keyset, UnverifiedKeyset};

impl ReplicaStore {
    fn seen_file(&self) -> PathBuf {
        self.path.with_extension("keysets")
    }

    /// Fills a database without keysets from the file, as far as the pinned roots prove what stands there.
    pub(super) fn recall(&self) -> Result<(), StoreError> {
        let Ok(text) = std::fs::read_to_string(self.seen_file()) else {
            self.remember();
            return Ok(());
        };
        if !keyset_chain(&self.connection)?.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> = text.lines().collect();
        let proved = Keyset::verify_chain(&lines, &self.pinned)
            .and_then(|_| Keyset::verify_earliest(&lines, &self.pinned));
        let start = match proved {
            Ok((_, start)) => start,
            Err(error) => {
                // Roots that succeed none of those seen were pinned by hand, or the file is damaged. It is kept.
                let aside = self.set_aside();
                tracing::warn!(
                    %error,
                    aside = %aside.display(),
                    "the pinned roots do not prove the keysets this host has seen; the file was moved aside"
                );
                return Ok(());
            }
        };
        let transaction = self.connection.unchecked_transaction()?;
        for line in &lines[start..] {
            let version = UnverifiedKeyset::parse(line)?.body().version;
            transaction.execute("INSERT INTO keyset VALUES (?1, ?2)", params![version, line])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Writes the chain held into the file. The database holds it already: a file that can't be written is written next time.
    pub(super) fn remember(&self) {
        let written = keyset_chain(&self.connection).map(|chain| {
            if chain.is_empty() {
                return Ok(());
            }
            write_private(&self.seen_file(), format!("{}\n", chain.join("\n")).as_bytes())
        });
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the keysets this host has seen can't be written to their file");
            }
            Err(error) => tracing::warn!(%error, "the keysets this host has seen can't be read"),
        }
    }

    /// Moves the file to a name that is free.
    fn set_aside(&self) -> PathBuf {
        let names = (0_u32..).map(|number| self.path.with_extension(format!("keysets.unproved-{number}")));
        let free = names.take(1000).find(|name| !name.exists());
        let aside = free.unwrap_or_else(|| self.path.with_extension("keysets.unproved"));
        let _ = std::fs::rename(self.seen_file(), &aside);
        aside
    }
}
