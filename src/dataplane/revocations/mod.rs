//! Local revocations of this node: made here or passed on by another node, stored on the disk, in force at once.
//!
//! A revocation is verified once, before it is stored, and kept as its signed bytes with the key that verified them. It is
//! in force as soon as it is durable, and stays so: neither a replica that no longer names the signing node nor a damaged
//! row makes a token valid again. A damaged row denies the token that can still be read in it.

mod error;
mod exchange;
mod kept;
mod open;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::watch;

pub use error::LedgerError;
pub use exchange::{Numbered, ReceivedCounts};
use kept::{Damage, Kept, written};

use crate::api::host::revocation::Held;
use crate::dataplane::decide::snapshot::Local;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::inventory::{Extent, Inventory, REVOCATIONS};
use crate::dataplane::node::state::{self, Live};
use crate::protocol::id::TokenId;
use crate::protocol::reconciliation::Outcome;
use crate::protocol::revocation::{Revocation, SignedRevocation, check_reason, sign_revocation};
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;

/// Maximum number of revocations that one node may have made. More are rejected, with an alarm, so that a node whose key
/// was stolen cannot fill the disks of other nodes.
pub const MAX_OF_NODE: u64 = 10_000;

/// Migrations; a released one is never edited.
const MIGRATIONS: [&str; 2] = [
    "
CREATE TABLE log (id TEXT NOT NULL) STRICT;
-- `answer` is what the control plane said became of it; NULL while it has not been told.
CREATE TABLE revocation (number INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, token TEXT NOT NULL, text TEXT NOT NULL UNIQUE,
    taken_at INTEGER NOT NULL, answer TEXT, UNIQUE (node, token)) STRICT;
",
    "
-- The key that proved it, as a JWK; NULL in a row of a build that did not keep it.
ALTER TABLE revocation ADD COLUMN key TEXT;
-- Rows that could not be read, each in whose place an operator has revoked its token anew.
CREATE TABLE damaged (number INTEGER PRIMARY KEY, node TEXT NOT NULL, token TEXT NOT NULL, text TEXT NOT NULL, taken_at INTEGER NOT NULL,
    replaced_at INTEGER NOT NULL) STRICT;
",
];

/// Request to revoke a token.
#[derive(Clone, Debug)]
pub struct Order {
    /// Token to revoke.
    pub token: TokenId,
    /// The operator's reason.
    pub reason: String,
    /// User who revokes the token.
    pub operator: String,
}

/// Returns the fields of a revocation that operators see.
fn held(revocation: Revocation, answer: Option<Outcome>) -> Held {
    Held {
        token_id: revocation.sub,
        node_id: revocation.iss,
        revoked_at: revocation.iat,
        operator: revocation.operator,
        reason: revocation.reason,
        id: revocation.jti,
        answer,
    }
}

/// Database and the state that changes with it, under one lock.
struct Ledger {
    connection: Connection,
    /// Number and hash of the revoked tokens, as in the inventory.
    extent: Extent,
    /// Rows whose content is damaged, by number.
    damaged: BTreeMap<u64, Damage>,
    /// Version of the replica and number of the last row at the last [`Revocations::vouch`].
    vouched: Option<(u64, u64)>,
}

/// Local revocations of this node, in memory and in the database.
pub struct Revocations {
    ledger: Mutex<Ledger>,
    inventory: Inventory,
    live: Arc<Live>,
    prover: Arc<Prover>,
    own: Signers,
    id: String,
    changed: watch::Sender<()>,
}

impl Revocations {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Every change is one transaction: after a panic the database is as it was before.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises an alarm for each damaged row.
    pub fn alarm(&self, now: Time) {
        for damage in self.lock().damage() {
            self.live.alarms.raise(AlarmKind::Damaged, &damage.full, now);
        }
    }

