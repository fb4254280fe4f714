//! Environments for nodes: the variables of each deployment, signed, and encrypted to the key of the node that asks.

use rusqlite::{Connection, params};
use zeroize::Zeroizing;

use super::enrolment::Caller;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::audit_log;
use crate::controlplane::error::Error;
use crate::controlplane::signing::environment_key::Place;
use crate::protocol::environment::EnvironmentAnswer;
use crate::protocol::environment::key::{EncryptionKey, verify_encryption_key};
use crate::protocol::environment::signed::{EnvironmentClaims, Variable, sign_environment};
use crate::protocol::key::{Jwk, PublicKey};
use crate::protocol::time::Time;
use crate::protocol::version::HeldVersions;

/// Bytes of environments after which an answer ends. With the longest one behind them it stays below the 1 MiB that a node
/// takes.
const ENOUGH: usize = 384 << 10;

impl ControlPlane {
    /// Stores the key that a node states, if it is another one than before. A statement that the node did not sign is ignored.
    pub(super) fn take_encryption_key(&self, caller: &Caller, text: &str, now: Time) -> Result<(), Error> {
        let (signer, kept) = self.store.read(|connection| {
            let query = "SELECT key, encryption_key FROM node WHERE id = ?1";
            let row: (String, Option<String>) =
                connection.query_row(query, [&caller.node], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(row)
        })?;
        let verified = || {
            let signer: Jwk = serde_json::from_str(&signer).ok()?;
            let signer = PublicKey::from_jwk(&signer).ok()?;
            verify_encryption_key(text, &caller.node.parse().ok()?, &signer).ok()
        };
        let Some(key) = verified() else {
            if let Some(left_out) = self.complaints.due(&caller.node, "encryption key", now) {
                let node = &caller.node;
                tracing::warn!(
                    node,
                    left_out,
                    "a node's statement of its encryption key is invalid, and was ignored"
                );
            }
            return Ok(());
        };
        let written = serde_json::to_string(&key.jwk()).map_err(std::io::Error::from)?;
        if kept.as_ref() == Some(&written) {
            return Ok(());
        }
        self.store.note(|transaction| {
            let update = "UPDATE node SET encryption_key = ?2 WHERE id = ?1";
            transaction.execute(update, [caller.node.as_str(), &written])?;
            let query = "SELECT organization, node.name FROM data_plane JOIN node ON data_plane = data_plane.id WHERE node.id = ?1";
            let (organization, name): (String, String) =
                transaction.query_row(query, [&caller.node], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let call = "POST /v1/data-planes/{id}/statement";
            audit_log::record_done(transaction, &organization, (&caller.node, &name), call, &caller.node, now)
        })
    }

    /// Returns the number of changes to the variables of a data plane, or none before the first one.
    pub(super) fn environment_changes(&self, data_plane: &str) -> Result<Option<u64>, Error> {
        self.store.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT environment_changes FROM data_plane WHERE id = ?1")?;
            let changes: u64 = query.query_row([data_plane], |row| row.get(0))?;
            Ok((changes > 0).then_some(changes))
        })
    }

