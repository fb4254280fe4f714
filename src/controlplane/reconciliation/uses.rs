//! Uses of tokens among events that are stored in one transaction. Each token's uses are counted with one statement. A first
//! use is announced, and a use after the token's end is recorded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::params;

use super::last_uses;
use super::outages;
use super::recorded::{Ends, Line};
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::controlplane::webhook::announcements::Place;
use crate::protocol::id::TokenId;
use crate::protocol::outage::Use;
use crate::protocol::time::Time;

/// Uses of tokens on a node, collected until [`Uses::store`].
pub(super) struct Uses<'t> {
    control: &'t ControlPlane,
    transaction: &'t Transaction<'t>,
    data_plane: &'t str,
    node: &'t str,
    /// Uses of each token. `None` for a token of another data plane, whose uses a node cannot report.
    tokens: HashMap<TokenId, Option<TokenUses>>,
    /// Time of the last offline use, and the outage at that time. Cached, because many events have the same second.
    outage: Option<(Time, Option<String>)>,
    /// True if an announcement may have been queued.
    announced: bool,
}

/// Uses of one token.
struct TokenUses {
    ends: Option<Ends>,
    count: u64,
    first_at: Time,
    last_at: Time,
    /// Deployment of the last use, or the data plane.
    last_on: String,
    /// First use, and first use in each outage, each with its outage.
    first: Vec<(Use, Option<String>)>,
}

impl<'t> Uses<'t> {
    pub(super) fn new(
        control: &'t ControlPlane,
        transaction: &'t Transaction<'t>,
        data_plane: &'t str,
        node: &'t str,
    ) -> Self {
        Self {
            control,
            transaction,
            data_plane,
            node,
            tokens: HashMap::new(),
            outage: None,
            announced: false,
        }
    }

    /// Adds the use that an event records, if it records one.
    pub(super) fn add(&mut self, line: &Line) -> Result<(), Error> {
        let Some(token) = line.used_token() else { return Ok(()) };
        let outage = if line.online() { None } else { self.outage_at(line.time)? };
        let uses = match self.tokens.entry(token.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(begin(self.transaction, self.data_plane, line, token)?),
        };
        let Some(uses) = uses else { return Ok(()) };
        if line.time > uses.last_at {
            (uses.last_at, uses.last_on) = (line.time, place_of(line, self.data_plane));
        }
        uses.first_at = uses.first_at.min(line.time);
        uses.count += 1;
        let known = uses.first.iter().any(|(_, known)| *known == outage);
        if (uses.first.is_empty() || (outage.is_some() && !known))
            && let Some(used) = line.recorded_use()
        {
            uses.first.push((used, outage.clone()));
        }
        let end = uses.ends.as_ref().and_then(|ends| ends.of_generation(line.generation.unwrap_or(0)));
        if end.is_some_and(|end| line.time > end.at)
            && let Some(used) = line.recorded_use()
        {
            let place = Place { data_plane: self.data_plane, node: self.node, outage: outage.as_deref() };
            self.control.note_late_use(self.transaction, place, &used, end)?;
            self.announced = true;
        }
        Ok(())
    }

    /// Stores the uses, and announces those that are the first of their token, ever or in an outage. Returns true if an
    /// announcement may have been queued.
    pub(super) fn store(self) -> Result<bool, Error> {
        let Self { control, transaction, data_plane, node, tokens, outage: _, mut announced } = self;
        let mut counting = transaction.prepare_cached(
            "INSERT INTO token_use (token, first_at, last_at, uses) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET
                 first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at),
                 uses = uses + excluded.uses
             RETURNING uses",
        )?;
        for (token, uses) in tokens {
            let Some(uses) = uses else { continue };
            let row = params![token.as_str(), uses.first_at.unix(), uses.last_at.unix(), uses.count];
            let total: u64 = counting.query_row(row, |row| row.get(0))?;
            last_uses::note(transaction, token.as_str(), uses.last_at, &uses.last_on)?;
            for (number, (used, outage)) in uses.first.iter().enumerate() {
                let place = Place { data_plane, node, outage: outage.as_deref() };
                let first_ever = number == 0 && total == uses.count;
                control.announce_first_use(transaction, place, used, first_ever)?;
                announced |= first_ever || outage.is_some();
            }
        }
        Ok(announced)
    }

    /// Returns the id of the node's outage that contains `time`.
    fn outage_at(&mut self, time: Time) -> Result<Option<String>, Error> {
        if let Some((known, outage)) = &self.outage
            && *known == time
        {
            return Ok(outage.clone());
        }
        let outage = outages::id_at(self.transaction, self.node, time)?;
        self.outage = Some((time, outage.clone()));
        Ok(outage)
    }
}

/// Returns the deployment of a use, or the data plane.
fn place_of(line: &Line, data_plane: &str) -> String {
    line.deployment.as_deref().unwrap_or(data_plane).to_owned()
}

/// Begins to count the uses of a token, if it is one of the data plane.
fn begin(
    transaction: &Transaction<'_>,
    data_plane: &str,
    line: &Line,
    token: &TokenId,
) -> Result<Option<TokenUses>, Error> {
    let ours = transaction
        .prepare_cached(
            "SELECT 1 FROM token, record
             WHERE token.id = ?1 AND record.data_plane = ?2 AND record.kind = 'token' AND record.key = ?1",
        )?
        .exists([token.as_str(), data_plane])?;
    if !ours {
        return Ok(None);
    }
    Ok(Some(TokenUses {
        ends: Ends::read(transaction, token)?,
        count: 0,
        first_at: line.time,
        last_at: line.time,
        last_on: place_of(line, data_plane),
        first: Vec::new(),
    }))
}
