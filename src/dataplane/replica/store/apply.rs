//! Applies a bundle to the database, completely or not at all. The bundle is read line by line into a transaction, and
//! proved before the commit.

use std::collections::HashSet;
use std::io::Read;

use rusqlite::{ErrorCode, Transaction, TransactionBehavior, params};

use super::ledger::{self, Entries};
use super::prove::{ProvedSum, data_version};
use super::summing::{self, Sum};
use super::{Origin, ReplicaStore, StoreError, Which, each_record, same};
use crate::dataplane::decide::clocks_agree;
use crate::dataplane::decide::index::{Delta, Retirement};
use crate::protocol::bundle::{BundleReader, Change, Limits};
use crate::protocol::head::{Head, SignedHead};
use crate::protocol::id::{NodeId, TokenId};
use crate::protocol::keyset::Keyset;
use crate::protocol::record::{Record, RecordKind};
use crate::protocol::time::Time;

/// Maximum number of changes that a delta keeps in memory. After a larger one the index is made anew from the disk.
const MAX_KEPT: usize = 4096;

/// Maximum number of seconds by which the `iat` of a head may be ahead of this node's clock.
const SKEW: i64 = 300;

/// Facts that an applied bundle states, except its records.
#[derive(Debug)]
pub struct AppliedBundle {
    /// Tokens that the bundle calls active or valid for longer, although this node has proof that they are revoked, rotated
    /// or end earlier. The proof counts.
    pub overruled: Vec<TokenId>,
    /// Nodes that the bundle calls members, although this node has proof that they were retired. The proof counts.
    pub readmitted: Vec<NodeId>,
    /// Verified head. It is not older than the one held before.
    pub head: SignedHead,
    /// Head held before and the records that changed since, if these are few enough to be kept.
    pub delta: Option<(Head, Delta)>,
}

/// Keys of the records that a delta changes, and the sum of the records after it, if the one before it was known.
struct Changed {
    keys: HashSet<(RecordKind, String)>,
    sum: Option<Sum>,
}

impl ReplicaStore {
    /// Applies a bundle from a feed, a peer or a file.
    ///
    /// The keysets of the bundle are kept as soon as they are verified, even if the rest of the bundle is rejected, so that
    /// a removed key loses its force at once. If a correctly signed bundle breaks an invariant, only its revocations and
    /// rotations are kept, and nothing that grants access.
    pub fn apply(
        &mut self,
        bundle: impl Read,
        origin: Origin,
        now: Time,
    ) -> Result<AppliedBundle, StoreError> {
        let mut reader = BundleReader::new(bundle, Limits::default())?;
        let keyset = self.follow(reader.keysets(), now)?;
        let (have, _) = self.held()?;
        let signed = SignedHead::verify(reader.head(), &keyset, &self.audience)?;
        let head = signed.head().clone();
        check(&head, &keyset, origin, now)?;
        if let Some(have) = &have {
            match self.compare(have, &signed, origin, now)? {
                // The bundle is still verified, so that the sender of a truncated or altered file gets an error.
                Compared::Nothing => {
                    same::prove(&self.connection, &mut reader, have.head())?;
                    let (overruled, readmitted) = (Vec::new(), Vec::new());
                    return Ok(AppliedBundle { overruled, readmitted, head: signed, delta: None });
                }
                Compared::News => {}
            }
        }
        let have = have.as_ref().map(SignedHead::head);
        let (version, count) = have.map_or((0, 0), |have| (have.version, have.count));
        let base = reader.base();
        if base != 0 && base != version {
            return Err(StoreError::Base { have: version, got: base });
        }

        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let data_version = data_version(&transaction)?;
        let known =
            self.sum.borrow().as_ref().zip(have).and_then(|(sum, have)| sum.proved_for(have, data_version));
        // An honest bundle stores at most as many records as its head counts, and removes at most as many as there were. A
        // bundle that exceeds the sum is rejected before it fills the disk.
        let room = head.count.saturating_add(count);
        let mut changed = if base == 0 {
            transaction.execute("DELETE FROM record", [])?;
            fill(&transaction, &mut reader, &head)?;
            None
        } else {
            Some(change(&transaction, &mut reader, room, &head, known)?)
        };
        // The sum is computed over the stored rows, not over the bundle, so that it proves the database as well. A delta
        // needs only the rows that it changes, if this process has proved the others and nothing else has written.
        let sum = match changed.as_mut().and_then(|changed| changed.sum.take()) {
            Some(sum) => sum,
            None => summing::sum(&transaction, Which::All, |_| {}, |_| {})?,
        };
        if !sum.matches(&head) {
            // A delta fits one history only. A control plane that was restored from a backup writes another history, in
            // which the version held here belongs to different records.
            return Err(match base {
                0 => StoreError::Digest(head.version),
                _ => StoreError::History { have: version, got: head.version },
            });
        }
        let (entries, delta) = enter(&transaction, changed.as_ref())?;
        if let Some(broken) = entries.broken {
            transaction.rollback()?;
            let transaction = self.connection.transaction()?;
            ledger::keep(&transaction, &entries.losses)?;
            transaction.commit()?;
            return Err(broken);
        }
        transaction.execute("INSERT OR REPLACE INTO head VALUES (1, ?1)", [signed.as_str()])?;
        transaction.commit()?;
        self.note_held();
        self.chain.keep(signed.clone(), &keyset);
        *self.sum.borrow_mut() = Some(ProvedSum::new(sum, data_version));
        let delta = have.cloned().zip(delta);
        let Entries { overruled, readmitted, .. } = entries;
        Ok(AppliedBundle { overruled, readmitted, head: signed, delta })
    }