    /// Returns the environments of which a node holds another version than the present one, or none.
    pub(in crate::controlplane) fn environments_for(
        &self,
        caller: &Caller,
        question: &HeldVersions,
    ) -> Result<EnvironmentAnswer, Error> {
        let (now, signing) = (self.now(), self.signing());
        self.store.read(|connection| {
            let key = encryption_key(connection, &caller.node)?;
            let mut answer = EnvironmentAnswer::default();
            let mut length = 0;
            let mut rows = connection.prepare_cached(
                "SELECT id, environment_version FROM deployment
                 WHERE data_plane = ?1 AND environment_version > 0 AND id > ?2 ORDER BY id",
            )?;
            let after = question.after.as_deref().unwrap_or_default();
            let all = rows.query_map([caller.data_plane.as_str(), after], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?))
            })?;
            let mut last = None;
            for row in all {
                let (deployment, version) = row?;
                if question.held.get(&deployment) == Some(&version) {
                    continue;
                }
                if length > ENOUGH {
                    answer.next = last;
                    break;
                }
                let of = EnvironmentClaims {
                    issuer: self.issuer.clone(),
                    data_plane: caller.data_plane.parse().map_err(|_| Error::NotFound("data plane"))?,
                    deployment: deployment.parse().map_err(|_| Error::NotFound("deployment"))?,
                    node: caller.node.parse().map_err(|_| Error::NotFound("node"))?,
                    version,
                    iat: now,
                };
                let (variables, blinding) = self.variables(connection, &of)?;
                let keys = (&key, &signing.replica);
                let text = sign_environment(&of, &variables, &blinding, keys, &mut **self.random());
                let text = text.ok_or_else(no_key)?;
                length += text.len();
                answer.environments.push(text);
                last = Some(deployment);
            }
            Ok(answer)
        })
    }

    /// Returns the variables of a deployment in the order of their names, and the bytes that blind their digest.
    fn variables(
        &self,
        connection: &Connection,
        of: &EnvironmentClaims,
    ) -> Result<(Vec<Variable>, [u8; 32]), Error> {
        let sealing = self.environment_key.stored_under(connection)?;
        let deployment = of.deployment.as_str();
        let mut rows = connection.prepare_cached(
            "SELECT key, is_secret, sealed FROM environment_variable WHERE deployment = ?1 ORDER BY key",
        )?;
        let rows = rows.query_map(params![deployment], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?, row.get::<_, Vec<u8>>(2)?))
        })?;
        let mut variables: Vec<(String, Zeroizing<String>)> = Vec::new();
        for row in rows {
            let (key, is_secret, sealed) = row?;
            let value = sealing.open(Place { deployment, key: &key, is_secret }, &sealed)?;
            variables.push((key, value));
        }
        Ok((variables, sealing.blind(&format!("{}\n{}", of.deployment, of.version))))
    }
}

fn encryption_key(connection: &Connection, node: &str) -> Result<EncryptionKey, Error> {
    let mut query = connection.prepare_cached("SELECT encryption_key FROM node WHERE id = ?1")?;
    let kept: Option<String> = query.query_row([node], |row| row.get(0))?;
    let jwk: Option<Jwk> = kept.and_then(|kept| serde_json::from_str(&kept).ok());
    jwk.and_then(|jwk| EncryptionKey::from_jwk(&jwk).ok()).ok_or_else(no_key)
}

