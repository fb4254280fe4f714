//! Environment variables of deployments. An update names all of them; adding, changing and deleting a variable each need a
//! permission of their own.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use zeroize::Zeroizing;

use super::stored_deployments::Stored as Deployment;
use crate::api::environment::{EnvironmentVariable, NewEnvironmentVariable};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::error::{EnvironmentKeyError, Error};
use crate::controlplane::replica::versions::DeploymentPart;
use crate::controlplane::signing::environment_key::{Place, SEALING, SealingKey};
use crate::controlplane::store::Transaction;
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
mod tests;
