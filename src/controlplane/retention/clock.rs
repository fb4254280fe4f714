//! Clock of retention, which ages are computed with. It follows the wall clock, but a jump ahead only after a delay.
//!
//! A wall clock that is years ahead for an instant makes every record look old, and deleted records do not come back when the clock
//! is right again. So a jump of more than a day counts only after the control plane has run for seven days: a control plane that
//! was stopped for months waits as long before it deletes by age.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::DAY;
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::protocol::time::Time;

/// Running time after which a wall clock that has jumped ahead is trusted, in seconds.
const WAIT: i64 = 7 * DAY;

/// Row of the table `retention_clock`, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RetentionClock {
    at: i64,
    /// Running time since the wall clock jumped ahead; 0 if the wall clock is trusted.
    waited: i64,
}

/// Change of the wall clock that operators should know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The clock jumped ahead, and is not trusted.
    Ahead,
    /// The clock is trusted again.
    Trusted,
    /// The clock was set back by more than a day, from a time that was right or too late.
    Behind,
}

impl RetentionClock {
    fn read(connection: &Connection) -> Result<Option<Self>, Error> {
        Ok(connection
            .prepare_cached("SELECT at, waited FROM retention_clock")?
            .query_row([], |row| Ok(Self { at: row.get(0)?, waited: row.get(1)? }))
            .optional()?)
    }

    /// Returns true if a wall clock that shows `now` has not jumped ahead.
    const fn trusts(self, now: i64) -> bool {
        now <= self.at.saturating_add(DAY)
    }

    /// Returns the clock after `ran` more seconds, when the wall clock shows `now`.
    fn moved(self, now: i64, ran: i64) -> Self {
        // At least one second, because 0 means a trusted clock.
        let waited = self.waited.saturating_add(ran.max(1));
        if self.trusts(now) || waited >= WAIT { Self { at: now, waited: 0 } } else { Self { waited, ..self } }
    }

    /// Returns the change between this clock and the clock `after` the round, or `None` if the change is not new.
    const fn change_to(self, after: Self) -> Option<Change> {
        match (self.waited, after.waited) {
            (0, 1..) => Some(Change::Ahead),
            (1.., 0) => Some(Change::Trusted),
            _ if after.at < self.at.saturating_sub(DAY) => Some(Change::Behind),
            _ => None,
        }
    }
}

impl ControlPlane {
    /// Advances the clock of retention, and returns its time. `ran` is the time since the last call by a monotonic clock.
    pub(super) fn move_retention_clock(&self, ran: Duration) -> Result<Time, Error> {
        let now = self.now().unix();
        let ran = i64::try_from(ran.as_secs()).unwrap_or(i64::MAX);
        let (before, after) = self.store.note(|transaction| {
            let before = if let Some(clock) = RetentionClock::read(transaction)? {
                clock
            } else {
                // First round of a new database. The wall clock may be wrong already, so the clock of retention starts at the oldest line.
                let oldest: Option<i64> =
                    transaction.query_row("SELECT min(at) FROM audit_log", [], |row| row.get(0))?;
                RetentionClock { at: oldest.unwrap_or(now), waited: 0 }
            };
            let after = before.moved(now, ran);
            transaction
                .prepare_cached("INSERT OR REPLACE INTO retention_clock (id, at, waited) VALUES (1, ?1, ?2)")?
                .execute([after.at, after.waited])?;
            Ok((before, after))
        })?;
        match before.change_to(after) {
            Some(Change::Ahead) => tracing::warn!(
                days = now.saturating_sub(after.at) / DAY,
                "the clock is ahead of the last round of retention by more than a day, so nothing becomes old enough to be \
                 deleted until this control plane has run for seven days; if the clock is wrong, set it right"
            ),
            Some(Change::Trusted) => tracing::info!("retention computes ages with the wall clock again"),
            Some(Change::Behind) => tracing::warn!(
                days = before.at.saturating_sub(now) / DAY,
                "the clock is behind the last round of retention by more than a day; if it is wrong now, set it right: nodes treat \
                 what it signs as old"
            ),
            None => {}
        }
        Ok(Time::from_unix(after.at))
    }

    /// Returns the time that ages are computed at: the wall clock's, or that of the last round if the wall clock has jumped ahead
    /// since.
    pub(in crate::controlplane) fn trusted_time(&self) -> Result<Time, Error> {
        self.store.read(|connection| self.trusted_time_in(connection))
    }

    /// Returns the same within a transaction.
    pub(in crate::controlplane) fn trusted_time_in(&self, connection: &Connection) -> Result<Time, Error> {
        let now = self.now();
        let clock = RetentionClock::read(connection)?;
        Ok(clock.filter(|clock| !clock.trusts(now.unix())).map_or(now, |clock| Time::from_unix(clock.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_is_told_once() {
        let mut clock = RetentionClock { at: 1_800_000_000, waited: 0 };
        let mut round = |days: i64| {
            let before = clock;
            clock = clock.moved(1_800_000_000 + days * DAY, DAY / 24);
            before.change_to(clock)
        };
        let told: Vec<_> = [0, 1, 3, 3, 1000, 1, 2, 3, 1, 1, -1000, -1000, -999, 3].map(&mut round).into();
        let (ahead, trusted, behind) = (Some(Change::Ahead), Some(Change::Trusted), Some(Change::Behind));
        assert_eq!(
            told,
            [None, None, ahead, None, None, trusted, None, None, behind, None, behind, None, None, ahead]
        );
    }
}
