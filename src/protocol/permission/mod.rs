//! Defines the catalogue of permissions, and sets of permissions as bit masks.

mod sets;

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

pub use sets::{dag_author, dag_viewer, deployment_admin, held_on_dags, retired};

/// Lists every permission, sorted by name. A [`Permission`] is an index into this list.
pub const CATALOGUE: &[&str] = &[
    "deployment.agentTokens.create",
    "deployment.agentTokens.delete",
    "deployment.agentTokens.get",
    "deployment.agentTokens.update",
    "deployment.agents.delete",
    "deployment.agents.get",
    "deployment.agents.update",
    "deployment.airflow.adminMenu.get",
    "deployment.airflow.astronomer.get",
    "deployment.airflow.auditLog.get",
    "deployment.airflow.backfill.create",
    "deployment.airflow.backfill.get",
    "deployment.airflow.backfill.update",
    "deployment.airflow.browseMenu.get",
    "deployment.airflow.clusterActivity.get",
    "deployment.airflow.configMenu.get",
    "deployment.airflow.connection.create",
    "deployment.airflow.connection.delete",
    "deployment.airflow.connection.get",
    "deployment.airflow.connection.update",
    "deployment.airflow.customMenu.get",
    "deployment.airflow.dag.delete",
    "deployment.airflow.dag.get",
    "deployment.airflow.dag.update",
    "deployment.airflow.dagCode.get",
    "deployment.airflow.dagDependencies.get",
    "deployment.airflow.dagRun.create",
    "deployment.airflow.dagRun.delete",
    "deployment.airflow.dagRun.get",
    "deployment.airflow.dagRun.update",
    "deployment.airflow.datasets.get",
    "deployment.airflow.docs.get",
    "deployment.airflow.importError.get",
    "deployment.airflow.job.get",
    "deployment.airflow.plugin.get",
    "deployment.airflow.pool.create",
    "deployment.airflow.pool.delete",
    "deployment.airflow.pool.get",
    "deployment.airflow.pool.update",
    "deployment.airflow.provider.get",
    "deployment.airflow.slaMiss.get",
    "deployment.airflow.taskInstance.create",
    "deployment.airflow.taskInstance.delete",
    "deployment.airflow.taskInstance.get",
    "deployment.airflow.taskInstance.update",
    "deployment.airflow.taskLog.get",
    "deployment.airflow.taskReschedule.get",
    "deployment.airflow.trigger.get",
    "deployment.airflow.variable.create",
    "deployment.airflow.variable.delete",
    "deployment.airflow.variable.get",
    "deployment.airflow.variable.update",
    "deployment.airflow.website.get",
    "deployment.airflow.xcom.create",
    "deployment.airflow.xcom.delete",
    "deployment.airflow.xcom.get",
    "deployment.airflow.xcom.update",
    "deployment.alerts.create",
    "deployment.alerts.delete",
    "deployment.alerts.get",
    "deployment.alerts.update",
    "deployment.apiKeys.delete",
    "deployment.apiKeys.get",
    "deployment.apiTokens.create",
    "deployment.apiTokens.delete",
    "deployment.apiTokens.get",
    "deployment.apiTokens.rotate",
    "deployment.apiTokens.update",
    "deployment.delete",
    "deployment.deploys.create",
    "deployment.deploys.get",
    "deployment.deploys.update",
    "deployment.envObjects.create",
    "deployment.envObjects.delete",
    "deployment.envObjects.get",
    "deployment.envObjects.update",
    "deployment.environmentVariables.create",
    "deployment.environmentVariables.delete",
    "deployment.environmentVariables.get",
    "deployment.environmentVariables.update",
    "deployment.get",
    "deployment.logs.get",
    "deployment.metrics.get",
    "deployment.teams.delete",
    "deployment.teams.get",
    "deployment.teams.update",
    "deployment.update",
    "deployment.users.delete",
    "deployment.users.get",
    "deployment.users.update",
];

// A set is a `u128`: this fails to compile when the catalogue outgrows it.
const _: () = assert!(CATALOGUE.len() <= 128);

/// Error for a name that the catalogue does not contain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no permission of the catalogue")]
pub struct UnknownPermission(pub String);

/// One permission of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission(u8);

