//! The replica on disk: SQLite, believed only as far as its signatures and digest reach.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use thiserror::Error;

use super::alarm::AlarmKind;
use super::snapshot::{Replica, Takeaway};
use crate::protocol::bundle::{BundleError, BundleReader, Change, Limits, write_bundle};
use crate::protocol::digest::ReplicaDigest;
use crate::protocol::head::{HeadError, SignedHead};
use crate::protocol::id::{DataPlaneId, TokenId};
use crate::protocol::keyset::{Keyset, KeysetError, RootSet};
use crate::protocol::record::{Record, RecordKind};
use crate::protocol::role::RoleDigest;
use crate::protocol::time::Time;
use crate::protocol::token::TokenRecord;

/// How far ahead of this node's clock a head may have been signed, in seconds.
const SKEW: i64 = 300;

const SCHEMA: &str = "
CREATE TABLE keyset (version INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT NOT NULL) STRICT;
CREATE TABLE record (kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID;
-- What was once proved about a token or a role, so that no later feed can say otherwise.
CREATE TABLE ledger (kind TEXT NOT NULL, key TEXT NOT NULL, proved BLOB NOT NULL, generation INTEGER NOT NULL,
    revoked INTEGER NOT NULL, PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID;
-- The latest time this node has proof of.
CREATE TABLE floor (id INTEGER PRIMARY KEY CHECK (id = 1), time INTEGER NOT NULL) STRICT;
-- Heads that contradict one this node had proved: evidence.
CREATE TABLE fork (version INTEGER NOT NULL, text TEXT NOT NULL UNIQUE) STRICT;
";

/// Why a replica could not be opened, or a bundle was refused. What was proved before stays in force.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database can't be used.
    #[error("the replica database can't be used: {0}")]
    Database(#[from] rusqlite::Error),
    /// The bundle can't be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The keyset chain does not end in the pinned roots.
    #[error(transparent)]
    Keyset(#[from] KeysetError),
    /// The head is not believed.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The head was signed under another keyset than the newest in the bundle.
    #[error("the head goes by keyset {head}, the newest known is {keyset}")]
    KeysetVersion {
        /// The keyset of the head.
        head: u64,
        /// The newest known.
        keyset: u64,
    },
    /// The keyset's time is over.
    #[error("keyset {0} has expired; the control plane must publish a new one")]
    KeysetExpired(u64),
    /// The head was signed too long ago: the feed is frozen.
    #[error("the head expired at {0}: the feed is frozen")]
    Frozen(Time),
    /// The head was signed in this node's future.
    #[error("the head was signed at {0}, ahead of this node's clock")]
    Future(Time),
    /// An older head than the one held.
    #[error("the head is at version {got}, this node has proved {have}")]
    Rollback {
        /// The version held.
        have: u64,
        /// The version offered.
        got: u64,
    },
    /// Another head for the same version.
    #[error("two heads contradict each other about version {0}; both are kept as evidence")]
    Fork(u64),
    /// A delta for another version than the one held.
    #[error("the bundle starts from version {got}, this node has {have}")]
    Base {
        /// The version held.
        have: u64,
        /// The version it starts from.
        got: u64,
    },
    /// One record stands twice.
    #[error("{0} {1} stands twice in the bundle")]
    Twice(RecordKind, String),
    /// The records are not what the head says.
    #[error("the records are not those the head of version {0} was signed for")]
    Digest(u64),
    /// A signed change of what may never change.
    #[error("a signed change to {kind} {key} breaks an invariant: {what}")]
    Invariant {
        /// What kind of record.
        kind: RecordKind,
        /// Which.
        key: String,
        /// What it would have changed.
        what: &'static str,
    },
    /// A bundle could not be written.
    #[error("the bundle could not be written: {0}")]
    Write(#[from] std::io::Error),
    /// A row that can't be one.
    #[error("the replica database holds an unknown kind of record")]
    Kind,
}

impl StoreError {
    /// The alarm it is, unless it is a broken disk or line, or two changes that crossed.
    #[must_use]
    pub fn alarm(&self) -> Option<AlarmKind> {
        match self {
            Self::Database(_) | Self::Base { .. } | Self::Bundle(_) | Self::Write(_) => None,
            Self::Rollback { .. } => Some(AlarmKind::Rollback),
            Self::Fork(_) => Some(AlarmKind::Fork),
            Self::Frozen(_) => Some(AlarmKind::Frozen),
            Self::Invariant { .. } => Some(AlarmKind::Invariant),
            Self::Future(_) => Some(AlarmKind::Clock),
            Self::Keyset(_)
            | Self::Head(_)
            | Self::KeysetVersion { .. }
            | Self::KeysetExpired(_)
            | Self::Twice(..)
            | Self::Digest(_)
            | Self::Kind => Some(AlarmKind::Refused),
        }
    }
}

/// How a bundle came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the feed: its head must be fresh, or the feed is frozen.
    Feed,
    /// In a file that someone carried here: as fresh as the way was short. The staleness policy judges its age.
    File,
}

/// The replica database of one data plane.
pub struct ReplicaStore {
    connection: Connection,
    audience: DataPlaneId,
    pinned: RootSet,
}

impl ReplicaStore {
    /// Opens the database at `path`, or makes it, for the data plane `audience` under the pinned roots.
    pub fn open(path: &Path, audience: DataPlaneId, pinned: RootSet) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version == 0 {
            connection
                .execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = 1; COMMIT;"))?;
        }
        Ok(Self { connection, audience, pinned })
    }

    /// Loads the replica and proves it anew: keyset chain to the pinned roots, head, digest over every record, count.
    pub fn load(&self) -> Result<Option<Replica>, StoreError> {
        let Some(text) = head_text(&self.connection)? else { return Ok(None) };
        let keyset = Keyset::verify_chain(&keyset_chain(&self.connection)?, &self.pinned)?;
        let head = SignedHead::verify(&text, &keyset, &self.audience)?;
        let records = records(&self.connection)?;
        if records.len() as u64 != head.head().count || digest(&records).checksum() != head.head().digest {
            return Err(StoreError::Digest(head.head().version));
        }
        let takeaways = takeaways(&self.connection)?;
        Ok(Some(Replica { keyset, head, records, takeaways }))
    }

    /// The version of the head and of the keyset held; zeros before the first.
    pub fn position(&self) -> Result<(u64, u64), StoreError> {
        let (head, keyset) = self.held()?;
        Ok((head.map_or(0, |head| head.head().version), keyset.map_or(0, |keyset| keyset.version())))
    }

    /// Takes a bundle in, from a feed or a file: all of it, or nothing. Of a bundle that is refused because it breaks an
    /// invariant, though rightly signed, what takes access away is kept; nothing that gives any.
    pub fn apply(&mut self, bundle: impl Read, origin: Origin, now: Time) -> Result<(), StoreError> {
        let mut reader = BundleReader::new(bundle, Limits::default())?;
        let (have, keyset) = self.held()?;
        let (keyset, new_keysets) = self.follow(keyset, reader.keysets())?;
        if now >= keyset.body().exp {
            return Err(StoreError::KeysetExpired(keyset.version()));
        }
        let signed = SignedHead::verify(reader.head(), &keyset, &self.audience)?;
        let head = signed.head().clone();
        if head.keyset != keyset.version() {
            return Err(StoreError::KeysetVersion { head: head.keyset, keyset: keyset.version() });
        }
        if origin == Origin::Feed && now >= head.exp {
            return Err(StoreError::Frozen(head.exp));
        }
        if head.iat > now.plus(SKEW) {
            return Err(StoreError::Future(head.iat));
        }
        let (version, iat) =
            have.as_ref().map_or((0, Time::default()), |have| (have.head().version, have.head().iat));
        if head.version < version || (head.version == version && head.iat < iat) {
            return Err(StoreError::Rollback { have: version, got: head.version });
        }
        if let Some(have) = have.filter(|have| have.head().version == head.version)
            && (have.head().digest, have.head().count) != (head.digest, head.count)
        {
            for text in [have.as_str(), signed.as_str()] {
                self.connection
                    .execute("INSERT OR IGNORE INTO fork VALUES (?1, ?2)", params![head.version, text])?;
            }
            return Err(StoreError::Fork(head.version));
        }
        let base = reader.base();
        if base != 0 && base != version {
            return Err(StoreError::Base { have: version, got: base });
        }

        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if base == 0 {
            transaction.execute("DELETE FROM record", [])?;
        }
        let mut put = Vec::new();
        let mut seen = HashSet::new();
        for change in &mut reader {
            let change = change?;
            let (kind, key) = match &change {
                Change::Put(record) => (record.kind, record.key.to_string()),
                Change::Remove { kind, key } => (*kind, key.clone()),
            };
            if !seen.insert((kind, key.clone())) {
                return Err(StoreError::Twice(kind, key));
            }
            match change {
                Change::Put(record) => {
                    let row = params![kind.as_str(), &*record.key, &*record.body];
                    transaction
                        .prepare_cached("INSERT OR REPLACE INTO record VALUES (?1, ?2, ?3)")?
                        .execute(row)?;
                    put.push(record);
                }
                Change::Remove { .. } => {
                    let row = params![kind.as_str(), key];
                    transaction
                        .prepare_cached("DELETE FROM record WHERE kind = ?1 AND key = ?2")?
                        .execute(row)?;
                }
            }
        }
        // From what is now stored, not from what was sent: the digest proves the database, too.
        let records = records(&transaction)?;
        if records.len() as u64 != head.count || digest(&records).checksum() != head.digest {
            return Err(StoreError::Digest(head.version));
        }
        if let Err(broken) = put.iter().try_for_each(|record| enter(&transaction, record)) {
            transaction.rollback()?;
            if matches!(broken, StoreError::Invariant { .. }) {
                self.take_away(&put)?;
            }
            return Err(broken);
        }
        for keyset in new_keysets {
            transaction
                .execute("INSERT INTO keyset VALUES (?1, ?2)", params![keyset.version(), keyset.text()])?;
        }
        transaction.execute("INSERT OR REPLACE INTO head VALUES (1, ?1)", [signed.as_str()])?;
        transaction.commit()?;
        Ok(())
    }

    /// The replica as a bundle, which another node of this data plane can take in.
    pub fn export(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(head) = head_text(&self.connection)? else { return Ok(None) };
        let changes = records(&self.connection)?.into_iter().map(Change::Put);
        Ok(Some(write_bundle(&keyset_chain(&self.connection)?, &head, 0, changes)?))
    }

    /// The latest time this node has proof of.
    pub fn floor(&self) -> Result<Time, StoreError> {
        let time = self.connection.query_row("SELECT time FROM floor", [], |row| row.get(0)).optional()?;
        Ok(Time::from_unix(time.unwrap_or(0)))
    }

    /// Moves the floor up.
    pub fn raise_floor(&self, time: Time) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO floor VALUES (1, ?1) ON CONFLICT DO UPDATE SET time = max(time, excluded.time)",
            [time.unix()],
        )?;
        Ok(())
    }

    fn held(&self) -> Result<(Option<SignedHead>, Option<Keyset>), StoreError> {
        let chain = keyset_chain(&self.connection)?;
        if chain.is_empty() {
            return Ok((None, None));
        }
        let keyset = Keyset::verify_chain(&chain, &self.pinned)?;
        let head = head_text(&self.connection)?;
        let head = head.map(|text| SignedHead::verify(&text, &keyset, &self.audience)).transpose()?;
        Ok((head, Some(keyset)))
    }

    /// Follows the offered chain from the keyset held (or the pinned roots) to its end.
    fn follow(&self, held: Option<Keyset>, offered: &[String]) -> Result<(Keyset, Vec<Keyset>), StoreError> {
        let known = keyset_chain(&self.connection)?;
        let mut new: Vec<Keyset> = Vec::new();
        for text in offered.iter().filter(|text| !known.contains(text)) {
            let next = match new.last().or(held.as_ref()) {
                None => Keyset::verify_first(text, &self.pinned)?,
                Some(keyset) => keyset.verify_next(text)?,
            };
            new.push(next);
        }
        let last = new.last().cloned().or(held).ok_or(KeysetError::Missing)?;
        Ok((last, new))
    }

    fn take_away(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        for record in records.iter().filter(|record| record.kind == RecordKind::Token) {
            let Ok(token) = serde_json::from_str::<TokenRecord>(&record.body) else { continue };
            transaction.execute(
                "UPDATE ledger SET generation = max(generation, ?2), revoked = max(revoked, ?3) WHERE kind = 'token' AND key = ?1",
                params![&*record.key, token.generation, token.revoked_at.is_some()],
            )?;
        }
        Ok(transaction.commit()?)
    }
}

