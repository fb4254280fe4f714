//! Stores heads and keysets that contradict each other: evidence that a holder of the replica key or of the root keys
//! signed two histories.

use rusqlite::params;
use serde::Deserialize;

use super::{ReplicaStore, StoreError};
use crate::api::host::replica::ForkedHead;
use crate::protocol::head::{MAX_HEAD, SignedHead};
use crate::protocol::jws::Unverified;
use crate::protocol::keyset::UnverifiedKeyset;
use crate::protocol::time::Time;

/// Maximum number of heads, or of keysets, kept for one version. Two are proof, and the holder of the key could sign any number.
const MAX_OF_VERSION: usize = 16;

/// Content of a head. Two heads of one version contradict each other only if it differs.
#[derive(PartialEq, Eq, Deserialize)]
struct Said {
    digest: String,
    count: u64,
}

/// Parses the content of a head that was verified before it was stored.
fn said(text: &str) -> Option<Said> {
    Unverified::parse(text.as_bytes(), MAX_HEAD).ok()?.claimed().ok()
}

/// Parses the payload of a keyset that was verified before it was stored.
fn payload(text: &str) -> Option<String> {
    Some(UnverifiedKeyset::parse(text).ok()?.payload().to_owned())
}

impl ReplicaStore {
    /// Stores two heads that contradict each other. Each answer of a feed signs the head anew, so heads with the same
    /// content are stored once. Returns true if anything was new.
    pub fn keep_fork(&self, one: &SignedHead, other: &SignedHead, now: Time) -> Result<bool, StoreError> {
        let version = one.head().version;
        let mut new = false;
        for text in [one.as_str(), other.as_str()] {
            let kept = self.evidence("SELECT text FROM fork WHERE version = ?1", version)?;
            if is_news(&kept, text, said) {
                let insert = "INSERT OR IGNORE INTO fork (version, text, seen) VALUES (?1, ?2, ?3)";
                self.connection.execute(insert, params![version, text, now.unix()])?;
                new = true;
            }
        }
        Ok(new)
    }

    /// Stores two keysets of one version that contradict each other. The same keyset with other signatures is stored once:
    /// invalid signatures could make any number of copies.
    pub(super) fn keep_keyset_fork(
        &self,
        version: u64,
        [held, offered]: [&str; 2],
        now: Time,
    ) -> Result<(), StoreError> {
        for text in [held, offered] {
            let kept = self.evidence("SELECT text FROM keyset_fork WHERE version = ?1", version)?;
            if is_news(&kept, text, payload) {
                let insert = "INSERT OR IGNORE INTO keyset_fork (version, text, seen) VALUES (?1, ?2, ?3)";
                self.connection.execute(insert, params![version, text, now.unix()])?;
            }
        }
        Ok(())
    }

    fn evidence(&self, query: &str, version: u64) -> Result<Vec<String>, StoreError> {
        let mut statement = self.connection.prepare_cached(query)?;
        let texts = statement.query_map([version], |row| row.get(0))?;
        Ok(texts.collect::<Result<_, _>>()?)
    }

    /// Returns all stored heads and keysets that contradict others, in either role, found by this node or shown by another one.
    pub fn forks(&self) -> Result<Vec<ForkedHead>, StoreError> {
        let mut statement =
            self.connection.prepare_cached(
                "SELECT 'head' AS what, version, seen, text, rowid AS number FROM fork
                 UNION ALL SELECT 'keyset', version, seen, text, rowid FROM keyset_fork ORDER BY what, version, number",
            )?;
        let forks = statement.query_map([], |row| {
            let seen_at = Time::from_unix(row.get(2)?);
            Ok(ForkedHead { what: row.get(0)?, version: row.get(1)?, seen_at, head: row.get(3)? })
        })?;
        Ok(forks.collect::<Result<_, _>>()?)
    }
}

/// Returns true if `text` has another content than all of `kept`, and there is room for it.
fn is_news<T: PartialEq>(kept: &[String], text: &str, read: impl Fn(&str) -> Option<T>) -> bool {
    let says = read(text);
    kept.len() < MAX_OF_VERSION && kept.iter().all(|text| read(text) != says)
}