impl Permission {
    /// Returns every permission, in the catalogue's order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..CATALOGUE.len()).map(Self::from_index)
    }

    /// Returns the name, such as `deployment.airflow.dag.get`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        CATALOGUE[usize::from(self.0)]
    }

    #[expect(clippy::cast_possible_truncation, reason = "the catalogue has at most 128 entries")]
    fn from_index(index: usize) -> Self {
        Self(index as u8)
    }
}

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        CATALOGUE.binary_search(&text).map(Self::from_index).map_err(|_| UnknownPermission(text.into()))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Set of permissions, with one bit for each entry of the catalogue.
///
/// ```
/// use halligan::protocol::permission::{PermissionSet, dag_author, dag_viewer};
///
/// assert!(dag_viewer().is_subset(dag_author()));
/// assert!(dag_author().contains("deployment.airflow.dag.update".parse().unwrap()));
/// assert_eq!(dag_viewer().difference(dag_author()), PermissionSet::empty());
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PermissionSet(u128);

impl PermissionSet {
    /// Returns the empty set.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Returns the set of all permissions of the catalogue.
    #[must_use]
    pub fn all() -> Self {
        Permission::all().collect()
    }

    /// Adds a permission.
    ///
    /// ```
    /// use halligan::protocol::permission::PermissionSet;
    ///
    /// let mut set = PermissionSet::empty();
    /// set.insert("deployment.airflow.dag.get".parse()?);
    /// assert!(set.contains("deployment.airflow.dag.get".parse()?));
    /// // There are no wildcards: a permission includes no other one.
    /// assert!(!set.contains("deployment.airflow.dag.update".parse()?));
    /// assert!("deployment.airflow.dag.*".parse::<halligan::protocol::permission::Permission>().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert(&mut self, permission: Permission) {
        self.0 |= 1 << permission.0;
    }

    /// Returns true if the set contains `permission`.
    #[must_use]
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission.0) != 0
    }

    /// Returns true if `other` contains every permission of this set.
    #[must_use]
    pub const fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Returns the permissions that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the permissions of this set that are not in `other`.
    ///
    /// ```
    /// use halligan::protocol::permission::PermissionSet;
    ///
    /// let required: PermissionSet =
    ///     ["deployment.logs.get".parse()?, "deployment.get".parse()?].into_iter().collect();
    /// let granted: PermissionSet = ["deployment.get".parse()?].into_iter().collect();
    /// assert!(!required.is_subset(granted));
    /// let missing: Vec<_> = required.difference(granted).iter().map(|missing| missing.as_str()).collect();
    /// assert_eq!(missing, ["deployment.logs.get"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the number of permissions.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Returns true if the set contains no permission.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the permissions, in the catalogue's order.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::all().filter(move |&permission| self.contains(permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        let mut set = Self::empty();
        permissions.into_iter().for_each(|permission| set.insert(permission));
        set
    }
}

impl fmt::Debug for PermissionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for PermissionSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for PermissionSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = PermissionSet;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of permissions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<PermissionSet, A::Error> {
                let mut set = PermissionSet::empty();
                while let Some(permission) = names.next_element::<Permission>()? {
                    set.insert(permission);
                }
                Ok(set)
            }
        }
        deserializer.deserialize_seq(Names)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_catalogue_is_sorted_and_read_back() {
        assert!(CATALOGUE.is_sorted());
        for permission in Permission::all() {
            assert_eq!(permission.as_str().parse::<Permission>(), Ok(permission));
        }
        assert!("deployment.airflow.dag".parse::<Permission>().is_err());
    }

    #[test]
    fn a_set_is_written_as_sorted_names() {
        let names = r#"["deployment.airflow.dag.get","deployment.logs.get"]"#;
        let set: PermissionSet =
            serde_json::from_str(r#"["deployment.logs.get","deployment.airflow.dag.get"]"#).unwrap();
        assert_eq!(serde_json::to_string(&set).unwrap(), names);
        assert!(serde_json::from_str::<PermissionSet>(r#"["deployment.everything"]"#).is_err());
    }

    #[test]
    fn the_built_in_sets_are_what_the_platform_says() {
        let may = |set: PermissionSet, name: &str| set.contains(name.parse().unwrap());
        assert!(may(deployment_admin(), "deployment.environmentVariables.create"));
        assert!(!may(deployment_admin(), "deployment.alerts.create"));
        assert!(!may(deployment_admin(), "deployment.apiTokens.rotate"));
        assert!(dag_viewer().is_subset(dag_author()) && dag_author().is_subset(deployment_admin()));
        assert!(
            may(dag_author(), "deployment.airflow.dag.delete")
                && !may(dag_viewer(), "deployment.airflow.dag.update")
        );
        assert!(!may(dag_author(), "deployment.airflow.connection.get"));
    }
}
