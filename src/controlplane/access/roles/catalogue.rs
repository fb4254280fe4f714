//! Catalogue of permissions in groups, and role templates.

use super::built_in::WorkspaceRole;
use crate::api::role::{PermissionEntry, PermissionGroup, RoleTemplate};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::error::Error;
use crate::protocol::permission::{
    Permission, PermissionSet, dag_author, dag_viewer, deployment_admin, held_on_dags, retired,
};
use crate::protocol::role::RoleScope;

/// Returns a description of an object of the catalogue.
fn noun(object: &str) -> &'static str {
    match object {
        "deployment" => "the deployment itself",
        "deployment.agentTokens" => "tokens of remote agents",
        "deployment.agents" => "remote agents",
        "deployment.airflow.adminMenu" => "Airflow's Admin menu",
        "deployment.airflow.astronomer" => "the platform's menu in Airflow",
        "deployment.airflow.auditLog" => "Airflow's audit log",
        "deployment.airflow.backfill" => "backfills",
        "deployment.airflow.browseMenu" => "Airflow's Browse menu",
        "deployment.airflow.clusterActivity" => "Airflow's cluster activity",
        "deployment.airflow.configMenu" => "Airflow's configuration",
        "deployment.airflow.connection" => "Airflow connections",
        "deployment.airflow.customMenu" => "menus that plugins add to Airflow",
        "deployment.airflow.dag" => "Dags",
        "deployment.airflow.dagCode" => "the code of Dags",
        "deployment.airflow.dagDependencies" => "dependencies between Dags",
        "deployment.airflow.dagRun" => "Dag runs",
        "deployment.airflow.datasets" => "assets (datasets)",
        "deployment.airflow.docs" => "Airflow's Docs menu",
        "deployment.airflow.importError" => "import errors of Dags",
        "deployment.airflow.job" => "Airflow jobs",
        "deployment.airflow.plugin" => "plugins",
        "deployment.airflow.pool" => "pools",
        "deployment.airflow.provider" => "providers",
        "deployment.airflow.slaMiss" => "SLA misses",
        "deployment.airflow.taskInstance" => "task instances",
        "deployment.airflow.taskLog" => "task logs",
        "deployment.airflow.taskReschedule" => "task reschedules",
        "deployment.airflow.trigger" => "triggers",
        "deployment.airflow.variable" => "Airflow variables",
        "deployment.airflow.website" => "Airflow's web site",
        "deployment.airflow.xcom" => "XComs",
        "deployment.alerts" => "alerts",
        "deployment.apiKeys" => "API keys (deprecated)",
        "deployment.apiTokens" => "API tokens of the deployment",
        "deployment.deploys" => "deploys of code and images",
        "deployment.envObjects" => "environment objects",
        "deployment.environmentVariables" => "environment variables",
        "deployment.logs" => "logs of the deployment",
        "deployment.metrics" => "metrics of the deployment",
        "deployment.teams" => "teams' access to the deployment",
        "deployment.users" => "users' access to the deployment",
        _ => "",
    }
}

fn verb(action: &str) -> &'static str {
    match action {
        "get" => "See",
        "create" => "Create",
        "update" => "Change",
        "delete" => "Delete",
        "rotate" => "Rotate",
        _ => "",
    }
}

fn groups(scope: Option<RoleScope>) -> Vec<PermissionGroup> {
    let mut groups: Vec<PermissionGroup> = Vec::new();
    let on_dags = held_on_dags();
    for permission in PermissionSet::all().difference(retired()).iter() {
        if scope == Some(RoleScope::Dag) && !on_dags.contains(permission) {
            continue;
        }
        let Some((object, action)) = permission.as_str().rsplit_once('.') else { continue };
        let entry = PermissionEntry {
            name: permission,
            action: action.into(),
            description: format!("{} {}", verb(action), noun(object)),
        };
        let dag = on_dags.contains(permission).then_some(RoleScope::Dag);
        match groups.iter_mut().find(|group| group.name == object) {
            Some(group) => group.permissions.push(entry),
            None => groups.push(PermissionGroup {
                name: object.into(),
                description: noun(object).into(),
                scope: scope.unwrap_or(RoleScope::Deployment),
                scope_types: [RoleScope::Deployment].into_iter().chain(dag).collect(),
                permissions: vec![entry],
            }),
        }
    }
    groups
}

fn named(names: &[&str]) -> PermissionSet {
    Permission::all().filter(|permission| names.contains(&permission.as_str())).collect()
}

fn templates() -> Vec<RoleTemplate> {
    let template = |name: &str, scope_type, permissions, description: &str| RoleTemplate {
        name: name.into(),
        description: description.into(),
        scope_type,
        permissions,
    };
    let (deployment, dag) = (RoleScope::Deployment, RoleScope::Dag);
    let runs = named(&[
        "deployment.airflow.dag.update",
        "deployment.airflow.dagRun.create",
        "deployment.airflow.dagRun.update",
        "deployment.airflow.taskInstance.update",
    ]);
    vec![
        template(
            "DEPLOYMENT_VIEWER",
            deployment,
            WorkspaceRole::WorkspaceMember.permissions(),
            "Who only looks.",
        ),
        template(
            "DEPLOYMENT_AUTHOR",
            deployment,
            WorkspaceRole::WorkspaceAuthor.permissions(),
            "Who writes and runs Dags.",
        ),
        template(
            "DEPLOYMENT_ADMIN",
            deployment,
            deployment_admin().difference(retired()),
            "Who runs the deployment.",
        ),
        template("DAG_VIEWER", dag, dag_viewer(), "Who only looks."),
        template(
            "DAG_RUNNER",
            dag,
            dag_viewer().union(runs),
            "Who triggers, pauses and clears, and changes nothing else.",
        ),
        template("DAG_AUTHOR", dag, dag_author(), "Who writes the Dag."),
    ]
}

impl ControlPlane {
    /// Lists the grantable permissions, grouped by object; with `scope`, only those grantable in that scope.
    #[must_use]
    pub fn permission_groups(&self, scope: Option<RoleScope>) -> Vec<PermissionGroup> {
        groups(scope)
    }

    /// Lists role templates.
    pub fn role_templates(&self, actor: &Actor, organization: &str) -> Result<Vec<RoleTemplate>, Error> {
        actor.may(Operation::ReadOrganization, organization)?;
        Ok(templates())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_stands_in_one_group_and_is_described() {
        let all: Vec<_> = groups(None).into_iter().flat_map(|group| group.permissions).collect();
        assert_eq!(all.len(), PermissionSet::all().difference(retired()).len());
        for group in groups(None) {
            assert!(!group.description.is_empty(), "{}", group.name);
            for entry in group.permissions {
                assert!(!verb(&entry.action).is_empty(), "{}", entry.name);
            }
        }
    }

    #[test]
    fn every_template_can_be_made_a_role() {
        for template in templates() {
            let allowed =
                if template.scope_type == RoleScope::Dag { held_on_dags() } else { PermissionSet::all() };
            assert!(
                !template.permissions.is_empty() && template.permissions.is_subset(allowed),
                "{}",
                template.name
            );
        }
    }
}
