//! Generations of tokens. A replica and a value name a generation by its number, so no number may be given twice, not even by a
//! control plane that was restored from a backup and has lost rotations: the lost values would become valid again.

use rusqlite::params;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;

/// Beginning of 2020. After a recovery, generations count the seconds since then, which suffices until the year 2156: a later recovery
/// from the same backup gives higher generations than an earlier one, and nodes may have verified those.
const BEGINNING: i64 = 1_577_836_800;
/// Random part of such a generation, so that two recoveries at one time of a clock that was set back rarely give the same.
const SPREAD: u32 = 16;
/// Generations that are skipped after a recovery of a row that is not that far behind the seconds: at least the first, and fewer than
/// the sum of both. A random number, since another recovery from the same backup must not skip as many.
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
            "UPDATE {} SET generations_lost = 0, generation = CASE
               WHEN NOT generations_lost THEN generation + 1
               WHEN generation + ?4 < ?2 THEN ?2
               ELSE generation + 1 + ?3 END
             WHERE id = ?1 RETURNING generation",
            rotated.table()
        );
        let luck = self.luck();
        let seconds = u32::try_from(self.now().unix() - BEGINNING).unwrap_or(0);
        let timed = seconds.saturating_add(luck % SPREAD);
        let skipped = SKIPPED.0 + luck % SKIPPED.1;
        let row = params![id, timed, skipped, SKIPPED.0];
        Ok(transaction.prepare_cached(&update)?.query_row(row, |row| row.get(0))?)
    }
}

/// Records that rotations may have been lost, of every token and user.
pub(in crate::controlplane) fn mark_lost(transaction: &Transaction<'_>) -> Result<(), Error> {
    for rotated in Rotated::ALL {
        transaction.execute(&format!("UPDATE {} SET generations_lost = 1", rotated.table()), [])?;
    }
    Ok(())
}
