//! Environment variables of deployments. An update names all of them; what each change needs is one permission.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};
use zeroize::Zeroizing;

use super::stored_deployments::Stored as Deployment;
use crate::api::environment::{EnvironmentVariable, NewEnvironmentVariable};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::error::{EnvironmentKeyError, Error};
use crate::controlplane::replica::versions::DeploymentPart;
use crate::controlplane::signing::environment_key::{Place, SEALING, SealingKey};
use crate::protocol::environment::{MAX_TOTAL, MAX_VARIABLES, check_variable_name, check_variable_value};
use crate::protocol::time::Time;

/// Member of a deployment that errors name.
const FIELD: &str = "environmentVariables";

/// Variable as it is stored.
struct Stored {
    is_secret: bool,
    sealed: Vec<u8>,
    updated_at: i64,
}

impl Stored {
    fn open(&self, key: &SealingKey, deployment: &str, name: &str) -> Result<Zeroizing<String>, Error> {
        Ok(key.open(Place { deployment, key: name, is_secret: self.is_secret }, &self.sealed)?)
    }
}

/// Returns the stored variables of a deployment by name.
fn stored(connection: &Connection, deployment: &str) -> Result<BTreeMap<String, Stored>, Error> {
    let mut rows = connection.prepare_cached(
        "SELECT key, is_secret, sealed, updated_at FROM environment_variable WHERE deployment = ?1 ORDER BY key",
    )?;
    let rows = rows.query_map([deployment], |row| {
        Ok((row.get(0)?, Stored { is_secret: row.get(1)?, sealed: row.get(2)?, updated_at: row.get(3)? }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Changes that turn the stored variables into the wanted ones.
#[derive(Default)]
struct Changes {
    created: Vec<NewEnvironmentVariable>,
    updated: Vec<NewEnvironmentVariable>,
    deleted: Vec<String>,
}

/// Checks each variable by itself, and all of them together. Errors name a variable only if its name can't be a value that
/// stands in the wrong place.
fn check(wanted: &[NewEnvironmentVariable]) -> Result<(), Error> {
    if wanted.len() > MAX_VARIABLES {
        return Err(Error::invalid(FIELD, format!("use at most {MAX_VARIABLES} variables")));
    }
    for (number, variable) in wanted.iter().enumerate() {
        let value = variable.value.as_ref().map_or(Ok(()), |value| check_variable_value(&value.0));
        check_variable_name(&variable.key).and(value).map_err(|fault| {
            Error::invalid(FIELD, format!("variable {} of the list: {fault}", number + 1))
        })?;
        if wanted[..number].iter().any(|other| other.key == variable.key) {
            return Err(Error::invalid(FIELD, format!("{} is named twice", variable.key)));
        }
    }
    Ok(())
}

impl ControlPlane {
    /// Returns the variables of a deployment as its readers see them, or none if the caller may not see them. A value that
    /// can't be read is left out and logged: the rest of the deployment is shown without it.
    pub(super) fn environment_shown(
        &self,
        connection: &Connection,
        actor: &Actor,
        deployment: &Deployment,
    ) -> Result<Option<Vec<EnvironmentVariable>>, Error> {
        if actor.may(Operation::ReadEnvironmentVariables, deployment.scope(&actor.organization)).is_err() {
            return Ok(None);
        }
        let mut shown = Vec::new();
        for (key, variable) in stored(connection, &deployment.id)? {
            let mut value = None;
            if !variable.is_secret {
                let sealing = self.environment_key.stored_under(connection);
                match sealing.and_then(|sealing| variable.open(&sealing, &deployment.id, &key)) {
                    Ok(opened) => value = Some((*opened).clone()),
                    Err(Error::EnvironmentKey(fault)) => self.environment_key.report(&fault),
                    Err(other) => return Err(other),
                }
            }
            shown.push(EnvironmentVariable {
                key,
                is_unreadable: value.is_none() && !variable.is_secret,
                value,
                is_secret: variable.is_secret,
                updated_at: Time::from_unix(variable.updated_at).into(),
            });
        }
        Ok(Some(shown))
    }

    /// Replaces the variables of a deployment. Adding one, changing one and deleting one each need a permission. The caller
    /// who changes none needs to be allowed to see them, since the answer to such a call tells what they are.
    pub(super) fn set_environment(
        &self,
        transaction: &Transaction<'_>,
        actor: &Actor,
        deployment: &Deployment,
        wanted: Vec<NewEnvironmentVariable>,
    ) -> Result<(), Error> {
        check(&wanted)?;
        let before = stored(transaction, &deployment.id)?;
        let scope = deployment.scope(&actor.organization);
        let sees = actor.may(Operation::ReadEnvironmentVariables, scope);
        let total: usize = wanted
            .iter()
            .map(|variable| {
                let kept =
                    || before.get(&variable.key).map_or(0, |kept| kept.sealed.len().saturating_sub(SEALING));
                variable.key.len() + variable.value.as_ref().map_or_else(kept, |value| value.0.len())
            })
            .sum();
        if total > MAX_TOTAL {
            return Err(Error::invalid(
                FIELD,
                format!("all names and values together have at most {MAX_TOTAL} bytes"),
            ));
        }
        let mut changes = Changes {
            deleted: before
                .keys()
                .filter(|key| !wanted.iter().any(|variable| variable.key == **key))
                .cloned()
                .collect(),
            ..Changes::default()
        };
        for variable in wanted {
            match before.get(&variable.key) {
                None if variable.value.is_none() => {
                    return Err(Error::invalid(FIELD, format!("{} is new; give it a value", variable.key)));
                }
                None => changes.created.push(variable),
                Some(kept) if self.changes(transaction, deployment, (kept, &variable), sees.is_ok())? => {
                    changes.updated.push(variable);
                }
                Some(_) => {}
            }
        }
        for (operation, needed) in [
            (Operation::CreateEnvironmentVariables, !changes.created.is_empty()),
            (Operation::UpdateEnvironmentVariables, !changes.updated.is_empty()),
            (Operation::DeleteEnvironmentVariables, !changes.deleted.is_empty()),
        ] {
            if needed {
                actor.may(operation, scope)?;
            }
        }
        if changes.created.is_empty() && changes.updated.is_empty() && changes.deleted.is_empty() {
            return sees;
        }
        self.store_environment(transaction, deployment, &before, changes)
    }

    /// Reads the file of the key of the stored variables, and returns its fault. Without variables there is none. A key that
    /// is held in memory does not count, because it is gone after the next start.
    pub fn environment_key_fault(&self) -> Result<Option<EnvironmentKeyError>, Error> {
        self.store.read(|connection| self.environment_key.file_fault(connection))
    }

    /// Deletes every stored variable, after their key was lost. Hosts keep the variables that they have until some are set
    /// again. Returns how many were deleted.
    pub fn forget_variables(&self) -> Result<usize, Error> {
        self.environment_key.forget();
        self.store.write(|transaction| {
            transaction.execute("UPDATE deployment SET environment_version = 0", [])?;
            transaction.execute("DELETE FROM environment_key", [])?;
            Ok(transaction.execute("DELETE FROM environment_variable", [])?)
        })
    }

    /// Returns true if a variable differs from the stored one. To a caller who may not see values each value differs, as does
    /// each new value of a secret, since a guess must not be told from a change.
    fn changes(
        &self,
        connection: &Connection,
        deployment: &Deployment,
        (kept, wanted): (&Stored, &NewEnvironmentVariable),
        sees: bool,
    ) -> Result<bool, Error> {
        let Some(value) = &wanted.value else {
            if kept.is_secret && !wanted.is_secret {
                let detail =
                    format!("{} is secret; it becomes visible only together with a new value", wanted.key);
                return Err(Error::invalid(FIELD, detail));
            }
            return Ok(kept.is_secret != wanted.is_secret);
        };
        if kept.is_secret || wanted.is_secret || !sees {
            return Ok(true);
        }
        let sealing = self.environment_key.stored_under(connection)?;
        Ok(kept.open(&sealing, &deployment.id, &wanted.key)? != value.0)
    }

    fn store_environment(
        &self,
        transaction: &Transaction<'_>,
        deployment: &Deployment,
        before: &BTreeMap<String, Stored>,
        changes: Changes,
    ) -> Result<(), Error> {
        let now = self.now().unix();
        for key in &changes.deleted {
            transaction
                .prepare_cached("DELETE FROM environment_variable WHERE deployment = ?1 AND key = ?2")?
                .execute([&*deployment.id, key])?;
        }
        let put: Vec<_> = changes.created.into_iter().chain(changes.updated).collect();
        if !put.is_empty() {
            let mut rng = self.random();
            let sealing = self.environment_key.for_storing(transaction, &mut **rng)?;
            for variable in put {
                let value = match (variable.value, before.get(&variable.key)) {
                    (Some(value), _) => value.0,
                    (None, Some(kept)) => kept.open(&sealing, &deployment.id, &variable.key)?,
                    (None, None) => return Err(Error::invalid(FIELD, "give each new variable a value")),
                };
                let place =
                    Place { deployment: &deployment.id, key: &variable.key, is_secret: variable.is_secret };
                let sealed = sealing.seal(place, &value, &mut **rng)?;
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO environment_variable (deployment, key, is_secret, sealed, updated_at)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![deployment.id, variable.key, variable.is_secret, sealed, now])?;
            }
        }
        DeploymentPart::Environment.raise(transaction, (&deployment.id, &deployment.data_plane_id), now)?;
        Ok(())
    }
}

/// Deletes the variables of a deployment that is being deleted.
pub(super) fn remove_deployment(transaction: &Transaction<'_>, deployment: &str) -> Result<(), Error> {
    transaction.execute("DELETE FROM environment_variable WHERE deployment = ?1", [deployment])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;
    use crate::api::deployment::{DeploymentFilter, NewDeployment};
    use crate::controlplane::calls::precondition::IfMatch;
    use crate::controlplane::test_world::World;
    use crate::protocol::permission::{Permission, PermissionSet};

    /// Control plane with one deployment.
    struct Estate {
        world: World,
        deployment: String,
        workspace: String,
    }

    impl Estate {
        fn new() -> Self {
            let world = World::new();
            let (owner, organization) = (&world.owner, world.owner.organization.clone());
            let new = serde_json::from_value(json!({ "name": "data" })).unwrap();
            let workspace =
                world.control.create_workspace(owner, &organization, &new).unwrap().id.to_string();
            let new: NewDeployment = serde_json::from_value(
                json!({ "name": "prod", "workspaceId": workspace, "dataPlaneId": "dpl_a" }),
            )
            .unwrap();
            let deployment =
                world.control.create_deployment(owner, &organization, new).unwrap().id.to_string();
            Self { world, deployment, workspace }
        }

        /// Returns a caller whose permissions on the deployment are these.
        fn with(&self, permissions: &[&str]) -> Actor {
            let held: PermissionSet = permissions
                .iter()
                .map(|name| format!("deployment.{name}").parse::<Permission>().unwrap())
                .collect();
            Actor {
                id: "tok_a".into(),
                organization: self.world.owner.organization.clone(),
                role: None,
                workspaces: BTreeMap::new(),
                deployments: [(self.deployment.clone(), held)].into(),
            }
        }

        fn set(&self, actor: &Actor, variables: &Value) -> Result<Value, Error> {
            let update = serde_json::from_value(json!({ "environmentVariables": variables })).unwrap();
            let organization = &actor.organization;
            let shown = self.world.control.update_deployment(
                actor,
                organization,
                &self.deployment,
                update,
                &IfMatch::default(),
            )?;
            Ok(serde_json::to_value(shown.environment_variables).unwrap())
        }

        fn shown(&self) -> Value {
            let (owner, organization) = (&self.world.owner, &self.world.owner.organization);
            let shown = self.world.control.show_deployment(owner, organization, &self.deployment).unwrap();
            serde_json::to_value(shown.environment_variables).unwrap()
        }

        fn version(&self) -> i64 {
            self.world.count("SELECT environment_version FROM deployment")
        }

        fn key_file(&self) -> std::path::PathBuf {
            self.world.control.signing().directory().join("environment.key")
        }
    }

    fn code(result: Result<Value, Error>) -> &'static str {
        match result {
            Ok(_) => "ok",
            Err(Error::Forbidden { .. }) => "forbidden",
            Err(error) => {
                assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
                if matches!(error, Error::Invalid { .. }) { "invalid" } else { "other" }
            }
        }
    }

    #[test]
    fn each_change_to_the_variables_needs_its_own_permission() {
        let estate = Estate::new();
        let owner = estate.world.owner.clone();
        let plain = |key: &str, value: &str| json!({ "key": key, "value": value });
        let secret = |key: &str, value: &str| json!({ "key": key, "value": value, "isSecret": true });
        estate.set(&owner, &json!([plain("A", "1"), secret("S", "s3cret")])).unwrap();
        let all = [
            "get",
            "environmentVariables.get",
            "environmentVariables.create",
            "environmentVariables.update",
            "environmentVariables.delete",
        ];
        let without =
            |missing: &str| -> Vec<&str> { all.into_iter().filter(|name| *name != missing).collect() };
        let kept = json!({ "key": "S", "isSecret": true });
        for (wanted, missing, outcome) in [
            (json!([plain("A", "1"), kept, plain("B", "2")]), "environmentVariables.create", "forbidden"),
            (json!([plain("A", "2"), kept]), "environmentVariables.update", "forbidden"),
            // A guess of a secret's value is a change, right or wrong.
            (json!([plain("A", "1"), secret("S", "s3cret")]), "environmentVariables.update", "forbidden"),
            (json!([{ "key": "A", "isSecret": true }, kept]), "environmentVariables.update", "forbidden"),
            (json!([kept]), "environmentVariables.delete", "forbidden"),
            // So is a guess of a plain value by one who may not see it.
            (json!([plain("A", "1"), kept]), "environmentVariables.get", "ok"),
            (json!([plain("A", "1"), kept]), "environmentVariables.update", "ok"),
            (json!([{ "key": "A" }, kept]), "environmentVariables.get", "forbidden"),
            (json!([plain("A", "1"), kept]), "get", "forbidden"),
        ] {
            let held = estate.with(&without(missing));
            assert_eq!(code(estate.set(&held, &wanted)), outcome, "{wanted} without {missing}");
        }
        let changed = estate.set(&estate.with(&all), &json!([plain("B", "2"), kept])).unwrap();
        assert_eq!((&changed[0]["key"], &changed[1]["key"]), (&json!("B"), &json!("S")));
        // The permission to change the deployment itself allows none of this, and is not needed for it.
        assert_eq!(code(estate.set(&estate.with(&["get", "update"]), &json!([]))), "forbidden");
        let hidden = estate
            .set(&estate.with(&without("environmentVariables.get")), &json!([plain("C", "3")]))
            .unwrap();
        assert_eq!(hidden, Value::Null);
    }

    #[test]
    fn a_secret_is_shown_to_nobody_and_stays_until_it_is_replaced() {
        let estate = Estate::new();
        let owner = estate.world.owner.clone();
        let set = |variables: Value| estate.set(&owner, &variables);
        set(json!([{ "key": "S", "value": "s3cret", "isSecret": true }, { "key": "A", "value": "" }]))
            .unwrap();
        let shown = estate.shown();
        assert_eq!((&shown[0]["value"], shown[1].get("value")), (&json!(""), None));
        let (version, at) = (estate.version(), shown[1]["updatedAt"].clone());
        estate.world.later(60);
        set(json!([{ "key": "S", "isSecret": true }, { "key": "A", "value": "" }])).unwrap();
        assert_eq!(
            (estate.version(), &estate.shown()[1]["updatedAt"]),
            (version, &at),
            "nothing has changed"
        );
        assert_eq!(code(set(json!([{ "key": "S" }, { "key": "A" }]))), "invalid", "it would be shown");
        assert_eq!(code(set(json!([{ "key": "N" }]))), "invalid", "it has no value yet");
        set(json!([{ "key": "S", "value": "open" }, { "key": "A", "isSecret": true }])).unwrap();
        let shown = estate.shown();
        assert_eq!((shown[0].get("value"), &shown[1]["value"]), (None, &json!("open")));
        assert!(estate.version() > version);
        let page = estate.world.control.list_deployments(
            &owner,
            &owner.organization,
            &DeploymentFilter::default(),
            serde_json::from_value(json!({})).unwrap(),
        );
        assert!(serde_json::to_string(&page.unwrap()).unwrap().contains(r#""key":"S","value":"open""#));
        assert!(!estate.workspace.is_empty());
    }

    #[test]
    fn what_no_variable_can_be_changes_nothing() {
        let estate = Estate::new();
        let owner = estate.world.owner.clone();
        estate.set(&owner, &json!([{ "key": "A", "value": "1" }])).unwrap();
        let (before, version) = (estate.shown(), estate.version());
        let many: Vec<_> =
            (0..=MAX_VARIABLES).map(|n| json!({ "key": format!("V{n}"), "value": "" })).collect();
        let large: Vec<_> =
            (0..5).map(|n| json!({ "key": format!("V{n}"), "value": "x".repeat(60 << 10) })).collect();
        for bad in [
            json!([{ "key": "PATH=", "value": "s3cret" }]),
            json!([{ "key": "PATH", "value": "s3cret" }]),
            json!([{ "key": "B", "value": "x".repeat(1 << 20) }]),
            json!([{ "key": "B", "value": "s3cret\u{0}" }]),
            json!([{ "key": "B", "value": "s3cret" }, { "key": "B", "value": "2" }]),
            json!(many),
            json!(large),
        ] {
            assert_eq!(code(estate.set(&owner, &bad)), "invalid");
        }
        assert_eq!((estate.shown(), estate.version()), (before, version));
    }

    #[test]
    fn values_are_stored_under_a_key_that_is_not_in_the_database() {
        use std::os::unix::fs::PermissionsExt as _;

        let estate = Estate::new();
        let (owner, path) = (estate.world.owner.clone(), estate.key_file());
        assert!(!path.exists(), "no variable was stored");
        estate.set(&owner, &json!([])).unwrap();
        assert!(!path.exists());
        let variables =
            json!([{ "key": "A", "value": "pl4in" }, { "key": "S", "value": "s3cret", "isSecret": true }]);
        estate.set(&owner, &variables).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let stored = "SELECT count(*) FROM environment_variable WHERE instr(sealed, CAST('s3cret' AS BLOB)) OR instr(sealed, CAST('pl4in' AS BLOB))";
        assert_eq!(
            (estate.world.count(stored), estate.world.count("SELECT count(*) FROM environment_variable")),
            (0, 2)
        );
        let right = std::fs::read_to_string(&path).unwrap();
        let refused = |what: &str| {
            estate.world.control.environment_key.forget();
            let error = estate.set(&owner, &json!([{ "key": "B", "value": "2" }])).unwrap_err();
            assert_eq!(error.status(), 503, "{what}");
            assert!(error.to_string().contains(&path.display().to_string()), "{what}: {error}");
            assert!(estate.world.control.environment_key_fault().unwrap().is_some(), "{what}");
            error.to_string()
        };
        std::fs::remove_file(&path).unwrap();
        assert!(refused("lost").contains("is missing"));
        assert!(!path.exists(), "no other key takes its place");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", 0o600);
        assert!(refused("another").contains("is not the key"));
        write("nothing\n", 0o600);
        refused("none");
        write(&right, 0o640);
        refused("exposed");
        write(&right, 0o600);
        assert_eq!(estate.shown()[0]["value"], "pl4in");
        // After a loss for good, one starts over, above the versions that hosts have.
        std::fs::remove_file(&path).unwrap();
        let version = estate.version();
        assert_eq!(estate.world.control.forget_variables().unwrap(), 2);
        assert_eq!((estate.shown(), estate.version()), (json!([]), 0), "nothing is given to hosts");
        estate.world.later(1);
        estate.set(&owner, &variables).unwrap();
        assert!(path.exists() && estate.version() > version);
    }
}
