//! Heads and keysets that contradict each other: evidence that somebody with the replica key or the root keys has signed two
//! histories.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{ReplicaStore, StoreError};
use crate::protocol::head::{MAX_HEAD, SignedHead};
use crate::protocol::jws::Unverified;
use crate::protocol::keyset::UnverifiedKeyset;
use crate::protocol::time::Time;

/// Heads, or keysets, that are kept of one version. Two prove it; whoever holds the key could sign any number.
const MAX_OF_VERSION: usize = 16;

/// A head or a keyset that contradicts another about one version: evidence that someone with the keys has signed both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ForkedHead {
    /// `head` or `keyset`.
    pub what: String,
    /// The version it speaks of.
    pub version: u64,
    /// When the contradiction was seen, by this node's clock.
    pub seen_at: Time,
    /// The JWS, byte for byte.
    pub head: String,
}

/// What a head says of its version.
#[derive(PartialEq, Eq, Deserialize)]
struct Said {
    digest: String,
    count: u64,
}

/// Reads what a head says that was proved when it was kept.
fn said(text: &str) -> Option<Said> {
    Unverified::parse(text.as_bytes(), MAX_HEAD).ok()?.claimed().ok()
}

/// Reads the payload of a keyset that was proved when it was kept.
fn payload(text: &str) -> Option<String> {
    Some(UnverifiedKeyset::parse(text).ok()?.payload().to_owned())
}

impl ReplicaStore {
    /// Keeps two heads that contradict each other. Signed anew with the same content, as every answer of a feed is, they are
    /// kept once. Returns whether anything was new.
    pub fn keep_fork(&self, one: &SignedHead, other: &SignedHead, now: Time) -> Result<bool, StoreError> {
        let version = one.head().version;
        let mut new = false;
        for text in [one.as_str(), other.as_str()] {
            let kept = self.evidence("SELECT text FROM fork WHERE version = ?1", version)?;
            if is_news(&kept, text, said) {
                let insert = "INSERT OR IGNORE INTO fork (version, text, seen) VALUES (?1, ?2, ?3)";
                new |= self.connection.execute(insert, params![version, text, now.unix()])? > 0;
            }
        }
        Ok(new)
    }

    /// Keeps two keysets of one version that contradict each other. The same keyset with other signatures is kept once:
    /// signatures that do not hold could make any number of copies.
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

    /// The heads and keysets that contradicted one this node had proved, or another node had, and those they contradicted.
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

/// Whether `text` says what none of the texts `kept` says, and there is room for it.
fn is_news<T: PartialEq>(kept: &[String], text: &str, read: impl Fn(&str) -> Option<T>) -> bool {
    let says = read(text);
    kept.len() < MAX_OF_VERSION && kept.iter().all(|text| read(text) != says)
}
