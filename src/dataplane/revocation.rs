//! Local revocations on this node: made here or passed on by another node, kept on the disk, in force at once.
//!
//! They are kept as the bytes that were signed, and proved anew at every start. One is in force from when it is durable; it
//! is never taken back. The replica may not know the token, or the node that signed: then it waits on the disk, and takes
//! effect with the replica that does ([`Snapshot::build`](super::snapshot::Snapshot::build)).

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::watch;

use super::alarm::AlarmKind;
use super::live::Live;
use super::proof::Prover;
use super::schema::{self, Newer};
use super::snapshot::Local;
use crate::protocol::id::{NodeId, TokenId};
use crate::protocol::reconciliation::{Outcome, RevocationAnswer};
use crate::protocol::record::NodeRecord;
use crate::protocol::revocation::{
    Revocation, RevocationError, SignedRevocation, check_reason, sign_revocation,
};
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;

/// The most revocations one node may have made. What is above it is refused, with an alarm: a node whose key was stolen
/// fills no other node's disk.
pub const MAX_OF_NODE: u64 = 10_000;

/// What has shipped is never edited.
const MIGRATIONS: [&str; 1] = ["
CREATE TABLE log (id TEXT NOT NULL) STRICT;
-- `answer` is what the control plane said became of it; NULL while it has not been told.
CREATE TABLE revocation (number INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, token TEXT NOT NULL, text TEXT NOT NULL UNIQUE,
    taken_at INTEGER NOT NULL, answer TEXT, UNIQUE (node, token)) STRICT;
"];

/// Why a revocation could not be made or taken.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The database can't be used.
    #[error("the revocations' database can't be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// A newer build has written it.
    #[error("the revocations' database {0}")]
    Newer(#[from] Newer),
    /// It is not believed.
    #[error(transparent)]
    Revocation(#[from] RevocationError),
    /// Too many of one node.
    #[error("node {0} has made {MAX_OF_NODE} revocations, which is as many as are taken")]
    TooMany(NodeId),
}

/// A revocation that is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The token.
    pub token: TokenId,
    /// Why.
    pub reason: String,
    /// Who asks.
    pub operator: String,
}

/// A revocation, as it is shown.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The token.
    pub token_id: TokenId,
    /// The node it was made on.
    pub node_id: NodeId,
    /// When.
    pub revoked_at: Time,
    /// By whom.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// Its own identifier.
    pub id: String,
    /// What became of it above; none while the control plane has not been told.
    pub answer: Option<Outcome>,
}

impl Held {
    fn of(revocation: Revocation, answer: Option<Outcome>) -> Self {
        Self {
            token_id: revocation.sub,
            node_id: revocation.iss,
            revoked_at: revocation.iat,
            operator: revocation.operator,
            reason: revocation.reason,
            id: revocation.jti,
            answer,
        }
    }
}

/// What came of revocations that another node passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Taken {
    /// New here, and in force.
    pub new: u64,
    /// Held already.
    pub known: u64,
    /// Not believed.
    pub refused: u64,
}

/// A revocation with its place in this node's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The place; it rises, and has gaps.
    pub number: u64,
    /// What was signed.
    pub text: String,
}

/// The revocations of this node.
pub struct Revocations {
    connection: Mutex<Connection>,
    live: Arc<Live>,
    prover: Arc<Prover>,
    own: Signers,
    id: String,
    changed: watch::Sender<u64>,
}