/// Enters a record into the ledger, or finds that it contradicts what was proved before.
fn enter(transaction: &Transaction<'_>, record: &Record) -> Result<(), StoreError> {
    let (proved, generation, revoked) = match record.kind {
        RecordKind::Token => match serde_json::from_str::<TokenRecord>(&record.body) {
            Ok(token) => (token.grant_digest().to_vec(), token.generation, token.revoked_at.is_some()),
            // What can't be read grants nothing.
            Err(_) => return Ok(()),
        },
        RecordKind::Role => (RoleDigest::of(&record.body).to_string().into_bytes(), 0, false),
        RecordKind::Deployment | RecordKind::DagTags | RecordKind::Node => return Ok(()),
    };
    let kind = record.kind.as_str();
    let known = transaction
        .prepare_cached("SELECT proved, generation, revoked FROM ledger WHERE kind = ?1 AND key = ?2")?
        .query_row(params![kind, &*record.key], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, u32>(1)?, row.get(2)?))
        })
        .optional()?;
    if let Some((before, highest, dead)) = known {
        let broken = |what| StoreError::Invariant { kind: record.kind, key: record.key.to_string(), what };
        if before != proved {
            return Err(broken("what it grants is fixed"));
        }
        if generation < highest {
            return Err(broken("a generation never falls"));
        }
        if dead && !revoked {
            return Err(broken("a revocation is never taken back"));
        }
    }
    transaction
        .prepare_cached("INSERT OR REPLACE INTO ledger VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![kind, &*record.key, proved, generation, revoked])?;
    Ok(())
}

