//! Opens the revocations' database. Lost revocations stop the start, unless an operator accepted the loss.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::watch;

use super::{Kept, Ledger, LedgerError, MIGRATIONS, Revocations, move_aside};
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::inventory::{Extent, Inventory, REVOCATIONS, set_aside};
use crate::dataplane::node::schema::{self, Unfit};
use crate::dataplane::node::state::Live;
use crate::protocol::id::TokenId;
use crate::protocol::record::NodeRecord;
use crate::protocol::signer::Signers;
use crate::protocol::time::Time;

impl Revocations {
    /// Opens or creates the database at `path`, and puts its revocations in force. Fails if it lacks revocations that this
    /// host had, because with an empty database revoked tokens would be accepted.
    pub fn open(path: &Path, live: Arc<Live>, prover: Arc<Prover>) -> Result<Self, LedgerError> {
        Self::open_told(path, live, prover, &[])
    }

    /// Opens the database as [`Self::open`] does. A token in `told`, which the audit log records as revoked on this host,
    /// must be in it.
    pub(in crate::dataplane) fn open_told(
        path: &Path,
        live: Arc<Live>,
        prover: Arc<Prover>,
        told: &[TokenId],
    ) -> Result<Self, LedgerError> {
        Self::open_as(path, live, prover, &Lost::Refused(told))
    }

    /// Opens the database at `path` after an operator accepted the loss of revocations: with the readable rest of it, or
    /// empty. Unreadable rows and files stay on the disk.
    pub fn open_after_loss(
        path: &Path,
        live: &Arc<Live>,
        prover: &Arc<Prover>,
        now: Time,
    ) -> Result<Self, LedgerError> {
        let inventory = Inventory::beside(path);
        let open = || Self::open_as(path, Arc::clone(live), Arc::clone(prover), &Lost::Accepted(now));
        match open() {
            Err(LedgerError::Database(_) | LedgerError::Unfit(Unfit::Gone(_))) => {
                set_aside(path, now).map_err(|source| LedgerError::Aside { path: path.into(), source })?;
                inventory.forget(REVOCATIONS).map_err(Unfit::from)?;
                open()
            }
            opened => opened,
        }
    }

    fn open_as(
        path: &Path,
        live: Arc<Live>,
        prover: Arc<Prover>,
        lost: &Lost<'_>,
    ) -> Result<Self, LedgerError> {
        let mut connection = schema::open(path, &MIGRATIONS)??;
        let id: Option<String> =
            connection.query_row("SELECT id FROM log", [], |row| row.get(0)).optional()?;
        let id = if let Some(id) = id {
            id
        } else {
            // A new database gets its identifier.
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
        let kept = Kept::read(&connection, &own, &live.snapshot().signers())?;
        let (inventory, extent) = (Inventory::beside(path), Extent::from_tokens(kept.ended.keys()));
        match *lost {
            Lost::Refused(told) => {
                if let Some(&number) = kept.unreadable.first() {
                    return Err(LedgerError::Unreadable(number));
                }
                let noted = inventory.revocations().map_err(Unfit::from)?.unwrap_or_default();
                if !extent.covers(&noted) {
                    return Err(LedgerError::Lost { held: extent.tokens(), noted: noted.tokens() });
                }
                if let Some(token) = told.iter().find(|&token| !kept.ended.contains_key(token)) {
                    return Err(LedgerError::Untold(token.clone()));
                }
            }
            Lost::Accepted(now) => put_aside(&mut connection, &kept.unreadable, now)?,
        }
        // Counted only when nothing is missing, since the next start requires this count.
        inventory.count_revocations(&extent).map_err(Unfit::from)?;
        kept.write_keys(&connection)?;
        live.change_local(|local| kept.ended.iter().for_each(|(token, at)| local.end(token, *at)));
        let ledger = Ledger { connection, extent, damaged: kept.damaged, vouched: None };
        live.note_damage(REVOCATIONS, ledger.damage());
        let ledger = Mutex::new(ledger);
        Ok(Self { ledger, inventory, live, prover, own, id, changed: watch::Sender::new(()) })
    }
}

/// Handling of lost revocations.
enum Lost<'t> {
    /// Opening the database fails. It also fails if one of these tokens is missing.
    Refused(&'t [TokenId]),
    /// The rest of the database is used: an operator accepted the loss at this time.
    Accepted(Time),
}

fn put_aside(connection: &mut Connection, rows: &[u64], now: Time) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    move_aside(&transaction, rows, now)?;
    transaction.commit()
}
