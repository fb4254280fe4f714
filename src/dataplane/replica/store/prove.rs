//! Verifies the whole database: the keyset chain from the pinned roots, the head, the digest over all records, and their
//! number.
//!
//! This is for the start, after a snapshot, and for a slow scrub in the background: its cost grows with the records. A delta
//! is proved by the records that it changes.

use rusqlite::{Connection, OpenFlags, params};

use super::summing::{self, SHARE, Sum};
use super::{ReplicaStore, StoreError, Which, head_text, keyset_chain, ledger, read_record};
use crate::dataplane::decide::index::Indexer;
use crate::dataplane::decide::snapshot::{Replica, Verified};
use crate::protocol::head::{Head, SignedHead};
use crate::protocol::keyset::Keyset;

/// Sum of the stored records, and the state of the database in which it was proved.
pub(super) struct ProvedSum {
    sum: Sum,
    /// SQLite changes this number when anything but the store's connection has written to the database.
    data_version: i64,
}

impl ProvedSum {
    pub(super) fn new(sum: Sum, data_version: i64) -> Self {
        Self { sum, data_version }
    }

    /// Returns the sum, if `head` was signed for it and only the store has written since.
    pub(super) fn proved_for(&self, head: &Head, data_version: i64) -> Option<Sum> {
        let holds = self.data_version == data_version && self.sum.matches(head);
        holds.then(|| self.sum.clone())
    }
}

/// Returns a number that differs between two calls if another connection has written to the database between them.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

impl ReplicaStore {
    /// Verifies the database and returns the replica with all its records.
    pub fn load(&self) -> Result<Option<Replica>, StoreError> {
        let data_version = data_version(&self.connection)?;
        let Some((connection, keyset, head)) = self.reading()? else { return Ok(None) };
        let mut records = Vec::new();
        let sum = summing::sum(&connection, Which::All, |record| records.push(record.clone()), |_| {})?;
        self.proved(sum, head.head(), data_version)?;
        let mut losses = Vec::new();
        ledger::each_loss(&connection, |loss| losses.push(loss))?;
        let retirements = ledger::retirements(&connection)?;
        Ok(Some(Replica { keyset, head, records, losses, retirements }))
    }

    /// Verifies the database and returns the index of the replica. The bodies of the records do not stay in memory.
    pub fn index(&self) -> Result<Option<Verified>, StoreError> {
        let data_version = data_version(&self.connection)?;
        let Some((connection, keyset, head)) = self.reading()? else { return Ok(None) };
        let mut others = Vec::new();
        let keep = |record: &_| others.push(Clone::clone(record));
        let mut sum = summing::sum(&connection, Which::AllButTokens, keep, |_| {})?;
        let indexer = Indexer::new(others);
        sum.combine(&summing::sum(&connection, Which::Tokens, |_| {}, |record| indexer.add(record))?);
        self.proved(sum, head.head(), data_version)?;
        let mut index = indexer.finish();
        ledger::each_loss(&connection, |loss| index.apply_loss(&loss, head.head().iat))?;
        ledger::retirements(&connection)?.iter().for_each(|retirement| index.apply_retirement(retirement));
        Ok(Some(Verified { keyset, head, index }))
    }

    /// Verifies the database. Returns the keyset and the head that it holds.
    pub fn prove(&self) -> Result<Option<(Keyset, SignedHead)>, StoreError> {
        let data_version = data_version(&self.connection)?;
        let Some((connection, keyset, head)) = self.reading()? else { return Ok(None) };
        let sum = summing::sum(&connection, Which::All, |_| {}, |_| {})?;
        self.proved(sum, head.head(), data_version)?;
        Ok(Some((keyset, head)))
    }

    /// Begins to verify the records beside the work of the store, or returns `None` if it holds no head.
    pub fn scrub(&self) -> Result<Option<Scrub>, StoreError> {
        let found = self.reading()?;
        Ok(found.map(|(connection, _, head)| Scrub {
            connection,
            head: head.head().clone(),
            sum: Sum::default(),
            last: Default::default(),
        }))
    }

    /// Opens a connection that sees the database as it is now, and verifies keyset and head.
    ///
    /// It is a connection of its own, so that it verifies what the next start will read, and not the store's cache.
    fn reading(&self) -> Result<Option<(Connection, Keyset, SignedHead)>, StoreError> {
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // Everything below reads one state of the database.
        connection.execute_batch("BEGIN")?;
        let Some(text) = head_text(&connection)? else { return Ok(None) };
        let keyset = self.chain.verify(keyset_chain(&connection)?, &self.pinned)?;
        let head = match SignedHead::verify(&text, &keyset, &self.audience) {
            Err(error) if error.is_superseded() => return Err(StoreError::Superseded(keyset.version())),
            verified => verified?,
        };
        Ok(Some((connection, keyset, head)))
    }

    /// Compares the sum of the stored records with the head, and keeps it.
    fn proved(&self, sum: Sum, head: &Head, data_version: i64) -> Result<(), StoreError> {
        let holds = sum.matches(head);
        *self.sum.borrow_mut() = holds.then(|| ProvedSum::new(sum, data_version));
        if holds { Ok(()) } else { Err(StoreError::Digest(head.version)) }
    }
}

/// Verification of the records in the background, share by share. It sees the database as it was when it began, and holds up
/// no change.
pub struct Scrub {
    connection: Connection,
    head: Head,
    sum: Sum,
    /// Kind and key of the last record that was read.
    last: (String, String),
}

impl Scrub {
    /// Reads the next share of the records. Returns false if there are no more.
    pub fn step(&mut self) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT kind, key, body FROM record WHERE (kind, key) > (?1, ?2) ORDER BY kind, key LIMIT ?3",
        )?;
        let mut rows = statement.query(params![self.last.0, self.last.1, SHARE.0])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let record = read_record(row)?;
            self.sum.add(&record);
            last = Some((record.kind.as_str().to_owned(), record.key.to_string()));
        }
        let more = last.is_some();
        self.last = last.unwrap_or_default();
        Ok(more)
    }

    /// Returns true if the records that were read are those that the head was signed for.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.sum.matches(&self.head)
    }
}
