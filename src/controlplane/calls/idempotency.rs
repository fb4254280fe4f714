//! Idempotency keys (draft-ietf-httpapi-idempotency-key-header): a call that creates a token value can be repeated
//! after its answer was lost, and is carried out once.
//!
//! Token values are never stored, so a repeat mints the value again: Ed25519 is deterministic, and everything that is
//! signed is stored. A repeat shows the value for some minutes only, and only while it is the token's newest.

use rusqlite::{OptionalExtension, params};

use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;

/// Time for which a repeat shows the value again, in seconds.
const SHOWN: u64 = 15 * 60;
/// Time for which a key is stored, in seconds.
const KEPT: i64 = 24 * 3600;

/// Idempotency key of a call, with the call's fingerprint.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// Key that the caller chose.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub fingerprint: [u8; 32],
}

/// Result of the first call with a key.
pub(in crate::controlplane) struct Made {
    /// Id of the token.
    pub(in crate::controlplane) token: String,
    /// Generation of the token's value.
    pub(in crate::controlplane) generation: u32,
}

impl IdempotencyKey {
    /// Returns the result of the first call with this key, or none if this call is the first. `trusted_time` is the time of
    /// retention's clock, so that a clock that is ahead for an instant does not delete keys.
    pub(in crate::controlplane) fn find(
        &self,
        transaction: &Transaction<'_>,
        actor: &str,
        (now, trusted_time): (Time, Time),
    ) -> Result<Option<Made>, Error> {
        let query = "SELECT fingerprint, token, generation, at FROM idempotency WHERE actor = ?1 AND key = ?2 AND at > ?3";
        let row = params![actor, self.key, trusted_time.plus(-KEPT).unix()];
        let found: Option<(Vec<u8>, Made, i64)> = transaction
            .query_row(query, row, |row| {
                let made = Made { token: row.get(1)?, generation: row.get(2)? };
                Ok((row.get(0)?, made, row.get(3)?))
            })
            .optional()?;
        match found {
            None => Ok(None),
            Some((fingerprint, ..)) if fingerprint != self.fingerprint => Err(Error::KeyReused),
            // Also if the key was stored by a clock that was ahead: its age is unknown.
            Some((.., at)) if now.since(Time::from_unix(at)).unsigned_abs() > SHOWN => Err(Error::Conflict {
                code: "idempotency_key_old",
                detail: "this call was carried out a while ago, and its value is not shown again; rotate the token if it was lost"
                    .into(),
            }),
            Some((_, made, _)) => Ok(Some(made)),
        }
    }

    /// Stores the result of the call.
    pub(in crate::controlplane) fn keep(
        &self,
        transaction: &Transaction<'_>,
        actor: &str,
        made: &Made,
        (now, trusted_time): (Time, Time),
    ) -> Result<(), Error> {
        transaction.execute("DELETE FROM idempotency WHERE at <= ?1", [trusted_time.plus(-KEPT).unix()])?;
        let row = params![actor, self.key, self.fingerprint, made.token, made.generation, now.unix()];
        transaction.execute(
            "INSERT INTO idempotency (actor, key, fingerprint, token, generation, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            row,
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;
    use crate::controlplane::retention::Retention;
    use crate::controlplane::test_world::World;

    const YEAR: i64 = 365 * 24 * 3600;

    /// Returns a control plane that has the token of [`World::made`].
    fn world() -> World {
        let world = World::new();
        let token = "INSERT INTO token (id, organization, name, description, type, kind, entity, role, generation, short,
                start_at, created_at, created_by, updated_at, updated_by)
            SELECT 'tok_a', organization, 'a', '', 'DEPLOYMENT', 'DIRECT_ACCESS', 'dep_a', 'OP', 7, 'abcd', 0, 0, 'u', 0, 'u'
            FROM data_plane";
        world.control.store.write(|transaction| Ok(transaction.execute_batch(token)?)).unwrap();
        world
    }

    impl World {
        fn found(&self, key: &IdempotencyKey) -> Result<Option<u32>, Error> {
            self.control.store.write(|transaction| {
                let now = (self.control.now(), self.control.trusted_time_in(transaction)?);
                Ok(key.find(transaction, "actor", now)?.map(|made| made.generation))
            })
        }

        fn made(&self, key: &IdempotencyKey) {
            let made = Made { token: "tok_a".into(), generation: 7 };
            let kept = self.control.store.write(|transaction| {
                let now = (self.control.now(), self.control.trusted_time_in(transaction)?);
                key.keep(transaction, "actor", &made, now)
            });
            kept.unwrap();
        }
    }

    fn key(name: &str) -> IdempotencyKey {
        IdempotencyKey { key: name.to_owned(), fingerprint: [1; 32] }
    }

    fn is_old(found: &Result<Option<u32>, Error>) -> bool {
        matches!(found, Err(Error::Conflict { code: "idempotency_key_old", .. }))
    }

    #[test]
    fn a_clock_that_is_wrong_for_a_while_has_no_call_carried_out_again() {
        let world = world();
        let later = |seconds| world.clock.fetch_add(seconds, Ordering::Relaxed);
        world.control.prune(&Retention::default(), Duration::ZERO, &|| false).unwrap();
        world.made(&key("a"));
        later(YEAR);
        assert!(is_old(&world.found(&key("a"))));
        world.made(&key("b"));
        later(-YEAR);
        assert_eq!(world.found(&key("a")).unwrap(), Some(7));
        // Its age is unknown, so its value is not shown.
        assert!(is_old(&world.found(&key("b"))));
    }

    #[test]
    fn a_key_is_known_for_a_day_and_shows_its_value_for_a_quarter_of_an_hour() {
        let world = world();
        world.made(&key("a"));
        for (seconds, expected) in [(0, Some(7)), (900, Some(7)), (901, None), (KEPT - 1, None)] {
            world.clock.fetch_add(seconds, Ordering::Relaxed);
            let found = world.found(&key("a"));
            assert!(is_old(&found) == expected.is_none() && found.ok().flatten() == expected, "{seconds}");
            world.clock.fetch_sub(seconds, Ordering::Relaxed);
        }
        world.clock.fetch_add(KEPT, Ordering::Relaxed);
        assert_eq!(world.found(&key("a")).unwrap(), None);
        world.made(&key("a"));
    }
}
