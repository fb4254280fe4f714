//! Taking a bundle in: all of it, or nothing. It is read line by line into a transaction, and believed at its end.

use std::collections::HashSet;
use std::io::Read;

use rusqlite::{ErrorCode, Transaction, TransactionBehavior, params};

use super::ledger::{self, Entries};
use super::{Origin, ReplicaStore, StoreError, proved_by, same};
use crate::dataplane::decide::CLOCK_TOLERANCE;
use crate::protocol::bundle::{BundleReader, Change, Limits};
use crate::protocol::head::{Head, SignedHead};
use crate::protocol::id::TokenId;
use crate::protocol::keyset::Keyset;
use crate::protocol::record::{Record, RecordKind};
use crate::protocol::time::Time;

/// How far ahead of this node's clock a head may have been signed, in seconds.
const SKEW: i64 = 300;

/// What a bundle that was taken in said beyond its records.
#[derive(Debug)]
pub struct Taken {
    /// Tokens it calls alive though this node has proof that they are revoked or rotated: they stay so.
    pub overruled: Vec<TokenId>,
    /// The head, which was proved and is not older than the one held.
    pub head: SignedHead,
}

/// The records a delta changes.
type Changed = HashSet<(RecordKind, String)>;

impl ReplicaStore {
    /// Takes a bundle in, from a feed or a file.
    ///
    /// Its keysets stand for themselves: they are kept as soon as they are verified, whatever the rest is worth, so that
    /// a key that was dropped is dead at once. Of a bundle that is refused because it breaks an invariant, though rightly
    /// signed, what takes access away is kept; nothing that gives any.
    pub fn apply(&mut self, bundle: impl Read, origin: Origin, now: Time) -> Result<Taken, StoreError> {
        let mut reader = BundleReader::new(bundle, Limits::default())?;
        let keyset = self.follow(reader.keysets(), now)?;
        let (have, _) = self.held()?;
        let signed = SignedHead::verify(reader.head(), &keyset, &self.audience)?;
        let head = signed.head().clone();
        check(&head, &keyset, origin, now)?;
        if let Some(have) = &have {
            match self.compare(have, &signed, origin, now)? {
                // Proved all the same: whoever handed over half a file, or a changed one, is told.
                Compared::Nothing => {
                    same::prove(&self.connection, &mut reader, have.head())?;
                    return Ok(Taken { overruled: Vec::new(), head: signed });
                }
                Compared::News => {}
            }
        }
        let (version, count) = have.map_or((0, 0), |have| (have.head().version, have.head().count));
        let base = reader.base();
        if base != 0 && base != version {
            return Err(StoreError::Base { have: version, got: base });
        }

        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // No honest bundle stores more records than its head counts, or removes more than there were: such a bundle is given
        // up before it fills the disk.
        let room = head.count.saturating_add(count);
        let changed = if base == 0 {
            transaction.execute("DELETE FROM record", [])?;
            fill(&transaction, &mut reader, &head)?;
            None
        } else {
            Some(change(&transaction, &mut reader, room, &head)?)
        };
        // From what is now stored, not from what was sent: the digest proves the database, too.
        if !proved_by(&transaction, &head, |_| {})? {
            // A delta fits one history only. A control plane that was restored from a backup writes another one, in which the
            // version held here is the number of another replica.
            return Err(match base {
                0 => StoreError::Digest(head.version),
                _ => StoreError::History { have: version, got: head.version },
            });
        }
        let entries = enter(&transaction, changed.as_ref())?;
        if let Some(broken) = entries.broken {
            transaction.rollback()?;
            let transaction = self.connection.transaction()?;
            ledger::keep(&transaction, &entries.losses)?;
            transaction.commit()?;
            return Err(broken);
        }
        transaction.execute("INSERT OR REPLACE INTO head VALUES (1, ?1)", [signed.as_str()])?;
        transaction.commit()?;
        Ok(Taken { overruled: entries.overruled, head: signed })
    }

    /// Compares a head that was offered with the one held.
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
        // Of two servers of one control plane, one has the slower clock: it says nothing new, and nothing wrong.
        // A held one from this node's future is another matter: its signer's clock ran ahead then. The feed's own clock and
        // this node's agree by now that it did, and a head that will only be signed later can't say how old the replica is.
        let agreed = offered.iat.since(now).abs() <= CLOCK_TOLERANCE;
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
    // One by an older keyset is fine, as long as its key is in the newest: the control plane has yet to follow.
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

/// Fills the emptied table with a snapshot. The primary key rejects a record that stands twice. A removal changes nothing in
/// an empty replica, so it is skipped and not counted: control planes up to 0.1 sent one for each record that was gone.
fn fill<R: Read>(
    transaction: &Transaction<'_>,
    reader: &mut BundleReader<R>,
    head: &Head,
) -> Result<(), StoreError> {
    let mut insert = transaction.prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3)")?;
    let mut stored = 0_u64;
    for change in reader {
        let Change::Put(record) = change? else { continue };
        stored += 1;
        if stored > head.count {
            return Err(StoreError::TooMany(head.version));
        }
        match insert.execute(params![record.kind.as_str(), &*record.key, &*record.body]) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Err(StoreError::Twice(record.kind, record.key.to_string()));
            }
            inserted => drop(inserted?),
        }
    }
    Ok(())
}

/// Changes the table by a delta. Only changes that store or remove a record count towards `room`: a record that was made and
/// removed since the version held here comes as a removal of what this node never had.
fn change<R: Read>(
    transaction: &Transaction<'_>,
    reader: &mut BundleReader<R>,
    room: u64,
    head: &Head,
) -> Result<Changed, StoreError> {
    let mut changed = Changed::new();
    for change in reader {
        let change = change?;
        let (kind, key) = match &change {
            Change::Put(record) => (record.kind, record.key.to_string()),
            Change::Remove { kind, key } => (*kind, key.clone()),
        };
        let rows = match change {
            Change::Put(record) => transaction
                .prepare_cached("INSERT OR REPLACE INTO record VALUES (?1, ?2, ?3)")?
                .execute(params![kind.as_str(), key, &*record.body])?,
            Change::Remove { .. } => transaction
                .prepare_cached("DELETE FROM record WHERE kind = ?1 AND key = ?2")?
                .execute(params![kind.as_str(), key])?,
        };
        if rows == 0 {
            // A record that this bundle has removed already stands in it twice.
            if changed.contains(&(kind, key.clone())) {
                return Err(StoreError::Twice(kind, key));
            }
            continue;
        }
        if let Some((kind, key)) = changed.replace((kind, key)) {
            return Err(StoreError::Twice(kind, key));
        }
        if changed.len() as u64 > room {
            return Err(StoreError::TooMany(head.version));
        }
    }
    Ok(changed)
}

/// Enters into the ledger what a delta has changed, or everything.
fn enter(transaction: &Transaction<'_>, changed: Option<&Changed>) -> Result<Entries, StoreError> {
    let mut entries = Entries::default();
    if let Some(changed) = changed {
        let mut find = transaction.prepare_cached("SELECT body FROM record WHERE kind = ?1 AND key = ?2")?;
        for (kind, key) in changed {
            let mut rows = find.query(params![kind.as_str(), key])?;
            if let Some(row) = rows.next()? {
                let body = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
                entries.enter(transaction, &Record::new(*kind, key.as_str(), body))?;
            }
        }
    } else {
        super::each_record(transaction, |record| entries.enter(transaction, &record))?;
    }
    Ok(entries)
}