    /// Compares an offered head with the one held.
    fn compare(
        &self,
        have: &SignedHead,
        signed: &SignedHead,
        origin: Origin,
        now: Time,
    ) -> Result<Compared, StoreError> {
        let (held, offered) = (have.head(), signed.head());
        if offered.version < held.version {
            return Err(StoreError::Rollback { have: held.version, got: offered.version });
        }
        if offered.version > held.version {
            return Ok(Compared::News);
        }
        if have.contradicts(signed) {
            self.keep_fork(have, signed, now)?;
            return Err(StoreError::Fork(offered.version));
        }
        // Two servers of one control plane can differ in their clocks: the earlier `iat` is neither new nor wrong. A held head whose
        // `iat` is in this node's future is another case: the signer's clock was ahead. When the feed's clock and this node's clock
        // now agree on that, the offered head replaces it, because a head with a future `iat` cannot tell the age of the replica.
        let agreed = clocks_agree(offered.iat.since(now));
        let ahead = origin == Origin::Feed && held.iat > now && agreed;
        Ok(if offered.iat > held.iat || (ahead && offered.iat < held.iat) {
            Compared::News
        } else {
            Compared::Nothing
        })
    }
}

enum Compared {
    News,
    Nothing,
}

fn check(head: &Head, keyset: &Keyset, origin: Origin, now: Time) -> Result<(), StoreError> {
    if now >= keyset.body().exp {
        return Err(StoreError::KeysetExpired(keyset.version()));
    }
    // A head of an older keyset is accepted if its key is in the newest one: the control plane may not have followed yet.
    if head.keyset > keyset.version() {
        return Err(StoreError::KeysetVersion { head: head.keyset, keyset: keyset.version() });
    }
    if origin == Origin::Feed && now >= head.exp {
        return Err(StoreError::Frozen(head.exp));
    }
    if head.iat > now.plus(SKEW) {
        return Err(StoreError::Future(head.iat));
    }
    Ok(())
}

