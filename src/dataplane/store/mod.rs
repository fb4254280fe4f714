//! The replica on disk: SQLite, believed only as far as its signatures and digest reach.

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

use super::schema;
use super::snapshot::Replica;
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
pub use floor::{Ended, HeadAge};
pub use forks::ForkedHead;

/// Each brings the schema from the version before it to the next; what has shipped is never edited.
const MIGRATIONS: [&str; 4] = [
    include_str!("0001_first.sql"),
    include_str!("0002_evidence.sql"),
    include_str!("0003_time.sql"),
    include_str!("0004_keyset_evidence.sql"),
];

/// How a bundle came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the feed: its head must be fresh, or the feed is frozen.
    Feed,
    /// From another node, which may itself have been cut off for long. The staleness policy judges its age.
    Peer,
    /// In a file that someone carried here: as fresh as the way was short. The staleness policy judges its age.
    File,
}

/// The replica database of one data plane.
pub struct ReplicaStore {
    connection: Connection,
    path: PathBuf,
    audience: DataPlaneId,
    pinned: RootSet,
    chain: Chain,
    /// The file of the keysets seen could be neither read nor moved aside: nothing is written over it.
    keeps_seen_file: bool,
}

impl ReplicaStore {
    /// Opens the database at `path`, making or migrating it, for the data plane `audience` under the pinned roots.
    pub fn open(path: &Path, audience: DataPlaneId, pinned: RootSet) -> Result<Self, StoreError> {
        let connection = schema::open(path, &MIGRATIONS)??;
        let (path, chain) = (path.into(), Chain::default());
        let mut store = Self { connection, path, audience, pinned, chain, keeps_seen_file: false };
        store.recall()?;
        Ok(store)
    }

    /// Loads the replica and proves it anew: keyset chain to the pinned roots, head, digest over every record, count.
    ///
    /// It reads through a connection of its own: what is proved is what the next start will find, not what this one
    /// remembers.
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

    /// The version of the head and of the keyset held; zeros before the first. A head whose key was dropped is none.
    pub fn position(&self) -> Result<(u64, u64), StoreError> {
        let (head, keyset) = self.held()?;
        Ok((head.map_or(0, |head| head.head().version), keyset.map_or(0, |keyset| keyset.version())))
    }

    /// Follows a chain of keysets from the one held (or the pinned roots) to its end, and keeps what is new in it. One that
    /// contradicts a keyset held is kept as evidence that was seen at `now`.
    pub fn follow(&mut self, offered: &[String], now: Time) -> Result<Keyset, StoreError> {
        let chain = keyset_chain(&self.connection)?;
        let held =
            if chain.is_empty() { None } else { Some(self.chain.verify(chain.clone(), &self.pinned)?) };
        let known = chain.iter().map(|text| UnverifiedKeyset::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let mut offered =
            offered.iter().map(|text| UnverifiedKeyset::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = known.first() {
            // What led up to the first one held was signed by roots that the pinned ones have succeeded.
            offered.retain(|offered| offered.body().version >= first.body().version);
        } else if !offered.is_empty() {
            let lines: Vec<_> = offered.iter().map(UnverifiedKeyset::to_line).collect();
            let (_, start) = Keyset::verify_earliest(&lines, &self.pinned)?;
            offered.drain(..start);
        }
        let mut new: Vec<Keyset> = Vec::new();
        for offered in offered {
            // A copy that other roots have signed as well is the same keyset.
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

    /// Judges a keyset that is offered in the place of the one held at `place` of the chain. If its signatures hold, keeps both
    /// as evidence.
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

    /// Pins other roots, if the keysets held reach back to them as well.
    pub fn pin(&mut self, pinned: RootSet) -> Result<(), StoreError> {
        let chain = keyset_chain(&self.connection)?;
        if !chain.is_empty() {
            Keyset::verify_chain(&chain, &pinned)?;
        }
        self.pinned = pinned;
        Ok(())
    }

    /// The replica as a bundle, which another node of this data plane can take in.
    pub fn export(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(head) = head_text(&self.connection)? else { return Ok(None) };
        let mut changes = Vec::new();
        each_record(&self.connection, |record| {
            changes.push(Change::Put(record));
            Ok(())
        })?;
        Ok(Some(write_bundle(&keyset_chain(&self.connection)?, &head, 0, changes)?))
    }

    /// Lets go of the replica and of what its records had fixed, as if this node had never had one. What was taken away
    /// stays taken away, the keysets and the time floor stay, and so does the evidence.
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
            // Its key was dropped: nothing that key said counts any more, nor does the version it said it of.
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

/// Whether the records stored are those `head` was signed for; `see` is shown each of them.
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
