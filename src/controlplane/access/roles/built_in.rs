//! Built-in roles in organizations and workspaces, and their permissions on the deployments below.

pub use crate::api::role::{OrganizationRole, WorkspaceRole};
use crate::protocol::permission::{Permission, PermissionSet, deployment_admin};

impl OrganizationRole {
    /// Returns a description for people.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::OrganizationMember => "Reads what belongs to the organization as a whole.",
            Self::OrganizationBillingAdmin => "Reads what belongs to the organization as a whole, and pays.",
            Self::OrganizationOwner => "Everything, and Workspace Owner everywhere.",
        }
    }

    /// Returns its permissions on every deployment of the organization.
    #[must_use]
    pub fn permissions(self) -> PermissionSet {
        match self {
            Self::OrganizationOwner => PermissionSet::all(),
            Self::OrganizationBillingAdmin | Self::OrganizationMember => PermissionSet::empty(),
        }
    }
}

/// Permissions of a Workspace Member, without the prefix `deployment.`.
const MEMBER: [&str; 18] = [
    "get",
    "airflow.clusterActivity.get",
    "airflow.customMenu.get",
    "airflow.dag.get",
    "airflow.dagCode.get",
    "airflow.dagDependencies.get",
    "airflow.dagRun.get",
    "airflow.datasets.get",
    "airflow.importError.get",
    "airflow.taskInstance.get",
    "airflow.taskLog.get",
    "airflow.website.get",
    "alerts.get",
    "apiTokens.get",
    "deploys.get",
    "metrics.get",
    "teams.get",
    "users.get",
];

/// Additional permissions of a Workspace Author, without the prefix `deployment.`.
const AUTHOR: [&str; 31] = [
    "airflow.adminMenu.get",
    "airflow.auditLog.get",
    "airflow.backfill.create",
    "airflow.backfill.get",
    "airflow.backfill.update",
    "airflow.browseMenu.get",
    "airflow.connection.get",
    "airflow.dag.update",
    "airflow.dagRun.create",
    "airflow.dagRun.update",
    "airflow.docs.get",
    "airflow.job.get",
    "airflow.plugin.get",
    "airflow.pool.get",
    "airflow.provider.get",
    "airflow.slaMiss.get",
    "airflow.taskInstance.create",
    "airflow.taskInstance.update",
    "airflow.taskReschedule.get",
    "airflow.trigger.get",
    "airflow.variable.get",
    "airflow.xcom.get",
    "alerts.create",
    "alerts.delete",
    "alerts.update",
    "deploys.create",
    "deploys.update",
    "envObjects.get",
    "environmentVariables.get",
    "logs.get",
    "apiKeys.get",
];

fn listed(names: &[&str]) -> PermissionSet {
    let full = |permission: &Permission| permission.as_str().strip_prefix("deployment.");
    Permission::all()
        .filter(|permission| full(permission).is_some_and(|name| names.contains(&name)))
        .collect()
}

impl WorkspaceRole {
    /// Returns a description for people.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::WorkspaceAccessor => {
                "Sees that the workspace exists; everything else comes from a deployment role."
            }
            Self::WorkspaceMember => "Reads the workspace's deployments, Dags, task logs, assets and alerts.",
            Self::WorkspaceAuthor => "Also runs and pauses Dags, pushes code, and manages alerts.",
            Self::WorkspaceOperator => {
                "Also makes, changes and deletes deployments, what is in them, and the workspace's tokens."
            }
            Self::WorkspaceOwner => "Also manages the deployments' tokens, and who has which role.",
        }
    }

    /// Returns its permissions on every deployment of the workspace.
    #[must_use]
    pub fn permissions(self) -> PermissionSet {
        match self {
            Self::WorkspaceAccessor => PermissionSet::empty(),
            Self::WorkspaceMember => listed(&MEMBER),
            Self::WorkspaceAuthor => listed(&MEMBER).union(listed(&AUTHOR)),
            // A Deployment Admin is a Workspace Operator on one deployment, without the permissions on its alerts.
            Self::WorkspaceOperator => Self::WorkspaceAuthor.permissions().union(deployment_admin()),
            Self::WorkspaceOwner => PermissionSet::all(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_name_of_a_list_is_in_the_catalogue() {
        assert_eq!(listed(&MEMBER).len(), MEMBER.len());
        assert_eq!(listed(&AUTHOR).len(), AUTHOR.len());
    }

    #[test]
    fn each_role_includes_those_before_it() {
        assert!(
            OrganizationRole::ALL.map(OrganizationRole::permissions).is_sorted_by(|a, b| a.is_subset(*b))
        );
        let workspace = WorkspaceRole::ALL.map(WorkspaceRole::permissions);
        assert!(workspace.is_sorted_by(|a, b| a.is_subset(*b) && a != b));
    }

    #[test]
    fn workspace_roles_allow_what_the_platform_says() {
        use WorkspaceRole::{
            WorkspaceAuthor as Author, WorkspaceMember as Member, WorkspaceOperator as Operator,
            WorkspaceOwner as Owner,
        };
        for (permission, least) in [
            ("deployment.airflow.dag.get", Member),
            ("deployment.airflow.taskLog.get", Member),
            ("deployment.airflow.dagRun.create", Author),
            ("deployment.deploys.create", Author),
            ("deployment.alerts.create", Author),
            ("deployment.airflow.connection.get", Author),
            ("deployment.airflow.connection.create", Operator),
            ("deployment.environmentVariables.create", Operator),
            ("deployment.delete", Operator),
            ("deployment.apiTokens.create", Owner),
            ("deployment.users.update", Owner),
        ] {
            for role in WorkspaceRole::ALL {
                let allowed = role.permissions().contains(permission.parse().unwrap());
                assert_eq!(allowed, role >= least, "{permission} {role:?}");
            }
        }
    }
}