impl Revocations {
    /// Opens the database at `path`, or makes it; proves what is in it, and puts it in force.
    pub fn open(path: &Path, live: Arc<Live>, prover: Arc<Prover>) -> Result<Self, LedgerError> {
        let connection = schema::open(path, &MIGRATIONS)??;
        let id: Option<String> =
            connection.query_row("SELECT id FROM log", [], |row| row.get(0)).optional()?;
        let id = if let Some(id) = id {
            id
        } else {
            // It was just made, and gets its name.
            let id = prover.nonces.next();
            connection.execute("INSERT INTO log VALUES (?1)", [&id])?;
            id
        };
        let own = NodeRecord {
            id: prover.identity.node_id.clone(),
            name: String::new(),
            key: prover.key.public().jwk(),
            retired_at: None,
        };
        let own: Signers = [&own].into_iter().collect();
        let texts: Vec<String> = connection
            .prepare("SELECT text FROM revocation ORDER BY number")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let (revoked, unproved): (Vec<_>, Vec<_>) = texts
            .into_iter()
            .map(|text| SignedRevocation::verify(&text, &own).map_err(|_| text))
            .partition(Result::is_ok);
        let unproved: Arc<[String]> = unproved.into_iter().filter_map(Result::err).collect();
        live.change_local(|local| {
            revoked.into_iter().flatten().for_each(|signed| local.revoke(signed.revocation()));
            local.unproved = unproved;
        });
        // What other nodes signed is proved with the keys of the replica in force, or of the next one.
        live.replace(|snapshot| snapshot.with_local(snapshot.local().proved_by(&snapshot.signers())));
        let waiting = live.snapshot().local().unproved.len();
        if waiting > 0 {
            tracing::warn!(waiting, "revocations wait for a replica that knows the nodes that signed them");
        }
        Ok(Self { connection: Mutex::new(connection), live, prover, own, id, changed: watch::Sender::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // Every change is one statement: after a panic the database is as it was before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names this list: another name means that numbers begin anew.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Tells when there is something new.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Revokes a token: durable, and in force, when it returns. A second revocation of a token by this node is the first
    /// one again. The flag says whether it is new.
    pub fn revoke(&self, order: Order, now: Time) -> Result<(Held, bool), LedgerError> {
        check_reason(&order.reason)?;
        let node = self.prover.identity.node_id.clone();
        let connection = self.lock();
        let before = connection
            .prepare_cached("SELECT text, answer FROM revocation WHERE node = ?1 AND token = ?2")?
            .query_row([node.as_str(), order.token.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((text, answer)) = before {
            let (text, answer): (String, Option<String>) = (text, answer);
            let signed = SignedRevocation::verify(&text, &self.own)?;
            self.live.change_local(|local| local.revoke(signed.revocation()));
            let answer = answer.as_deref().and_then(Outcome::parse);
            return Ok((Held::of(signed.revocation().clone(), answer), false));
        }
        let revocation = Revocation {
            iss: node,
            sub: order.token,
            iat: now,
            jti: self.prover.nonces.next(),
            operator: order.operator,
            reason: order.reason,
        };
        let text = sign_revocation(&revocation, &self.prover.key);
        // As others will: what can't be proved must not be promised.
        let signed = SignedRevocation::verify(&text, &self.own)?;
        insert(&connection, &signed, now)?;
        self.live.change_local(|local| local.revoke(signed.revocation()));
        drop(connection);
        self.changed.send_modify(|count| *count += 1);
        Ok((Held::of(revocation, None), true))
    }

    /// Takes revocations another node passed on: each is proved, or refused.
    pub fn take<'t>(
        &self,
        texts: impl IntoIterator<Item = &'t str>,
        now: Time,
    ) -> Result<Taken, LedgerError> {
        let signers = self.live.snapshot().signers();
        let mut taken = Taken::default();
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let mut new = Vec::new();
        for text in texts {
            let known =
                transaction.prepare_cached("SELECT 1 FROM revocation WHERE text = ?1")?.exists([text])?;
            if known {
                taken.known += 1;
                continue;
            }
            let admitted = SignedRevocation::admit(text, &signers)
                .map_err(LedgerError::from)
                .and_then(|signed| insert(&transaction, &signed, now).map(|inserted| (signed, inserted)));
            match admitted {
                Ok((signed, true)) => {
                    taken.new += 1;
                    new.push(signed);
                }
                Ok((_, false)) => taken.known += 1,
                Err(LedgerError::Database(error)) => return Err(error.into()),
                Err(refused) => {
                    taken.refused += 1;
                    if taken.refused == 1 {
                        let what = format!("another node passed on what is refused: {refused}");
                        self.live.alarms.raise(AlarmKind::Refused, &what, now);
                    }
                }
            }
        }
        transaction.commit()?;
        if !new.is_empty() {
            self.live.change_local(|local| new.iter().for_each(|signed| local.revoke(signed.revocation())));
        }
        drop(connection);
        for signed in &new {
            let revocation = signed.revocation();
            tracing::warn!(token = %revocation.sub, node = %revocation.iss, operator = revocation.operator, reason = revocation.reason, "another node revoked a token");
        }
        if taken.new > 0 {
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(taken)
    }

    /// What is held after place `number`, at most `limit`.
    pub fn after(&self, number: u64, limit: usize) -> Result<Vec<Numbered>, LedgerError> {
        self.select("number > ?1", number, limit)
    }

    /// What is held after place `number` and the control plane has not been told of, at most `limit`.
    pub fn unanswered(&self, number: u64, limit: usize) -> Result<Vec<Numbered>, LedgerError> {
        self.select("number > ?1 AND answer IS NULL", number, limit)
    }

    fn select(&self, which: &str, number: u64, limit: usize) -> Result<Vec<Numbered>, LedgerError> {
        let connection = self.lock();
        let query = format!("SELECT number, text FROM revocation WHERE {which} ORDER BY number LIMIT ?2");
        let mut statement = connection.prepare_cached(&query)?;
        let rows = statement.query_map(params![number, limit], |row| {
            Ok(Numbered { number: row.get(0)?, text: row.get(1)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes what the control plane said became of them.
    pub fn answered(&self, answers: &[RevocationAnswer]) -> Result<(), LedgerError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for answer in answers {
            transaction
                .prepare_cached("UPDATE revocation SET answer = ?3 WHERE node = ?1 AND token = ?2")?
                .execute([answer.node.as_str(), answer.token.as_str(), answer.outcome.as_str()])?;
        }
        Ok(transaction.commit()?)
    }

    /// All of them, oldest first, as far as they can be proved.
    pub fn list(&self) -> Result<Vec<Held>, LedgerError> {
        let signers = self.live.snapshot().signers();
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT text, answer FROM revocation ORDER BY number")?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        let held = rows.into_iter().filter_map(|(text, answer)| {
            let signed = SignedRevocation::verify(&text, &self.own)
                .or_else(|_| SignedRevocation::verify(&text, &signers))
                .ok()?;
            Some(Held::of(signed.revocation().clone(), answer.as_deref().and_then(Outcome::parse)))
        });
        Ok(held.collect())
    }
}

/// Whether it is new. Whoever calls has proved it.
fn insert(connection: &Connection, signed: &SignedRevocation, now: Time) -> Result<bool, LedgerError> {
    let revocation = signed.revocation();
    let made: u64 = connection
        .prepare_cached("SELECT count(*) FROM revocation WHERE node = ?1")?
        .query_row([revocation.iss.as_str()], |row| row.get(0))?;
    if made >= MAX_OF_NODE {
        return Err(LedgerError::TooMany(revocation.iss.clone()));
    }
    let row = params![revocation.iss.as_str(), revocation.sub.as_str(), signed.as_str(), now.unix()];
    let inserted = connection
        .prepare_cached(
            "INSERT OR IGNORE INTO revocation (node, token, text, taken_at) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(row)?;
    Ok(inserted > 0)
}

impl Local {
    /// Ends a token here. The earliest revocation counts.
    pub fn revoke(&mut self, revocation: &Revocation) {
        let at = self.revoked.entry(revocation.sub.clone()).or_insert(revocation.iat);
        *at = (*at).min(revocation.iat);
    }

    /// Puts in force what waits for these signers.
    #[must_use]
    pub(super) fn proved_by(&self, signers: &Signers) -> Self {
        let mut local = self.clone();
        let mut waiting = Vec::new();
        for text in self.unproved.iter() {
            match SignedRevocation::verify(text, signers) {
                Ok(signed) => local.revoke(signed.revocation()),
                Err(_) => waiting.push(text.clone()),
            }
        }
        local.unproved = waiting.into();
        local
    }
}
