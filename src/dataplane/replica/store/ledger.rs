//! Ledger: the facts that were once proved about a token or a role, and the retirements of nodes. It outlives records,
//! snapshots and restored backups.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::StoreError;
use crate::dataplane::decide::index::Retirement;
use crate::dataplane::decide::snapshot::AccessLoss;
use crate::protocol::id::{NodeId, TokenId};
use crate::protocol::record::{NodeRecord, Record, RecordKind};
use crate::protocol::role::RoleDigest;
use crate::protocol::time::Time;
use crate::protocol::token::TokenRecord;

/// Result of entering records into the ledger.
#[derive(Default)]
pub(super) struct Entries {
    /// First change of a member that must never change. If there is one, only the losses of the bundle are kept.
    pub(super) broken: Option<StoreError>,
    /// Revocations and rotations in the records that were not known before.
    pub(super) losses: Vec<AccessLoss>,
    /// Tokens that the records call active, of a lower generation, or valid for longer, although this node has proof of the
    /// contrary. The proof counts.
    pub(super) overruled: Vec<TokenId>,
    /// Nodes that the records call members, although this node has proof that they were retired. The proof counts.
    pub(super) readmitted: Vec<NodeId>,
}

/// Row of the ledger.
#[derive(Default)]
struct Known {
    proved: Vec<u8>,
    generation: u32,
    revoked: bool,
    expires: Option<i64>,
    expires_of: Option<u32>,
    starts: Option<i64>,
}

/// Times between which a token is valid, as far as they were proved.
#[derive(Default)]
struct Window {
    /// Earliest end that was proved of the generation `expires_of`.
    expires: Option<i64>,
    expires_of: Option<u32>,
    /// Latest start that was proved.
    starts: Option<i64>,
    /// True if the record says that the newest generation begins earlier or ends later.
    narrowed: bool,
}

/// Returns the generation that a record counts as. Generations begin at 1: a record of generation 0 is one of generation 1,
/// and must not pass for an older one, whose end is not compared.
fn counted(token: &TokenRecord) -> u32 {
    token.generation.max(1)
}

impl Known {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            proved: row.get(0)?,
            generation: row.get(1)?,
            revoked: row.get(2)?,
            expires: row.get(3)?,
            expires_of: row.get(4)?,
            starts: row.get(5)?,
        })
    }

    /// Returns the times that are proved once `token` is. The end moves with the generation only, and the start
    /// never. If records contradict each other, the latest start and the earliest end of the generation count.
    fn window(&self, token: &TokenRecord) -> Window {
        let (starts, ends) = (token.not_before.unix(), token.expires_at.unix());
        let starts = self.starts.map_or(starts, |known| known.max(starts));
        let generation = counted(token);
        if generation < self.generation {
            return Window {
                expires: self.expires,
                expires_of: self.expires_of,
                starts: Some(starts),
                narrowed: false,
            };
        }
        let same = self.expires_of.is_some_and(|of| of.max(1) == generation);
        let expires = self.expires.filter(|_| same).map_or(ends, |known| known.min(ends));
        Window {
            expires: Some(expires),
            expires_of: Some(generation),
            starts: Some(starts),
            narrowed: expires < ends || starts > token.not_before.unix(),
        }
    }
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
            RecordKind::Node => return self.enter_node(ledger, record),
            RecordKind::Deployment | RecordKind::DagTags | RecordKind::StandardTokens => return Ok(()),
        };
        let (proved, generation, revoked) = match &token {
            Some(token) => (token.grant_digest().to_vec(), counted(token), token.revoked_at.is_some()),
            None => (RoleDigest::compute(&record.body).to_string().into_bytes(), 0, false),
        };
        let kind = record.kind.as_str();
        let known = ledger
            .prepare_cached(
                "SELECT proved, generation, revoked, expires, expires_of, starts FROM ledger WHERE kind = ?1 AND key = ?2",
            )?
            .query_row(params![kind, &*record.key], Known::read)
            .optional()?;
        let listed = known.is_some();
        let known = known.unwrap_or_default();
        let window = token.as_ref().map(|token| known.window(token)).unwrap_or_default();
        if let Some(token) = token {
            if generation < known.generation || (known.revoked && !revoked) || window.narrowed {
                self.overruled.push(token.id.clone());
            }
            // Losses are kept in rows that are there. A snapshot of new tokens would otherwise collect all of them for nothing.
            if listed && (generation > known.generation || (revoked && !known.revoked)) {
                self.losses.push(AccessLoss { generation, revoked, ..AccessLoss::none(token.id) });
            }
        }
        // Only records already in the ledger are pinned. A record that an operator released on this host is pinned again
        // when it next appears.
        if !known.proved.is_empty() && known.proved != proved {
            let key = record.key.to_string();
            let what = "what it grants is fixed";
            self.broken.get_or_insert(StoreError::Invariant { kind: record.kind, key, what });
            return Ok(());
        }
        // No REPLACE: the row also holds the end of a token that expired before the floor was lowered.
        let row = params![
            kind,
            &*record.key,
            proved,
            generation.max(known.generation),
            revoked || known.revoked,
            window.expires,
            window.expires_of,
            window.starts,
            window.narrowed
        ];
        ledger
            .prepare_cached(
                "INSERT INTO ledger (kind, key, proved, generation, revoked, expires, expires_of, starts, narrowed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (kind, key) DO UPDATE SET proved = excluded.proved, generation = excluded.generation,
                     revoked = excluded.revoked, expires = excluded.expires, expires_of = excluded.expires_of,
                     starts = excluded.starts, narrowed = excluded.narrowed",
            )?
            .execute(row)?;
        Ok(())
    }

    /// Enters the retirement of a node. The row of a node that was never retired would state nothing.
    fn enter_node(&mut self, ledger: &Transaction<'_>, record: &Record) -> Result<(), StoreError> {
        let Some(node) = record.read::<NodeRecord>().filter(|node| node.id.as_str() == &*record.key) else {
            return Ok(());
        };
        if let Some(at) = node.retired_at {
            ledger
                .prepare_cached(
                    "INSERT INTO ledger (kind, key, proved, generation, revoked, expires) VALUES ('node', ?1, x'', 0, 1, ?2)
                     ON CONFLICT (kind, key) DO UPDATE SET expires = min(expires, excluded.expires)",
                )?
                .execute(params![node.id.as_str(), at.unix()])?;
        } else if retirement(ledger, &node.id)?.is_some() {
            self.readmitted.push(node.id);
        }
        Ok(())
    }
}