    /// Puts stored revocations in force, and counts them in the inventory.
    fn enforce<'r>(&self, ledger: &mut Ledger, revocations: impl IntoIterator<Item = &'r Revocation>) {
        let mut new = false;
        self.live.change_local(|local| {
            for revocation in revocations {
                if !local.revoked.contains_key(&revocation.sub) {
                    ledger.extent.add(&revocation.sub);
                    new = true;
                }
                local.revoke(revocation);
            }
        });
        if new && let Err(error) = self.inventory.count_revocations(&ledger.extent) {
            // The revocation is in force. The next one, or the next start, writes the inventory again.
            tracing::warn!(%error, "the count of revocations can't be written to the inventory of databases; the revocation is in force");
        }
    }

    /// Returns the identifier of this list. It changes when the list was lost and the numbers begin at 1 again.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns a channel that reports each new revocation.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Revokes a token. The revocation is durable and in force on return. A second revocation of a token by this node
    /// returns the first one; the flag is true if it is new. Damaged rows that deny the token are moved aside, and the
    /// tokens that they deny get new signed revocations.
    pub fn revoke(&self, order: &Order, now: Time) -> Result<(Held, bool), LedgerError> {
        check_reason(&order.reason)?;
        let mut ledger = self.lock();
        let (mended, tokens) = ledger.damaged_for(&order.token);
        let transaction = ledger.connection.transaction()?;
        move_aside(&transaction, &mended, now)?;
        let (mut ended, mut asked) = (Vec::new(), None);
        for token in tokens {
            let own = [self.prover.identity.node_id.as_str(), token.as_str()];
            let before = transaction
                .prepare_cached("SELECT text, answer FROM revocation WHERE node = ?1 AND token = ?2")?
                .query_row(own, |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)))
                .optional()?;
            let (revocation, answer, new) = if let Some((text, answer)) = before {
                let signed = SignedRevocation::verify(&text, &self.own)?;
                (signed.revocation().clone(), answer.as_deref().and_then(Outcome::parse), false)
            } else {
                (self.sign(&transaction, Order { token: token.clone(), ..order.clone() }, now)?, None, true)
            };
            ended.push(revocation.clone());
            if token == order.token {
                asked = Some((held(revocation, answer), new));
            }
        }
        transaction.commit()?;
        ledger.damaged.retain(|number, _| !mended.contains(number));
        self.live.note_damage(REVOCATIONS, ledger.damage());
        self.enforce(&mut ledger, &ended);
        drop(ledger);
        self.changed.send_replace(());
        asked.ok_or(LedgerError::Database(rusqlite::Error::QueryReturnedNoRows))
    }

    /// Signs a revocation by this node and stores it.
    fn sign(&self, ledger: &Connection, order: Order, now: Time) -> Result<Revocation, LedgerError> {
        let revocation = Revocation {
            iss: self.prover.identity.node_id.clone(),
            sub: order.token,
            iat: now,
            jti: self.prover.nonces.next(),
            operator: order.operator,
            reason: order.reason,
        };
        let text = sign_revocation(&revocation, &self.prover.key);
        // Verified in the same way as other nodes do, because a revocation that they can't verify must not be stored.
        let signed = SignedRevocation::verify(&text, &self.own)?;
        insert(ledger, &signed, &self.own, now)?;
        Ok(revocation)
    }

    /// Signs an own revocation for each token whose revocations are all by nodes that are not in the replica in force. Without
    /// it, a control plane that was restored from a backup, or a node that enrolled later, could not verify the revocation.
    pub fn vouch(&self, now: Time) -> Result<(), LedgerError> {
        let snapshot = self.live.snapshot();
        let (signers, own) = (snapshot.signers(), self.prover.identity.node_id.as_str());
        if signers.get(&self.prover.identity.node_id).is_none() {
            return Ok(());
        }
        let mut ledger = self.lock();
        let last = "SELECT coalesce(max(number), 0) FROM revocation";
        let last: u64 = ledger.connection.prepare_cached(last)?.query_row([], |row| row.get(0))?;
        let version = snapshot.head().map_or(0, |head| head.head().version);
        if ledger.vouched == Some((version, last)) {
            return Ok(());
        }
        let transaction = ledger.connection.transaction()?;
        let rows: Vec<(String, String, String)> = transaction
            .prepare_cached(
                "SELECT node, token, text FROM revocation WHERE node <> ?1
                 AND token NOT IN (SELECT token FROM revocation WHERE node = ?1) ORDER BY number",
            )?
            .query_map([own], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .filter_map(Result::ok)
            .collect();
        let named = |node: &str| node.parse().is_ok_and(|node| signers.get(&node).is_some());
        let proved: HashSet<&str> =
            rows.iter().filter(|(node, ..)| named(node)).map(|(_, token, _)| token.as_str()).collect();
        let mut signed: BTreeMap<TokenId, Revocation> = BTreeMap::new();
        for (node, token, text) in rows.iter().filter(|(_, token, _)| !proved.contains(token.as_str())) {
            let claimed = Revocation::claimed(text).filter(|claimed| claimed.sub.as_str() == token);
            let Some(claimed) = claimed.filter(|claimed| !signed.contains_key(&claimed.sub)) else {
                continue;
            };
            let operator = format!("{}, on node {node}", claimed.operator);
            let order = Order { token: claimed.sub.clone(), reason: claimed.reason, operator };
            match self.sign(&transaction, order, now) {
                Ok(revocation) => drop(signed.insert(claimed.sub, revocation)),
                // The original revocation stays in force on this node.
                Err(LedgerError::TooMany(_) | LedgerError::Revocation(_)) => {}
                Err(error) => return Err(error),
            }
        }
        transaction.commit()?;
        if signed.is_empty() {
            ledger.vouched = Some((version, last));
            return Ok(());
        }
        self.enforce(&mut ledger, signed.values());
        drop(ledger);
        for revocation in signed.values() {
            tracing::warn!(token = %revocation.sub, operator = revocation.operator, "no node of the replica had signed this revocation, so this node signed one of its own");
        }
        self.changed.send_replace(());
        Ok(())
    }

    /// Returns all readable revocations, oldest first.
    pub fn list(&self) -> Result<Vec<Held>, LedgerError> {
        let ledger = self.lock();
        let mut statement =
            ledger.connection.prepare_cached("SELECT text, answer FROM revocation ORDER BY number")?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let text = |index| row.get_ref(index).ok()?.as_str().ok();
            if let Some(revocation) = text(0).and_then(Revocation::claimed) {
                all.push(held(revocation, text(1).and_then(Outcome::parse)));
            }
        }
        Ok(all)
    }
}

