//! Reload: applies a changed configuration in the running daemon, as far as possible.
//!
//! An invalid file changes nothing. Settings that need a restart are reported. With systemd's sockets a restart loses no
//! request, so few settings are applied in place.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use super::admin::allowed::Allowed;
use crate::api::host::reload::Reloaded;
use crate::dataplane::config::Config;
use crate::dataplane::decide::routes::MapsError;
use crate::dataplane::faces::http::Face;
use crate::dataplane::replica::replication::Replication;
use crate::dataplane::replica::store::StoreError;
use crate::platform::clock::Clock;
use crate::platform::configuration::ConfigError;
use crate::platform::systemd::{self, NotifyState};

/// Settings that can be applied in place, as table and key.
const IN_PLACE: [&str; 5] = [
    "proxies.trusted",
    "staleness.default_seconds",
    "staleness.roles",
    "routes.directory",
    "admin.allow_uids",
];

/// Reasons why a changed configuration is not applied. The previous one stays in force.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The daemon was started without a file.
    #[error("this daemon was not started from a configuration file")]
    NoFile,
    /// The file is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The route maps that it names are invalid.
    #[error(transparent)]
    Routes(#[from] MapsError),
    /// The replica could not be read to apply a changed staleness limit.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Parts that a reload works with.
pub struct Reload {
    /// Path of the configuration file, or `None` if the daemon was started without one.
    pub file: Option<PathBuf>,
    /// Settings in force.
    pub in_force: Mutex<toml::Table>,
    /// HTTP interface with its trusted networks.
    pub face: Arc<Face>,
    /// Replica with its staleness limits and route maps.
    pub replication: Arc<Replication>,
    /// Users that may administer.
    pub allowed: Arc<Allowed>,
    /// Clock of the node.
    pub clock: Clock,
}

impl Reload {
    /// Reads the file again and applies it. Reports to the log and to the service manager.
    pub fn run(&self) -> Result<Reloaded, ReloadError> {
        systemd::reloading();
        let outcome = self.apply_file();
        match &outcome {
            Ok(Reloaded { taken, restart }) => {
                tracing::info!(?taken, ?restart, "the configuration was read again");
            }
            Err(error) => {
                tracing::error!(%error, "the configuration is refused; the one before stays in force");
            }
        }
        systemd::notify(&[NotifyState::Ready]);
        outcome
    }

    fn apply_file(&self) -> Result<Reloaded, ReloadError> {
        let file = self.file.as_deref().ok_or(ReloadError::NoFile)?;
        let (config, table) = (Config::read(file)?, Config::table(file)?);
        // Everything that can fail comes before the first change.
        let routes = config.route_maps()?;
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcome = Reloaded { taken: Vec::new(), restart: Vec::new() };
        for key in changed(&in_force, &table) {
            if IN_PLACE.contains(&key.as_str()) { &mut outcome.taken } else { &mut outcome.restart }
                .push(key);
        }
        if outcome.taken.iter().any(|key| key.starts_with("staleness.")) {
            self.replication.set_staleness(config.staleness(), (self.clock)())?;
        }
        self.face.trusted.store(Arc::new(config.proxies.trusted));
        self.allowed.set(config.admin.allow_uids);
        // Even with the same directory, since its files may have changed.
        self.replication.live().change_local(|local| local.routes = routes);
        for key in IN_PLACE {
            copy(key, &table, &mut in_force);
        }
        Ok(outcome)
    }
}

/// Returns the keys whose values differ, as `table.key`, or as `key` outside a table.
fn changed(before: &toml::Table, after: &toml::Table) -> Vec<String> {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let mut changed = Vec::new();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        let empty = toml::Table::new();
        let table = |value: Option<&toml::Value>| value.is_none_or(toml::Value::is_table);
        if old == new {
        } else if table(old) && table(new) {
            let inner = |value: Option<&toml::Value>| {
                value.and_then(toml::Value::as_table).cloned().unwrap_or_else(|| empty.clone())
            };
            changed.extend(differing(&inner(old), &inner(new)).map(|key| format!("{name}.{key}")));
        } else {
            changed.push(name.clone());
        }
    }
    changed
}

fn differing<'a>(before: &'a toml::Table, after: &'a toml::Table) -> impl Iterator<Item = String> + use<'a> {
    let added = after.keys().filter(|key| !before.contains_key(*key));
    before.keys().chain(added).filter(|key| before.get(*key) != after.get(*key)).cloned()
}

/// Copies the value of a key of a table.
fn copy(key: &str, from: &toml::Table, to: &mut toml::Table) {
    let Some((table, key)) = key.split_once('.') else { return };
    let value = from.get(table).and_then(|inner| inner.get(key)).cloned();
    let entry = to.entry(table).or_insert_with(|| toml::Table::new().into());
    let Some(inner) = entry.as_table_mut() else { return };
    match value {
        Some(value) => drop(inner.insert(key.to_owned(), value)),
        None => drop(inner.remove(key)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_differs_is_named_by_table_and_key() {
        let before: toml::Table =
            toml::from_str("state_dir = '/a'\n[proxies]\npass_status = true\n[admin]\nallow_uids = [1]\n")
                .unwrap();
        let mut in_force = before.clone();
        let after: toml::Table = toml::from_str(
            "state_dir = '/b'\n[proxies]\ntrusted = []\npass_status = true\n[audit]\nmax_queue = 1\n",
        )
        .unwrap();
        assert_eq!(changed(&before, &before), Vec::<String>::new());
        let keys = changed(&before, &after);
        assert_eq!(keys, ["admin.allow_uids", "audit.max_queue", "proxies.trusted", "state_dir"]);
        // An applied key is not reported again; a key that waits for a restart is.
        for key in IN_PLACE {
            copy(key, &after, &mut in_force);
        }
        assert_eq!(changed(&in_force, &after), ["audit.max_queue", "state_dir"]);
    }
}
