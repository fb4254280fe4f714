//! Rotates a token: it gets a new value and a new lifetime, and the old value becomes invalid.

use rusqlite::{Connection, params};

use super::issue::publish_token;
use super::{Deed, Stored, dual_control, find};
use crate::api::token::Token;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::calls::generation::Rotated;
use crate::controlplane::calls::idempotency::IdempotencyKey;
use crate::controlplane::calls::precondition::IfMatch;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::time::Time;
use crate::protocol::token::TokenKind;

impl ControlPlane {
    /// Gives a token a new value, shown once, whose lifetime begins now. The old value becomes invalid; name, description
    /// and roles stay. A repeat with the same idempotency key does not rotate it again.
    ///
    /// Under dual control, a direct-access token is rotated by a request: see [`Self::request_rotation`].
    pub fn rotate_token(
        &self,
        actor: &Actor,
        organization: &str,
        id: &str,
        key: Option<&IdempotencyKey>,
        seen: &IfMatch,
    ) -> Result<Token, Error> {
        self.store.write(|transaction| {
            actor.may(Operation::SeeOrganization, organization)?;
            if let Some(rotated) = self.find_repeated(transaction, actor, organization, key)? {
                return Ok(rotated);
            }
            let token = self.rotatable(transaction, actor, organization, id)?;
            token.check_unchanged(transaction, actor, organization, seen)?;
            if token.kind == TokenKind::DirectAccess {
                dual_control::not_needed(transaction, organization)?;
            }
            self.renew(transaction, actor, organization, token, key)
        })
    }

    /// Finds a token that the caller may rotate. One that has expired is brought back to life by it, so its roles are
    /// judged as for a new token.
    pub(super) fn rotatable(
        &self,
        connection: &Connection,
        actor: &Actor,
        organization: &str,
        id: &str,
    ) -> Result<Stored, Error> {
        let token = find(connection, organization, id)?;
        token.changed_by(connection, actor, organization, Deed::Rotate)?;
        if token.end_at.is_some_and(|end| end <= self.now()) {
            token.grants.iter().try_for_each(|grant| grant.still_held(connection, organization))?;
        }
        Ok(token)
    }

