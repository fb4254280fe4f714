//! Stores the replica in SQLite. The database is trusted only as far as its signatures and digest prove it.

mod apply;
mod chain;
mod error;
mod floor;
mod forks;
mod ledger;
mod same;
mod seen;
mod summing;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use crate::dataplane::decide::snapshot::Replica;
use crate::dataplane::node::schema;
use crate::protocol::bundle::{Change, write_bundle};
use crate::protocol::head::{Head, HeadError, SignedHead};
use crate::protocol::id::DataPlaneId;
use crate::protocol::jws::JwsError;
use crate::protocol::keyset::{Keyset, KeysetError, RootSet, UnverifiedKeyset};
use crate::protocol::record::Record;
use crate::protocol::time::Time;

use chain::Chain;

pub use apply::Taken;
pub use error::StoreError;
pub use floor::{AHEAD, Ended};
pub use forks::ForkedHead;

/// Migrations, each from one version of the schema to the next. A released migration is never edited.
const MIGRATIONS: [&str; 4] = [
    include_str!("0001_first.sql"),
    include_str!("0002_evidence.sql"),
    include_str!("0003_time.sql"),
    include_str!("0004_keyset_evidence.sql"),
];

/// Origin of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The feed. Its head must be fresh; an old one means that the feed is frozen.
    Feed,
    /// Another node, which may itself have been cut off for long. The staleness policy judges the age of its head.
    Peer,
    /// A file that was carried to this host. The staleness policy judges the age of its head.
    File,
}

/// Replica database of one data plane.
pub struct ReplicaStore {
    connection: Connection,
    path: PathBuf,
    audience: DataPlaneId,
    pinned: RootSet,
    chain: Chain,
    /// True if the file of seen keysets could be neither read nor moved aside. It is not overwritten then.
    keeps_seen_file: bool,
}

impl ReplicaStore {
    /// Opens the database at `path` for the data plane `audience` under the pinned roots, and creates or migrates it as needed.
    pub fn open(path: &Path, audience: DataPlaneId, pinned: RootSet) -> Result<Self, StoreError> {
        let connection = schema::open(path, &MIGRATIONS)??;
        let (path, chain) = (path.into(), Chain::default());
        let mut store = Self { connection, path, audience, pinned, chain, keeps_seen_file: false };
        store.recall()?;
        Ok(store)
    }

    /// Loads and verifies the replica: the keyset chain from the pinned roots, the head, the digest over all records, and
    /// their number.
    ///
    /// It uses a connection of its own, so that it verifies what the next start will read, and not this connection's cache.
    pub fn load(&self) -> Result<Option<Replica>, StoreError> {
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let Some(text) = head_text(&connection)? else { return Ok(None) };
        let keyset = self.chain.verify(keyset_chain(&connection)?, &self.pinned)?;
        let head = match SignedHead::verify(&text, &keyset, &self.audience) {
            Err(HeadError::Jws(JwsError::KeyUnknown)) => {
                return Err(StoreError::KeyDropped(keyset.version()));
            }
            verified => verified?,
        };
        let mut records = Vec::new();
        if !proved_by(&connection, head.head(), |record| records.push(record.clone()))? {
            return Err(StoreError::Digest(head.head().version));
        }
        let takeaways = ledger::takeaways(&connection)?;
        Ok(Some(Replica { keyset, head, records, takeaways }))
    }

    /// Returns the versions of the head and of the keyset held, or zero before the first one. A head whose key was removed
    /// does not count.
    pub fn position(&self) -> Result<(u64, u64), StoreError> {
        let (head, keyset) = self.held()?;
        Ok((head.map_or(0, |head| head.head().version), keyset.map_or(0, |keyset| keyset.version())))
    }

