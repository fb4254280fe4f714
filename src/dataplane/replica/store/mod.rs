//! Stores the replica in SQLite. The database is trusted only as far as its signatures and digest prove it.

mod apply;
mod chain;
mod error;
mod floor;
mod forks;
mod ledger;
mod prove;
mod same;
pub mod seen;
mod summing;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use crate::dataplane::node::inventory::Inventory;
use crate::dataplane::node::schema::{self, Unfit};
use crate::protocol::bundle::{BundleWriter, Change};
use crate::protocol::head::SignedHead;
use crate::protocol::id::DataPlaneId;
use crate::protocol::keyset::{Keyset, KeysetError, RootSet, UnverifiedKeyset};
use crate::protocol::record::Record;
use crate::protocol::time::Time;

use chain::Chain;

pub use apply::AppliedBundle;
pub use error::StoreError;
pub use floor::{AHEAD, Ended};
use prove::ProvedSum;
pub use prove::Scrub;

/// Migrations, each from one version of the schema to the next. A released migration is never edited.
const MIGRATIONS: [&str; 6] = [
    include_str!("0001_first.sql"),
    include_str!("0002_evidence.sql"),
    include_str!("0003_time.sql"),
    include_str!("0004_keyset_evidence.sql"),
    include_str!("0005_window.sql"),
    include_str!("0006_retired.sql"),
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
    /// Sum of the stored records as this process last proved it. With it a delta is proved by the records that it changes.
    sum: RefCell<Option<ProvedSum>>,
    /// True if the file of seen keysets could be neither read nor moved aside. It is not overwritten then.
    keeps_seen_file: bool,
    /// True if the host's inventory says that the database holds a replica.
    noted_held: Cell<bool>,
}

impl ReplicaStore {
    /// Opens the database at `path` for the data plane `audience` under the pinned roots, and creates or migrates it as needed.
    pub fn open(path: &Path, audience: DataPlaneId, pinned: RootSet) -> Result<Self, StoreError> {
        let connection = schema::open(path, &MIGRATIONS)??;
        let (path, chain, sum) = (path.into(), Chain::default(), RefCell::default());
        let mut store = Self {
            connection,
            path,
            audience,
            pinned,
            chain,
            sum,
            keeps_seen_file: false,
            noted_held: Cell::default(),
        };
        store.recall()?;
        if head_text(&store.connection)?.is_some() {
            store.note_held();
        }
        Ok(store)
    }

    /// Returns the keyset and the head held, with their signatures verified, or `None` without a head. The records are not
    /// read.
    pub fn standing(&self) -> Result<Option<(Keyset, SignedHead)>, StoreError> {
        match self.held()? {
            (Some(head), Some(keyset)) => Ok(Some((keyset, head))),
            (None, Some(keyset)) if head_text(&self.connection)?.is_some() => {
                Err(StoreError::Superseded(keyset.version()))
            }
            _ => Ok(None),
        }
    }

    /// Returns the versions of the head and of the keyset held, or zero before the first one. A head whose key was removed
    /// or whose issuer was replaced does not count.
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
        let mut writer = BundleWriter::new(Vec::new(), &keyset_chain(&self.connection)?, &head, 0)?;
        each_record(&self.connection, Which::All, |record| Ok(writer.change(Change::Put(record))?))?;
        Ok(Some(writer.finish()?))
    }

    /// Returns true if the database holds no replica, though it held one that was not removed by [`Self::forget`].
    pub fn is_emptied(&self) -> Result<bool, StoreError> {
        let had = Inventory::beside(&self.path).had_replica().map_err(Unfit::from)?;
        Ok(had && head_text(&self.connection)?.is_none())
    }

    /// Notes in the host's inventory that the database holds a replica. A failure is only logged: the next head, or the next
    /// start, notes it again.
    fn note_held(&self) {
        if self.noted_held.get() {
            return;
        }
        match Inventory::beside(&self.path).note_replica(true) {
            Ok(()) => self.noted_held.set(true),
            Err(error) => {
                tracing::warn!(%error, "the existence of the replica can't be written to the inventory of databases");
            }
        }
    }

    /// Removes the replica and the ledger entries that pin its records, as if this node had never had one. Revocations,
    /// rotations, keysets, the time floor and evidence stay.
    pub fn forget(&mut self) -> Result<(), StoreError> {
        // Noted first: if the daemon ends in between, the replica that is still there is noted again.
        Inventory::beside(&self.path).note_replica(false).map_err(Unfit::from)?;
        self.noted_held.set(false);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(
            "DELETE FROM head; DELETE FROM record;
             UPDATE ledger SET proved = x'', expires_of = NULL, starts = NULL, narrowed = 0;",
        )?;
        transaction.commit()?;
        self.sum.take();
        Ok(())
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
            // The key of this head was removed, or its issuer replaced: neither the head nor its version counts any more.
            Err(error) if error.is_superseded() => Ok((None, Some(keyset))),
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

/// Records that are read from the database.
#[derive(Clone, Copy)]
enum Which {
    All,
    Tokens,
    AllButTokens,
}

impl Which {
    const fn query(self) -> &'static str {
        match self {
            Self::All => "SELECT kind, key, body FROM record",
            Self::Tokens => "SELECT kind, key, body FROM record WHERE kind = 'token'",
            // Two ranges of the primary key: `<>` would visit every token.
            Self::AllButTokens => {
                "SELECT kind, key, body FROM record WHERE kind < 'token'
                 UNION ALL SELECT kind, key, body FROM record WHERE kind > 'token'"
            }
        }
    }
}

fn each_record(
    connection: &Connection,
    which: Which,
    mut take: impl FnMut(Record) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(which.query())?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        take(read_record(row)?)?;
    }
    Ok(())
}

fn read_record(row: &Row<'_>) -> Result<Record, StoreError> {
    let text = |index| row.get_ref(index).and_then(|value| Ok(value.as_str()?));
    let kind = text(0)?.parse().map_err(|_| StoreError::Kind)?;
    Ok(Record::new(kind, text(1)?, text(2)?))
}

#[cfg(test)]
mod tests;
