//! Permissions that roles contain, or can contain.

use super::{Permission, PermissionSet};

fn chosen(choose: impl Fn(&str) -> bool) -> PermissionSet {
    Permission::all().filter(|permission| choose(permission.as_str())).collect()
}

/// Returns the permissions that no new role can contain: the platform's catalogue does not have them. Readers accept them,
/// because existing versions of roles never change.
///
/// ```
/// use halligan::protocol::permission::retired;
///
/// let permissions = retired();
/// assert!(permissions.contains("deployment.agentTokens.get".parse().unwrap()));
/// assert!(!permissions.contains("deployment.agentTokens.create".parse().unwrap()));
/// ```
#[must_use]
pub fn retired() -> PermissionSet {
    chosen(|name| name == "deployment.agentTokens.get")
}

/// Returns the permissions of `DEPLOYMENT_ADMIN`: those of a Workspace Operator that concern one deployment. The role can
/// set environment variables. It can't create alerts, manage API tokens, or change who has access.
///
/// Tokens carry the digest of the role's first version, so a permission that the catalogue gained later is not in it.
///
/// ```
/// use halligan::protocol::permission::deployment_admin;
///
/// let permissions = deployment_admin();
/// assert!(permissions.contains("deployment.airflow.dag.update".parse().unwrap()));
/// assert!(!permissions.contains("deployment.apiTokens.create".parse().unwrap()));
/// ```
#[must_use]
pub fn deployment_admin() -> PermissionSet {
    chosen(|name| {
        let reads = name.rsplit('.').next() == Some("get");
        let ours = [
            "deployment.agentTokens.update",
            "deployment.alerts.",
            "deployment.apiTokens.",
            "deployment.apiKeys.",
            "deployment.teams.",
            "deployment.users.",
        ]
        .iter()
        .all(|outside| !name.starts_with(outside));
        reads || ours
    })
}

/// Objects that belong to one Dag, as the names of permissions write them.
const OF_A_DAG: [&str; 7] =
    ["dag", "dagCode", "dagDependencies", "dagRun", "taskInstance", "taskLog", "xcom"];

fn of_a_dag(name: &str) -> Option<&str> {
    let (object, verb) = name.strip_prefix("deployment.airflow.")?.split_once('.')?;
    OF_A_DAG.contains(&object).then_some(verb)
}

/// Returns the permissions that a custom Dag role may contain: those on objects of one Dag, and reading the asset events
/// of its runs. No route that names a Dag requires any other permission.
///
/// ```
/// use halligan::protocol::permission::held_on_dags;
///
/// let permissions = held_on_dags();
/// assert!(permissions.contains("deployment.airflow.dagRun.create".parse().unwrap()));
/// assert!(!permissions.contains("deployment.airflow.pool.get".parse().unwrap()));
/// ```
#[must_use]
pub fn held_on_dags() -> PermissionSet {
    chosen(|name| of_a_dag(name).is_some() || name == "deployment.airflow.datasets.get")
}

/// Returns the permissions of `DAG_VIEWER`: read a Dag and its objects.
///
/// ```
/// use halligan::protocol::permission::dag_viewer;
///
/// let permissions = dag_viewer();
/// assert!(permissions.contains("deployment.airflow.dag.get".parse().unwrap()));
/// assert!(!permissions.contains("deployment.airflow.dag.update".parse().unwrap()));
/// ```
#[must_use]
pub fn dag_viewer() -> PermissionSet {
    chosen(|name| of_a_dag(name) == Some("get"))
}

/// Returns the permissions of `DAG_AUTHOR`: read, edit and delete a Dag and its objects.
///
/// ```
/// use halligan::protocol::permission::dag_author;
///
/// let permissions = dag_author();
/// assert!(permissions.contains("deployment.airflow.dag.update".parse().unwrap()));
/// assert!(!permissions.contains("deployment.airflow.pool.get".parse().unwrap()));
/// ```
#[must_use]
pub fn dag_author() -> PermissionSet {
    chosen(|name| of_a_dag(name).is_some())
}
