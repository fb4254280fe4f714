//! Heads that contradict each other: evidence that somebody with the replica key has signed two histories.

use base64::Engine as _;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{ReplicaStore, StoreError};
use crate::protocol::head::SignedHead;
use crate::protocol::jws::BASE64URL;
use crate::protocol::time::Time;

/// Heads that are kept of one version. Two prove it; whoever holds the key could sign any number.
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
    let payload = BASE64URL.decode(text.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

impl ReplicaStore {
    /// Keeps two heads that contradict each other. Signed anew with the same content, as every answer of a feed is, they are
    /// kept once. Returns whether anything was new.
    pub fn keep_fork(&self, one: &SignedHead, other: &SignedHead, now: Time) -> Result<bool, StoreError> {
        let version = one.head().version;
        let mut new = false;
        for head in [one, other] {
            let kept: Vec<String> = self
                .connection
                .prepare_cached("SELECT text FROM fork WHERE version = ?1")?
                .query_map([version], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let says = said(head.as_str());
            if kept.len() >= MAX_OF_VERSION || kept.iter().any(|text| said(text) == says) {
                continue;
            }
            let insert = "INSERT OR IGNORE INTO fork (version, text, seen) VALUES (?1, ?2, ?3)";
            new |= self.connection.execute(insert, params![version, head.as_str(), now.unix()])? > 0;
        }
        Ok(new)
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