    /// Rotates a token. All checks are done before.
    pub(super) fn renew(
        &self,
        transaction: &Transaction<'_>,
        actor: &Actor,
        organization: &str,
        mut token: Stored,
        key: Option<&IdempotencyKey>,
    ) -> Result<Token, Error> {
        let now = self.now();
        token.generation = self.raise_generation(transaction, Rotated::Token, &token.id)?;
        token.last_rotated_at = Some(now);
        token.end_at = token.expiry_period_in_days.map(|days| now.plus(days * 86_400)).or(token.end_at);
        (token.updated_at, token.updated_by) = (now, actor.id.clone());
        self.issue(transaction, organization, &mut token)?;
        transaction.execute(
            "UPDATE token SET short = ?2, last_rotated_at = ?3, updated_at = ?3, updated_by = ?4, end_at = ?5 WHERE id = ?1",
            params![
                token.id,
                token.short_token,
                now.unix(),
                actor.id,
                token.end_at.map(Time::unix)
            ],
        )?;
        publish_token(transaction, organization, &token, None)?;
        self.keep_for_repeats(transaction, actor, &token, key)?;
        token.shown(transaction, |_| true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::controlplane::test_world::World;
    use crate::protocol::record::{Record, RecordKind};
    use crate::protocol::token::TokenRecord;

    const DAY: i64 = 86_400;

    impl World {
        fn organization(&self) -> String {
            self.owner.organization.clone()
        }

        fn deployment(&self) -> String {
            let workspace = serde_json::from_value(json!({ "name": "data" })).unwrap();
            let workspace =
                self.control.create_workspace(&self.owner, &self.organization(), &workspace).unwrap();
            let new = json!({ "name": "prod", "workspaceId": *workspace.id, "dataPlaneId": "dpl_a" });
            let new = serde_json::from_value(new).unwrap();
            self.control.create_deployment(&self.owner, &self.organization(), new).unwrap().id.into()
        }

        fn token(&self, deployment: &str, kind: &str, days: Option<i64>, role: &str) -> Token {
            let new = json!({ "name": "t", "scope": "DEPLOYMENT", "kind": kind, "entityId": deployment, "role": role,
                "tokenExpiryPeriodInDays": days });
            let new = serde_json::from_value(new).unwrap();
            self.control.create_token(&self.owner, &self.organization(), new, None).unwrap()
        }

        fn rotate(&self, id: &str) -> Result<Token, Error> {
            self.control.rotate_token(&self.owner, &self.organization(), id, None, &IfMatch::default())
        }

        fn record(&self, token: &str) -> TokenRecord {
            let query = "SELECT body FROM record WHERE kind = 'token' AND key = ?1";
            let body: String = self
                .control
                .store
                .read(|connection| Ok(connection.query_row(query, [token], |row| row.get(0))?))
                .unwrap();
            Record::new(RecordKind::Token, token, body.as_str()).read().unwrap()
        }
    }

    #[test]
    fn no_rotation_after_a_recovery_gives_a_value_that_the_lost_history_gave() {
        let world = World::new();
        let deployment = world.deployment();
        let skipped = 1001..1_001 + (1 << 20);
        // The seconds since 2020, and a random part.
        let seconds = world.control.now().unix() - 1_577_836_800;
        let timed = seconds..seconds + 16;
        for kind in ["STANDARD", "DIRECT_ACCESS"] {
            let made = world.token(&deployment, kind, Some(30), "DEPLOYMENT_ADMIN");
            let generation = || {
                world.rotate(&made.id).unwrap();
                world.count(&format!("SELECT generation FROM token WHERE id = '{}'", made.id))
            };
            assert_eq!((generation(), generation()), (2, 3), "{kind}");
            let mut last = 3;
            for recovery in 0..2 {
                world.control.recover(0, None).unwrap();
                let (first, second) = (generation(), generation());
                let right =
                    if recovery == 0 { timed.contains(&first) } else { skipped.contains(&(first - last)) };
                assert!(right && second == first + 1, "{kind}: {first} after {last}");
                last = second;
            }
            if kind == "DIRECT_ACCESS" {
                assert_eq!(i64::from(world.record(&made.id).generation), last);
            }
        }
        let user = world.owner.id.clone();
        let generation = || {
            world.control.rotate_user_token(&world.owner, &world.organization(), &user).unwrap();
            world.count(&format!("SELECT generation FROM user WHERE id = '{user}'"))
        };
        let (first, second) = (generation(), generation());
        assert!(timed.contains(&first) && second == first + 1, "the token of a user: {first}");
    }

    #[test]
    fn a_new_value_lives_as_long_as_the_first_did() {
        let world = World::new();
        let deployment = world.deployment();
        for kind in ["STANDARD", "DIRECT_ACCESS"] {
            let made = world.token(&deployment, kind, Some(30), "DEPLOYMENT_ADMIN");
            world.later(10 * DAY);
            let rotated = world.rotate(&made.id).unwrap();
            let end = world.control.now().plus(30 * DAY);
            assert_eq!(rotated.end_at.map(crate::api::instant::Instant::time), Some(end), "{kind}");
            assert_eq!(
                (rotated.start_at, rotated.expiry_period_in_days),
                (made.start_at, Some(30)),
                "{kind}"
            );
            if kind == "DIRECT_ACCESS" {
                let record = world.record(&made.id);
                assert_eq!(
                    (record.generation, record.expires_at, record.not_before),
                    (2, end, made.start_at.time())
                );
            }
        }
        let forever = world.token(&deployment, "STANDARD", None, "DEPLOYMENT_ADMIN");
        assert_eq!(world.rotate(&forever.id).unwrap().end_at, None);
    }

    #[test]
    fn an_expired_token_is_brought_back_to_life_by_who_may_rotate_it() {
        let world = World::new();
        let deployment = world.deployment();
        for kind in ["STANDARD", "DIRECT_ACCESS"] {
            let made = world.token(&deployment, kind, Some(1), "DEPLOYMENT_ADMIN");
            world.later(5 * DAY);
            let dead = world.control.authenticate(made.token.as_ref().unwrap().as_bytes());
            assert!(dead.is_err(), "{kind}");
            let rotated = world.rotate(&made.id).unwrap();
            assert_eq!(
                rotated.end_at.map(crate::api::instant::Instant::time),
                Some(world.control.now().plus(DAY)),
                "{kind}"
            );
            let value = rotated.token.unwrap();
            let opens = world.control.authenticate(value.as_bytes());
            assert_eq!(opens.is_ok(), kind == "STANDARD", "a direct-access token opens nothing here");
        }
    }

    #[test]
    fn no_expired_token_comes_back_with_a_role_that_is_gone() {
        let world = World::new();
        let deployment = world.deployment();
        let role = json!({ "name": "night", "scopeType": "DEPLOYMENT", "permissions": ["deployment.get"] });
        let role = serde_json::from_value(role).unwrap();
        let role = world.control.create_role(&world.owner, &world.organization(), role).unwrap();
        let made = ["STANDARD", "DIRECT_ACCESS"].map(|kind| world.token(&deployment, kind, Some(1), "night"));
        world.later(5 * DAY);
        world.control.delete_role(&world.owner, &world.organization(), &role.id).unwrap();
        for token in made {
            let refused = world.rotate(&token.id).unwrap_err();
            assert_eq!((refused.status(), refused.code()), (409, "role_gone"));
        }
        assert_eq!(world.count("SELECT max(generation) FROM token"), 1, "nothing is written");
    }
}
