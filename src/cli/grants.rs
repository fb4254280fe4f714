//! Arguments for the roles of users and teams.

use clap::Args;

use crate::api::role::{OrganizationRole, RoleOnDags, RoleOnDeployment, WorkspaceRole};
use crate::api::user::WorkspaceGrant;

/// Roles of a user or team on deployments and their Dags.
#[derive(Args, Debug)]
pub(super) struct OnDeployments {
    /// All roles on deployments from now on, as ID=ROLE; can be repeated.
    #[arg(long = "deployment-role", value_name = "ID=ROLE", value_parser = on_deployment)]
    deployments: Vec<RoleOnDeployment>,
    /// A role on one Dag, as DEPLOYMENT/DAG=ROLE; can be repeated. Replaces all roles on Dags, with --dag-tag-role.
    #[arg(long = "dag-role", value_name = "DEPLOYMENT/DAG=ROLE", value_parser = on_dag)]
    dags: Vec<RoleOnDags>,
    /// A role on each Dag with a tag, as DEPLOYMENT/TAG=ROLE; can be repeated. Replaces all roles on Dags, with --dag-role.
    #[arg(long = "dag-tag-role", value_name = "DEPLOYMENT/TAG=ROLE", value_parser = on_dag_tag)]
    tags: Vec<RoleOnDags>,
}

impl OnDeployments {
    /// Returns the roles on deployments and those on Dags, each kind only if some are named.
    pub(super) fn split(self) -> (Option<Vec<RoleOnDeployment>>, Option<Vec<RoleOnDags>>) {
        let dags: Vec<_> = self.dags.into_iter().chain(self.tags).collect();
        let some = (!self.deployments.is_empty()).then_some(self.deployments);
        (some, (!dags.is_empty()).then_some(dags))
    }
}

fn on_deployment(text: &str) -> Result<RoleOnDeployment, String> {
    let (deployment, role) = text.split_once('=').ok_or("use ID=ROLE")?;
    Ok(RoleOnDeployment { deployment_id: deployment.to_owned(), role: role.to_owned() })
}

fn on_dag(text: &str) -> Result<RoleOnDags, String> {
    let (deployment_id, dag, role) = on_dags(text)?;
    Ok(RoleOnDags { deployment_id, dag_id: Some(dag), dag_tag: None, role })
}

fn on_dag_tag(text: &str) -> Result<RoleOnDags, String> {
    let (deployment_id, tag, role) = on_dags(text)?;
    Ok(RoleOnDags { deployment_id, dag_id: None, dag_tag: Some(tag), role })
}

/// Splits a deployment's id, a Dag's id or tag, and a role. An id of a deployment has no slash, a role no equals sign.
fn on_dags(text: &str) -> Result<(String, String, String), String> {
    let split = || {
        let (place, role) = text.rsplit_once('=')?;
        let (deployment, dag) = place.split_once('/')?;
        Some((deployment.to_owned(), dag.to_owned(), role.to_owned()))
    };
    split().ok_or_else(|| "put the deployment before a slash, and the role behind an equals sign".to_owned())
}

/// Parses a role in a workspace, as `ID=ROLE`.
pub(super) fn grant(text: &str) -> Result<WorkspaceGrant, String> {
    let (workspace, name) = text.split_once('=').ok_or("use ID=ROLE")?;
    let role = WorkspaceRole::parse(name).ok_or_else(|| {
        let roles = WorkspaceRole::ALL.map(WorkspaceRole::as_str);
        format!("{name:?} is no role in a workspace; use one of {}", roles.join(", "))
    })?;
    Ok(WorkspaceGrant { workspace_id: workspace.to_owned(), role })
}

/// Parses the name of a role in the organization.
pub(super) fn organization_role(name: &str) -> Result<OrganizationRole, String> {
    OrganizationRole::parse(name).ok_or_else(|| {
        let roles = OrganizationRole::ALL.map(OrganizationRole::as_str);
        format!("this is no role in an organization; use one of {}", roles.join(", "))
    })
}