/// Returns the earliest known time at which a node was retired.
pub(super) fn retirement(ledger: &Connection, node: &NodeId) -> Result<Option<Time>, StoreError> {
    let mut statement =
        ledger.prepare_cached("SELECT expires FROM ledger WHERE kind = 'node' AND key = ?1")?;
    Ok(statement.query_row([node.as_str()], |row| row.get(0)).optional()?.map(Time::from_unix))
}

/// Returns the known retirements of nodes.
pub(super) fn retirements(ledger: &Connection) -> Result<Vec<Retirement>, StoreError> {
    let mut statement = ledger.prepare_cached("SELECT key, expires FROM ledger WHERE kind = 'node'")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let mut retirements = Vec::new();
    for row in rows {
        let (node, at) = row?;
        retirements.extend(NodeId::new(&node).ok().map(|node| Retirement { node, at: Time::from_unix(at) }));
    }
    Ok(retirements)
}

/// Stores the losses of a rejected bundle.
pub(super) fn keep(ledger: &Transaction<'_>, losses: &[AccessLoss]) -> Result<(), StoreError> {
    for loss in losses {
        ledger.execute(
            "UPDATE ledger SET generation = max(generation, ?2), revoked = max(revoked, ?3) WHERE kind = 'token' AND key = ?1",
            params![loss.token.as_str(), loss.generation, loss.revoked],
        )?;
    }
    Ok(())
}

/// Selects the tokens with a known loss.
const LOSS: &str =
    "SELECT key, generation, revoked, expired, iif(narrowed, starts, NULL), iif(narrowed, expires, NULL)
    FROM ledger WHERE kind = 'token' AND (generation > 1 OR revoked OR expired > 0 OR narrowed)";

/// Calls `take` for each token with a known loss. Most tokens are of the first generation and were never revoked; they have
/// none.
pub(super) fn each_loss(connection: &Connection, mut take: impl FnMut(AccessLoss)) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(LOSS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(loss) = read_loss(row)? {
            take(loss);
        }
    }
    Ok(())
}

/// Returns the known loss of one token.
pub(super) fn loss(ledger: &Connection, token: &str) -> Result<Option<AccessLoss>, StoreError> {
    let mut statement = ledger.prepare_cached(&format!("{LOSS} AND key = ?1"))?;
    let mut rows = statement.query([token])?;
    match rows.next()? {
        Some(row) => Ok(read_loss(row)?),
        None => Ok(None),
    }
}

fn read_loss(row: &Row<'_>) -> rusqlite::Result<Option<AccessLoss>> {
    let Ok(token) = TokenId::new(row.get_ref(0)?.as_str()?) else { return Ok(None) };
    let time = |index| row.get::<_, Option<i64>>(index).map(|time| time.map(Time::from_unix));
    let (generation, revoked, expired) = (row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(Some(AccessLoss { token, generation, revoked, expired, not_before: time(4)?, expires_at: time(5)? }))
}