impl Ledger {
    /// Returns the damage of each damaged row. Damaged rows are in force.
    fn damage(&self) -> Vec<state::Damage> {
        let rows = self.damaged.iter().map(|(number, damage)| {
            let tokens: Vec<_> = damage.tokens.iter().map(TokenId::as_str).collect();
            let sign: Vec<_> =
                tokens.iter().map(|token| format!("halligan revoke {token} --reason TEXT")).collect();
            let public = format!("row {number} of revocations.db is not what was written");
            let full = format!(
                "{public}; {} stays revoked; run {} on this host to sign it anew",
                tokens.join(" and "),
                sign.join(" and ")
            );
            state::Damage { public, full }
        });
        rows.collect()
    }

    /// Returns the damaged rows that deny `token`, and all tokens that these rows deny.
    fn damaged_for(&self, token: &TokenId) -> (Vec<u64>, BTreeSet<TokenId>) {
        let rows = self.damaged.iter().filter(|(_, damage)| damage.tokens.contains(token));
        let (numbers, tokens): (Vec<_>, Vec<_>) =
            rows.map(|(number, damage)| (*number, damage.tokens.clone())).unzip();
        (numbers, tokens.into_iter().flatten().chain([token.clone()]).collect())
    }
}

/// Moves damaged rows out of force. They stay in the database.
fn move_aside(transaction: &Connection, rows: &[u64], now: Time) -> rusqlite::Result<()> {
    for number in rows {
        transaction.execute(
            "INSERT OR REPLACE INTO damaged (number, node, token, text, taken_at, replaced_at)
             SELECT number, node, token, text, taken_at, ?2 FROM revocation WHERE number = ?1",
            params![number, now.unix()],
        )?;
        transaction.execute("DELETE FROM revocation WHERE number = ?1", [number])?;
    }
    Ok(())
}

/// Inserts a verified revocation. Returns true if it is new.
fn insert(
    connection: &Connection,
    signed: &SignedRevocation,
    proved_by: &Signers,
    now: Time,
) -> Result<bool, LedgerError> {
    let revocation = signed.revocation();
    let key = proved_by.get(&revocation.iss).map(|signer| written(&signer.key));
    let made: u64 = connection
        .prepare_cached("SELECT count(*) FROM revocation WHERE node = ?1")?
        .query_row([revocation.iss.as_str()], |row| row.get(0))?;
    if made >= MAX_OF_NODE {
        return Err(LedgerError::TooMany(revocation.iss.clone()));
    }
    let row = params![revocation.iss.as_str(), revocation.sub.as_str(), signed.as_str(), now.unix(), key];
    let inserted = connection
        .prepare_cached(
            "INSERT OR IGNORE INTO revocation (node, token, text, taken_at, key) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(row)?;
    Ok(inserted > 0)
}

impl Local {
    /// Revokes a token on this node.
    pub fn revoke(&mut self, revocation: &Revocation) {
        self.end(&revocation.sub, revocation.iat);
    }

    /// Records the end of a token. If several ends are recorded, the earliest counts.
    fn end(&mut self, token: &TokenId, at: Time) {
        let end = self.revoked.entry(token.clone()).or_insert(at);
        *end = (*end).min(at);
    }
}

#[cfg(test)]
mod tests;
