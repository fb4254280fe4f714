//! Generations of tokens. A replica and a value name a generation by its number, so no number may be given twice, not even by a
//! control plane that was restored from a backup and has lost rotations: the lost values would become valid again.

use rusqlite::params;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;

/// Numbers that are skipped after a recovery: at least the first, and fewer than the sum of both. A random number, since another
/// recovery from the same backup must not skip as many.
const SKIPPED: (u32, u32) = (1000, 1 << 20);

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
}

impl ControlPlane {
    /// Raises the generation of a row by one, and returns it. The first time after a recovery it skips the numbers that rotations
    /// of a lost history may have given.
    pub(in crate::controlplane) fn raise_generation(
        &self,
        transaction: &Transaction<'_>,
        rotated: Rotated,
        id: &str,
    ) -> Result<u32, Error> {
        let update = format!(
            "UPDATE {} SET generation = generation + 1 + iif(generations_lost, ?2, 0), generations_lost = 0
             WHERE id = ?1 RETURNING generation",
            rotated.table()
        );
        let skipped = SKIPPED.0 + self.luck() % SKIPPED.1;
        Ok(transaction.prepare_cached(&update)?.query_row(params![id, skipped], |row| row.get(0))?)
    }
}

/// Records that rotations may have been lost, of every token and user.
pub(in crate::controlplane) fn mark_lost(transaction: &Transaction<'_>) -> Result<(), Error> {
    for rotated in Rotated::ALL {
        transaction.execute(&format!("UPDATE {} SET generations_lost = 1", rotated.table()), [])?;
    }
    Ok(())
}