fn no_key() -> Error {
    let detail = "this node has stated no key that environments can be encrypted to; state one first";
    Error::Conflict { code: "no_encryption_key", detail: detail.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use getrandom::SysRng;
    use rand_core::UnwrapErr;
    use serde_json::json;

    use super::*;
    use crate::controlplane::calls::precondition::IfMatch;
    use crate::controlplane::test_world::World;
    use crate::protocol::environment::key::{DecryptionKey, sign_encryption_key};
    use crate::protocol::environment::signed::SignedEnvironment;
    use crate::protocol::key::SigningKey;
    use crate::protocol::membership::NodeStatement;

    fn statement(text: String) -> NodeStatement {
        NodeStatement { encryption_key: Some(text), ..NodeStatement::default() }
    }

    impl World {
        /// Makes a deployment with these variables.
        fn deployment_with(&self, name: &str, variables: &serde_json::Value) -> String {
            let (owner, organization) = (&self.owner, &self.owner.organization);
            let new = serde_json::from_value(json!({ "name": name })).unwrap();
            let workspace = self.control.create_workspace(owner, organization, &new).unwrap().id;
            let new = json!({ "name": name, "workspaceId": workspace, "dataPlaneId": "dpl_a" });
            let new = serde_json::from_value(new).unwrap();
            let id = self.control.create_deployment(owner, organization, new).unwrap().id.to_string();
            self.set_variables(&id, variables);
            id
        }

        fn set_variables(&self, deployment: &str, variables: &serde_json::Value) {
            let update = serde_json::from_value(json!({ "environmentVariables": variables })).unwrap();
            let organization = &self.owner.organization;
            self.control
                .update_deployment(&self.owner, organization, deployment, update, &IfMatch::default())
                .unwrap();
        }

        fn ask(&self, question: &HeldVersions) -> EnvironmentAnswer {
            self.control.environments_for(&World::node(), question).unwrap()
        }

        fn verify(&self, text: &str) -> SignedEnvironment {
            let keyset = self.control.signing().keyset.clone();
            SignedEnvironment::verify(text, &keyset, &"dpl_a".parse().unwrap(), &"nod_a".parse().unwrap())
                .unwrap()
        }
    }

    #[test]
    fn a_node_is_given_what_it_does_not_hold_for_the_key_that_it_signed() {
        let world = World::new();
        let key = DecryptionKey::generate(&mut UnwrapErr(SysRng));
        let (node, now) = ("nod_a".parse().unwrap(), world.control.now());
        let question = HeldVersions::default();
        assert_eq!(world.state(&NodeStatement::default()).environment_changes, None);
        let id = world.deployment_with(
            "prod",
            &json!([{ "key": "B", "value": "s3cret", "isSecret": true }, { "key": "A", "value": "1" }]),
        );
        // A key that another key signed is not the node's.
        let stranger = SigningKey::from_seed(&[9; 32]);
        world.state(&statement(sign_encryption_key(&node, key.public(), now, &stranger)));
        let refused = world.control.environments_for(&World::node(), &question).unwrap_err();
        assert_eq!(refused.code(), "no_encryption_key");
        let stated = statement(sign_encryption_key(&node, key.public(), now, &world.key));
        assert_eq!(world.state(&stated).environment_changes, Some(1));
        // The same key again writes nothing.
        world.control.store.refuse_writes(true);
        world.state(&stated);
        world.control.store.refuse_writes(false);
        let answer = world.ask(&question);
        let signed = world.verify(&answer.environments[0]);
        let pairs: Vec<_> =
            signed.open(&key).unwrap().iter().map(|(name, value)| format!("{name}={}", **value)).collect();
        assert_eq!((pairs, answer.next), (vec!["A=1".to_owned(), "B=s3cret".to_owned()], None));
        assert_eq!(
            (signed.claims().deployment.as_str(), &*signed.claims().issuer),
            (&*id, world.control.issuer())
        );
        let version = signed.claims().version;
        let held = |version| HeldVersions { held: [(id.clone(), version)].into(), after: None };
        assert_eq!(world.ask(&held(version)), EnvironmentAnswer::default());
        // Another version is given anew, also to a node that is ahead: only the node can tell that history was lost.
        for other in [version - 1, version + 1] {
            assert_eq!(world.verify(&world.ask(&held(other)).environments[0]).digest(), signed.digest());
        }
        // After the last variable the version goes on.
        world.set_variables(&id, &json!([]));
        let empty = world.verify(&world.ask(&held(version)).environments[0]);
        assert!(empty.claims().version > version && empty.open(&key).unwrap().is_empty());
        assert_eq!(world.state(&stated).environment_changes, Some(2));
        // After a restore the versions go on above those that hosts may hold.
        world.later(1000);
        world.control.recover(7, None).unwrap();
        let raised = world.verify(&world.ask(&held(empty.claims().version)).environments[0]);
        assert_eq!(
            (raised.claims().version, world.state(&stated).environment_changes),
            (world.control.now().unix().unsigned_abs(), Some(3))
        );
    }

    #[test]
    fn an_answer_is_short_enough_for_a_node_and_goes_on_where_it_ended() {
        let world = World::new();
        let key = DecryptionKey::generate(&mut UnwrapErr(SysRng));
        let text =
            sign_encryption_key(&"nod_a".parse().unwrap(), key.public(), world.control.now(), &world.key);
        world.state(&statement(text));
        let large: Vec<_> =
            (0..4).map(|n| json!({ "key": format!("V{n}"), "value": "x".repeat(60 << 10) })).collect();
        for name in ["a", "b", "c", "d"] {
            world.deployment_with(name, &json!(large));
        }
        let (mut question, mut found) = (HeldVersions::default(), 0);
        loop {
            let answer = world.ask(&question);
            assert!(serde_json::to_vec(&answer).unwrap().len() < 1 << 20);
            found += answer.environments.len();
            if answer.next.is_none() {
                break;
            }
            question.after = answer.next;
        }
        assert_eq!(found, 4);
    }
}
