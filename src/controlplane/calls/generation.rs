//! Generations of tokens. A replica and a value name a generation by its number, so no number may be given twice, not even by a
//! control plane that was restored from a backup and has lost rotations: the lost values would become valid again.

use rusqlite::params;

use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;

/// Table whose rows have a generation.
#[derive(Clone, Copy, Debug)]
pub(in crate::controlplane) enum Rotated {
    /// API tokens.
    Token,
    /// Users, each with one token of their own.
    User,
}

impl Rotated {
    const ALL: [Self; 2] = [Self::Token, Self::User];

    const fn table(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::User => "user",
        }
    }

    /// Raises the generation of a row by one, and returns it. The first time after a recovery it rises to the time in seconds
    /// at least, which no rotations of a lost history have reached.
    pub(in crate::controlplane) fn raise(
        self,
        transaction: &Transaction<'_>,
        id: &str,
        now: Time,
    ) -> Result<u32, Error> {
        let update = format!(
            "UPDATE {} SET generation = max(generation + 1, iif(generations_lost, ?2, 0)), generations_lost = 0
             WHERE id = ?1 RETURNING generation",
            self.table()
        );
        // A clock beyond the numbers that there are, in 2106, says nothing.
        let least = u32::try_from(now.unix()).unwrap_or(0);
        Ok(transaction.prepare_cached(&update)?.query_row(params![id, least], |row| row.get(0))?)
    }
}

/// Records that rotations may have been lost, of every token and user.
pub(in crate::controlplane) fn mark_lost(transaction: &Transaction<'_>) -> Result<(), Error> {
    for rotated in Rotated::ALL {
        transaction.execute(&format!("UPDATE {} SET generations_lost = 1", rotated.table()), [])?;
    }
    Ok(())
}