fn head_text(connection: &Connection) -> Result<Option<String>, StoreError> {
    Ok(connection.query_row("SELECT text FROM head", [], |row| row.get(0)).optional()?)
}

fn keyset_chain(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT text FROM keyset ORDER BY version")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn records(connection: &Connection) -> Result<Vec<Record>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT kind, key, body FROM record")?;
    let mut rows = statement.query([])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |index| row.get_ref(index).and_then(|value| Ok(value.as_str()?));
        let kind = text(0)?.parse().map_err(|_| StoreError::Kind)?;
        records.push(Record::new(kind, text(1)?, text(2)?));
    }
    Ok(records)
}

fn takeaways(connection: &Connection) -> Result<Vec<Takeaway>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT key, generation, revoked FROM ledger WHERE kind = 'token'")?;
    let mut rows = statement.query([])?;
    let mut takeaways = Vec::new();
    while let Some(row) = rows.next()? {
        let Ok(token) = TokenId::new(row.get::<_, String>(0)?) else { continue };
        takeaways.push(Takeaway { token, generation: row.get(1)?, revoked: row.get(2)? });
    }
    Ok(takeaways)
}

/// The digest of many records, each core summing a share: order does not matter to it.
fn digest(records: &[Record]) -> ReplicaDigest {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = records.len().div_ceil(cores).max(1024);
    std::thread::scope(|scope| {
        let sums: Vec<_> = records
            .chunks(share)
            .map(|share| scope.spawn(|| share.iter().collect::<ReplicaDigest>()))
            .collect();
        sums.into_iter().fold(ReplicaDigest::empty(), |mut total, sum| {
            match sum.join() {
                Ok(sum) => total.combine(&sum),
                Err(panic) => std::panic::resume_unwind(panic),
            }
            total
        })
    })
}
