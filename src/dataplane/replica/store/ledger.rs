//! Ledger: the facts that were once proved about a token or a role. It outlives records, snapshots and restored backups.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::StoreError;
use crate::dataplane::decide::snapshot::Takeaway;
use crate::protocol::id::TokenId;
use crate::protocol::record::{Record, RecordKind};
use crate::protocol::role::RoleDigest;
use crate::protocol::token::TokenRecord;

/// Result of entering records into the ledger.
#[derive(Default)]
pub(super) struct Entries {
    /// First change of a member that must never change. If there is one, only the losses of the bundle are kept.
    pub(super) broken: Option<StoreError>,
    /// Revocations and rotations in the records that were not known before.
    pub(super) losses: Vec<Takeaway>,
    /// Tokens that the records call active, or of a lower generation, although this node has proof of the contrary. They stay dead.
    pub(super) overruled: Vec<TokenId>,
}

impl Entries {
    /// Enters a record. Sets `broken` if the record contradicts the ledger.
    pub(super) fn enter(&mut self, ledger: &Transaction<'_>, record: &Record) -> Result<(), StoreError> {
        let token = match record.kind {
            // A record that cannot be read grants nothing.
            RecordKind::Token => match record.read::<TokenRecord>() {
                Some(token) if token.id.as_str() == &*record.key => Some(token),
                _ => return Ok(()),
            },
            RecordKind::Role => None,
            RecordKind::Deployment | RecordKind::DagTags | RecordKind::Node | RecordKind::StandardTokens => {
                return Ok(());
            }
        };
        let (proved, generation, revoked) = match &token {
            Some(token) => (token.grant_digest().to_vec(), token.generation, token.revoked_at.is_some()),
            None => (RoleDigest::of(&record.body).to_string().into_bytes(), 0, false),
        };
        let expires = token.as_ref().map(|token| token.expires_at.unix());
        let kind = record.kind.as_str();
        let known = ledger
            .prepare_cached("SELECT proved, generation, revoked FROM ledger WHERE kind = ?1 AND key = ?2")?
            .query_row(params![kind, &*record.key], |row| {
                Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, u32>(1)?, row.get::<_, bool>(2)?))
            })
            .optional()?;
        let listed = known.is_some();
        let (before, highest, dead) = known.unwrap_or((Vec::new(), 0, false));
        if let Some(token) = token {
            if generation < highest || (dead && !revoked) {
                self.overruled.push(token.id.clone());
            }
            // Losses are kept in rows that are there. A snapshot of new tokens would otherwise collect all of them for nothing.
            if listed && (generation > highest || (revoked && !dead)) {
                self.losses.push(Takeaway { token: token.id, generation, revoked, expired: 0 });
            }
        }
        // Only records already in the ledger are pinned. A record that an operator released on this host is pinned again
        // when it next appears.
        if !before.is_empty() && before != proved {
            let key = record.key.to_string();
            let what = "what it grants is fixed";
            self.broken.get_or_insert(StoreError::Invariant { kind: record.kind, key, what });
            return Ok(());
        }
        // No REPLACE: the row also holds the end of a token that expired before the floor was lowered. The expiry is that
        // of the newest generation.
        let row = params![kind, &*record.key, proved, generation, revoked || dead, expires];
        ledger
            .prepare_cached(
                "INSERT INTO ledger (kind, key, proved, generation, revoked, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (kind, key) DO UPDATE SET proved = excluded.proved, revoked = excluded.revoked,
                     expires = CASE WHEN excluded.generation >= generation THEN excluded.expires ELSE expires END,
                     generation = max(generation, excluded.generation)",
            )?
            .execute(row)?;
        Ok(())
    }
}

/// Stores the losses of a rejected bundle.
pub(super) fn keep(ledger: &Transaction<'_>, losses: &[Takeaway]) -> Result<(), StoreError> {
    for loss in losses {
        ledger.execute(
            "UPDATE ledger SET generation = max(generation, ?2), revoked = max(revoked, ?3) WHERE kind = 'token' AND key = ?1",
            params![loss.token.as_str(), loss.generation, loss.revoked],
        )?;
    }
    Ok(())
}

/// Calls `take` for each token with a known loss. Most tokens are of the first generation and were never revoked; they have
/// none.
pub(super) fn each_takeaway(
    connection: &Connection,
    mut take: impl FnMut(Takeaway),
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT key, generation, revoked, expired FROM ledger
         WHERE kind = 'token' AND (generation > 1 OR revoked OR expired > 0)",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(takeaway) = read_takeaway(row)? {
            take(takeaway);
        }
    }
    Ok(())
}

/// Returns the known loss of one token.
pub(super) fn takeaway(ledger: &Connection, token: &str) -> Result<Option<Takeaway>, StoreError> {
    let mut statement = ledger.prepare_cached(
        "SELECT key, generation, revoked, expired FROM ledger
         WHERE kind = 'token' AND key = ?1 AND (generation > 1 OR revoked OR expired > 0)",
    )?;
    let mut rows = statement.query([token])?;
    match rows.next()? {
        Some(row) => Ok(read_takeaway(row)?),
        None => Ok(None),
    }
}

fn read_takeaway(row: &Row<'_>) -> rusqlite::Result<Option<Takeaway>> {
    let Ok(token) = TokenId::new(row.get_ref(0)?.as_str()?) else { return Ok(None) };
    let (generation, revoked, expired) = (row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(Some(Takeaway { token, generation, revoked, expired }))
}