/// Fills the emptied table with a snapshot. The primary key rejects a second record with the same key. A removal changes nothing in
/// an empty replica, so it is skipped and not counted: control planes up to 0.1 sent one for each removed record.
fn fill<R: Read>(
    transaction: &Transaction<'_>,
    reader: &mut BundleReader<R>,
    head: &Head,
) -> Result<(), StoreError> {
    let mut insert = transaction.prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3)")?;
    let mut stored = 0_u64;
    for change in reader {
        let Change::Put(record) = change? else { continue };
        match insert.execute(params![record.kind.as_str(), &*record.key, &*record.body]) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Err(StoreError::Twice(record.kind, record.key.to_string()));
            }
            inserted => drop(inserted?),
        }
        stored += 1;
        if stored > head.count {
            return Err(StoreError::TooMany(head.version));
        }
    }
    Ok(())
}

/// Applies a delta to the table, and to the sum of its records. Only changes that store or remove a record count towards
/// `room`: a record that was made and removed since the version held here arrives as the removal of a record that this node
/// never had.
fn change<R: Read>(
    transaction: &Transaction<'_>,
    reader: &mut BundleReader<R>,
    room: u64,
    head: &Head,
    mut sum: Option<Sum>,
) -> Result<Changed, StoreError> {
    let mut keys = HashSet::new();
    for change in reader {
        let change = change?;
        let (kind, key) = (change.kind(), change.key().to_owned());
        if let Some(sum) = &mut sum
            && let Some(before) = stored(transaction, kind, &key)?
        {
            sum.remove(&before);
        }
        let rows = match &change {
            Change::Put(record) => transaction
                .prepare_cached("INSERT OR REPLACE INTO record VALUES (?1, ?2, ?3)")?
                .execute(params![kind.as_str(), key, &*record.body])?,
            Change::Remove { .. } => transaction
                .prepare_cached("DELETE FROM record WHERE kind = ?1 AND key = ?2")?
                .execute(params![kind.as_str(), key])?,
        };
        if let (Some(sum), Change::Put(record)) = (&mut sum, &change) {
            sum.add(record);
        }
        if rows == 0 {
            // A record that this bundle removed already would appear in it twice.
            if keys.contains(&(kind, key.clone())) {
                return Err(StoreError::Twice(kind, key));
            }
            continue;
        }
        if let Some((kind, key)) = keys.replace((kind, key)) {
            return Err(StoreError::Twice(kind, key));
        }
        if keys.len() as u64 > room {
            return Err(StoreError::TooMany(head.version));
        }
    }
    Ok(Changed { keys, sum })
}

/// Returns a stored record.
fn stored(transaction: &Transaction<'_>, kind: RecordKind, key: &str) -> Result<Option<Record>, StoreError> {
    let mut find = transaction.prepare_cached("SELECT body FROM record WHERE kind = ?1 AND key = ?2")?;
    let mut rows = find.query(params![kind.as_str(), key])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let body = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
    Ok(Some(Record::new(kind, key, body)))
}

/// Enters the changed records into the ledger, or all records if `changed` is `None`. Returns the changes as they are stored,
/// if there are few of them.
fn enter(
    transaction: &Transaction<'_>,
    changed: Option<&Changed>,
) -> Result<(Entries, Option<Delta>), StoreError> {
    let mut entries = Entries::default();
    let Some(Changed { keys, .. }) = changed else {
        each_record(transaction, Which::All, |record| entries.enter(transaction, &record))?;
        return Ok((entries, None));
    };
    let mut delta = (keys.len() <= MAX_KEPT).then(Delta::default);
    for (kind, key) in keys {
        let record = stored(transaction, *kind, key)?;
        if let Some(record) = &record {
            entries.enter(transaction, record)?;
        }
        let Some(delta) = &mut delta else { continue };
        if *kind == RecordKind::Token {
            delta.losses.extend(ledger::loss(transaction, key)?);
        }
        if *kind == RecordKind::Node
            && let Ok(node) = NodeId::new(key)
            && let Some(at) = ledger::retirement(transaction, &node)?
        {
            delta.retirements.push(Retirement { node, at });
        }
        delta
            .changes
            .push(record.map_or_else(|| Change::Remove { kind: *kind, key: key.clone() }, Change::Put));
    }
    Ok((entries, delta))
}