    /// Follows a chain of keysets from the one held, or from the pinned roots, to its end, and stores the new ones. A
    /// keyset that contradicts a held one is stored as evidence, with the time `now`.
    pub fn follow(&mut self, offered: &[String], now: Time) -> Result<Keyset, StoreError> {
        let chain = keyset_chain(&self.connection)?;
        let held =
            if chain.is_empty() { None } else { Some(self.chain.verify(chain.clone(), &self.pinned)?) };
        let known = chain.iter().map(|text| UnverifiedKeyset::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let mut offered =
            offered.iter().map(|text| UnverifiedKeyset::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = known.first() {
            // The keysets before the first one held were signed by roots that the pinned ones have succeeded.
            offered.retain(|offered| offered.body().version >= first.body().version);
        } else if !offered.is_empty() {
            let lines: Vec<_> = offered.iter().map(UnverifiedKeyset::to_line).collect();
            let (_, start) = Keyset::verify_earliest(&lines, &self.pinned)?;
            offered.drain(..start);
        }
        let mut new: Vec<Keyset> = Vec::new();
        for offered in offered {
            // A copy with additional signatures of other roots is the same keyset.
            if known.iter().any(|known| known.payload() == offered.payload()) {
                continue;
            }
            let (text, version) = (&offered.to_line(), offered.body().version);
            if let Some(place) = known.iter().position(|known| known.body().version == version) {
                return Err(self.contradicted(&chain, place, text, now));
            }
            let next = match new.last().or(held.as_ref()) {
                None => Keyset::verify_first(text, &self.pinned)?,
                Some(keyset) => keyset.verify_next(text)?,
            };
            new.push(next);
        }
        if !new.is_empty() {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for keyset in &new {
                let row = params![keyset.version(), keyset.text()];
                transaction.execute("INSERT INTO keyset VALUES (?1, ?2)", row)?;
            }
            transaction.commit()?;
            self.remember();
        }
        Ok(new.pop().or(held).ok_or(KeysetError::Missing)?)
    }

    /// Judges a keyset that differs from the one held at index `place` of the chain. If its signatures hold, both are
    /// stored as evidence.
    fn contradicted(&self, chain: &[String], place: usize, offered: &str, now: Time) -> StoreError {
        let proved = match Keyset::verify_chain(&chain[..place], &self.pinned) {
            Ok(before) => before.verify_next(offered),
            Err(_) => Keyset::verify_first(offered, &self.pinned),
        };
        let version = match proved {
            Ok(keyset) => keyset.version(),
            Err(error) => return error.into(),
        };
        match self.keep_keyset_fork(version, [&chain[place], offered], now) {
            Ok(()) => StoreError::KeysetFork(version),
            Err(error) => error,
        }
    }

    /// Replaces the pinned roots, if the keysets held can be verified under the new ones.
    pub fn pin(&mut self, pinned: RootSet) -> Result<(), StoreError> {
        let chain = keyset_chain(&self.connection)?;
        if !chain.is_empty() {
            Keyset::verify_chain(&chain, &pinned)?;
        }
        self.pinned = pinned;
        Ok(())
    }

    /// Returns the replica as a bundle that another node of this data plane can apply.
    pub fn export(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(head) = head_text(&self.connection)? else { return Ok(None) };
        let mut changes = Vec::new();
        each_record(&self.connection, |record| {
            changes.push(Change::Put(record));
            Ok(())
        })?;
        Ok(Some(write_bundle(&keyset_chain(&self.connection)?, &head, 0, changes)?))
    }

    /// Removes the replica and the ledger entries that pin its records, as if this node had never had one. Revocations,
    /// rotations, keysets, the time floor and evidence stay.
    pub fn forget(&mut self) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch("DELETE FROM head; DELETE FROM record; UPDATE ledger SET proved = x'';")?;
        Ok(transaction.commit()?)
    }

    fn held(&self) -> Result<(Option<SignedHead>, Option<Keyset>), StoreError> {
        let chain = keyset_chain(&self.connection)?;
        if chain.is_empty() {
            return Ok((None, None));
        }
        let keyset = self.chain.verify(chain, &self.pinned)?;
        let Some(text) = head_text(&self.connection)? else { return Ok((None, Some(keyset))) };
        match self.chain.head(&text, &keyset, &self.audience) {
            Ok(head) => Ok((Some(head), Some(keyset))),
            // The key of this head was removed: neither the head nor its version counts any more.
            Err(HeadError::Jws(JwsError::KeyUnknown)) => Ok((None, Some(keyset))),
            Err(error) => Err(error.into()),
        }
    }
}

fn head_text(connection: &Connection) -> Result<Option<String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT text FROM head")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?)
}

fn keyset_chain(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT text FROM keyset ORDER BY version")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn each_record(
    connection: &Connection,
    mut take: impl FnMut(Record) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("SELECT kind, key, body FROM record")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let text = |index| row.get_ref(index).and_then(|value| Ok(value.as_str()?));
        let kind = text(0)?.parse().map_err(|_| StoreError::Kind)?;
        take(Record::new(kind, text(1)?, text(2)?))?;
    }
    Ok(())
}

/// Returns true if the stored records are those that `head` was signed for. Calls `see` for each record.
fn proved_by(connection: &Connection, head: &Head, mut see: impl FnMut(&Record)) -> Result<bool, StoreError> {
    let (count, digest) = summing::sum(|take| {
        each_record(connection, |record| {
            see(&record);
            take(record);
            Ok(())
        })
    })?;
    Ok(count == head.count && digest.checksum() == head.digest)
}
