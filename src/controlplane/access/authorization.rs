//! Authorization: one table of the operations and the roles that allow them.

use std::collections::BTreeMap;

pub use super::roles::built_in::{OrganizationRole, WorkspaceRole};
pub use crate::api::operation::Operation;
use crate::controlplane::error::Error;
use crate::protocol::permission::{Permission, PermissionSet};

/// Minimum that an operation needs. One of three suffices: a role in the organization (none means any member), a role
/// in the workspace, or a permission on the deployment.
type Row = (Operation, Option<OrganizationRole>, Option<WorkspaceRole>, Option<&'static str>);

/// Minimum for each operation.
const TABLE: [Row; 36] = {
    use Operation as Op;
    use WorkspaceRole as Ws;
    const ANYONE: Option<OrganizationRole> = None;
    const MEMBER: Option<OrganizationRole> = Some(OrganizationRole::OrganizationMember);
    const OWNER: Option<OrganizationRole> = Some(OrganizationRole::OrganizationOwner);
    [
        (Op::SeeOrganization, ANYONE, None, None),
        (Op::ReadOrganization, MEMBER, None, None),
        (Op::ReadAuditLog, OWNER, None, None),
        (Op::Administer, OWNER, None, None),
        (Op::Enrol, OWNER, None, None),
        (Op::ManageRoles, OWNER, None, None),
        (Op::SeeWorkspace, OWNER, Some(Ws::WorkspaceAccessor), None),
        (Op::ManageWorkspaceRoles, OWNER, Some(Ws::WorkspaceOwner), None),
        (Op::ManageDeploymentUsers, OWNER, Some(Ws::WorkspaceOwner), Some("deployment.users.update")),
        (Op::ManageDeploymentTeams, OWNER, Some(Ws::WorkspaceOwner), Some("deployment.teams.update")),
        (Op::ReadDeployments, OWNER, Some(Ws::WorkspaceMember), Some("deployment.get")),
        (Op::CreateDeployments, OWNER, Some(Ws::WorkspaceOperator), None),
        (Op::UpdateDeployments, OWNER, Some(Ws::WorkspaceOperator), Some("deployment.update")),
        (Op::DeleteDeployments, OWNER, Some(Ws::WorkspaceOperator), Some("deployment.delete")),
        (
            Op::ReadEnvironmentVariables,
            OWNER,
            Some(Ws::WorkspaceAuthor),
            Some("deployment.environmentVariables.get"),
        ),
        (
            Op::CreateEnvironmentVariables,
            OWNER,
            Some(Ws::WorkspaceOperator),
            Some("deployment.environmentVariables.create"),
        ),
        (
            Op::UpdateEnvironmentVariables,
            OWNER,
            Some(Ws::WorkspaceOperator),
            Some("deployment.environmentVariables.update"),
        ),
        (
            Op::DeleteEnvironmentVariables,
            OWNER,
            Some(Ws::WorkspaceOperator),
            Some("deployment.environmentVariables.delete"),
        ),
        (Op::ReadDeploys, OWNER, Some(Ws::WorkspaceMember), Some("deployment.deploys.get")),
        (Op::CreateDeploys, OWNER, Some(Ws::WorkspaceAuthor), Some("deployment.deploys.create")),
        (Op::UpdateDeploys, OWNER, Some(Ws::WorkspaceAuthor), Some("deployment.deploys.update")),
        (Op::ReadLogs, OWNER, Some(Ws::WorkspaceMember), Some("deployment.logs.get")),
        (Op::ReadDagTags, OWNER, Some(Ws::WorkspaceMember), Some("deployment.airflow.dag.get")),
        (Op::PublishDagTags, OWNER, Some(Ws::WorkspaceAuthor), Some("deployment.deploys.create")),
        (Op::ReadOrganizationTokens, OWNER, None, None),
        (Op::ManageOrganizationTokens, OWNER, None, None),
        (Op::ReadWorkspaceTokens, OWNER, Some(Ws::WorkspaceMember), None),
        (Op::ManageWorkspaceTokens, OWNER, Some(Ws::WorkspaceOperator), None),
        (Op::ReadDeploymentTokens, OWNER, Some(Ws::WorkspaceMember), Some("deployment.apiTokens.get")),
        (Op::CreateDeploymentTokens, OWNER, Some(Ws::WorkspaceOwner), Some("deployment.apiTokens.create")),
        (Op::UpdateDeploymentTokens, OWNER, Some(Ws::WorkspaceOwner), Some("deployment.apiTokens.update")),
        (Op::RotateDeploymentTokens, OWNER, Some(Ws::WorkspaceOwner), Some("deployment.apiTokens.rotate")),
        (Op::DeleteDeploymentTokens, OWNER, Some(Ws::WorkspaceOwner), Some("deployment.apiTokens.delete")),
        (Op::AssignTokens, OWNER, Some(Ws::WorkspaceOwner), Some("deployment.apiTokens.update")),
        // The platform lets Deployment Admins do this. Of their permissions, this one identifies them best.
        (Op::AssignDagRoles, OWNER, Some(Ws::WorkspaceOwner), Some("deployment.update")),
        (Op::ManageDirectAccess, OWNER, None, None),
    ]
};

/// Object that an operation is about.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Id of the organization.
    pub organization: &'a str,
    /// Id of the workspace, if the object is in one.
    pub workspace: Option<&'a str>,
    /// Id of the deployment, if the object is in one.
    pub deployment: Option<&'a str>,
}

impl<'a> Scope<'a> {
    /// Returns the scope of a workspace.
    #[must_use]
    pub fn workspace(organization: &'a str, workspace: &'a str) -> Self {
        Self { organization, workspace: Some(workspace), deployment: None }
    }
}

impl<'a> From<&'a str> for Scope<'a> {
    fn from(organization: &'a str) -> Self {
        Self { organization, workspace: None, deployment: None }
    }
}

/// Authenticated caller: a user or an API token.
#[derive(Clone, Debug)]
pub struct Actor {
    /// User or token id.
    pub id: String,
    /// Id of the organization.
    pub organization: String,
    /// Role in the organization. A deployment's token has none.
    pub role: Option<OrganizationRole>,
    /// Roles in workspaces, by workspace id.
    pub workspaces: BTreeMap<String, WorkspaceRole>,
    /// Permissions on deployments that come from roles on these deployments, by deployment id.
    pub deployments: BTreeMap<String, PermissionSet>,
}

impl Actor {
    /// Checks that the caller's roles allow `operation` on `scope`. The error for another organization is the same as
    /// for an id that does not exist.
    pub fn may<'s>(&self, operation: Operation, scope: impl Into<Scope<'s>>) -> Result<(), Error> {
        let scope = scope.into();
        if self.organization != scope.organization {
            return Err(Error::NotFound("organization"));
        }
        let here = scope.workspace.and_then(|workspace| self.workspaces.get(workspace));
        let on = scope.deployment.and_then(|deployment| self.deployments.get(deployment));
        let holds = |name: &str| {
            name.parse::<Permission>().is_ok_and(|permission| on.is_some_and(|set| set.contains(permission)))
        };
        let allowed = TABLE.iter().any(|&(row, organization, workspace, deployment)| {
            row == operation
                && (self.role >= organization
                    || workspace.is_some_and(|least| here >= Some(&least))
                    || deployment.is_some_and(holds))
        });
        if allowed {
            return Ok(());
        }
        if operation == Operation::ManageDirectAccess {
            return Err(Error::Forbidden {
                code: "owner_required",
                detail: "only an Organization Owner may create or manage a direct-access token".into(),
            });
        }
        let detail = match (here, on, self.role) {
            (Some(role), ..) => format!("your role here, {}, does not allow this", role.as_str()),
            (None, Some(_), _) => "your role on this deployment does not allow this".into(),
            (None, None, Some(role)) => format!("your role here, {}, does not allow this", role.as_str()),
            (None, None, None) => "you have no role here".into(),
        };
        Err(Error::Forbidden { code: "role_insufficient", detail })
    }

    /// Returns the operations that the caller may do on `scope`, in the order of the table.
    #[must_use]
    pub fn operations(&self, scope: Scope<'_>) -> Vec<Operation> {
        TABLE.iter().map(|&(operation, ..)| operation).filter(|&one| self.may(one, scope).is_ok()).collect()
    }

    /// Returns the caller's permissions on the deployment of `scope`, from all roles together.
    #[must_use]
    pub fn permissions_on(&self, scope: Scope<'_>) -> PermissionSet {
        if self.organization != scope.organization {
            return PermissionSet::empty();
        }
        let here = scope.workspace.and_then(|workspace| self.workspaces.get(workspace));
        let on = scope.deployment.and_then(|deployment| self.deployments.get(deployment));
        [self.role.map(OrganizationRole::permissions), here.map(|role| role.permissions()), on.copied()]
            .into_iter()
            .flatten()
            .fold(PermissionSet::empty(), PermissionSet::union)
    }

    /// Returns the caller's role in a workspace. An Organization Owner is Workspace Owner in each workspace.
    #[must_use]
    pub fn workspace_role(&self, workspace: &str) -> Option<WorkspaceRole> {
        let owner =
            (self.role == Some(OrganizationRole::OrganizationOwner)).then_some(WorkspaceRole::WorkspaceOwner);
        owner.or_else(|| self.workspaces.get(workspace).copied())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    /// Expected table, in the terms of its users. The columns `om` to `oo` are the organization roles, `wa` to `wo` the
    /// workspace roles; the first marked column is the lowest role that may. The last column is the deployment
    /// permission that suffices instead.
    const EXPECTED: &str = "
        operation                 -  om ob oo  wa wm wt wp wo  permission
        SeeOrganization           x  x  x  x   x  x  x  x  x   -
        ReadOrganization          .  x  x  x   .  .  .  .  .   -
        ReadAuditLog              .  .  .  x   .  .  .  .  .   -
        Administer                .  .  .  x   .  .  .  .  .   -
        Enrol                     .  .  .  x   .  .  .  .  .   -
        ManageRoles               .  .  .  x   .  .  .  .  .   -
        SeeWorkspace              .  .  .  x   x  x  x  x  x   -
        ManageWorkspaceRoles      .  .  .  x   .  .  .  .  x   -
        ManageDeploymentUsers     .  .  .  x   .  .  .  .  x   deployment.users.update
        ManageDeploymentTeams     .  .  .  x   .  .  .  .  x   deployment.teams.update
        ReadDeployments           .  .  .  x   .  x  x  x  x   deployment.get
        CreateDeployments         .  .  .  x   .  .  .  x  x   -
        UpdateDeployments         .  .  .  x   .  .  .  x  x   deployment.update
        DeleteDeployments         .  .  .  x   .  .  .  x  x   deployment.delete
        ReadEnvironmentVariables  .  .  .  x   .  .  x  x  x   deployment.environmentVariables.get
        CreateEnvironmentVariables .  .  .  x   .  .  .  x  x   deployment.environmentVariables.create
        UpdateEnvironmentVariables .  .  .  x   .  .  .  x  x   deployment.environmentVariables.update
        DeleteEnvironmentVariables .  .  .  x   .  .  .  x  x   deployment.environmentVariables.delete
        ReadDeploys               .  .  .  x   .  x  x  x  x   deployment.deploys.get
        CreateDeploys             .  .  .  x   .  .  x  x  x   deployment.deploys.create
        UpdateDeploys             .  .  .  x   .  .  x  x  x   deployment.deploys.update
        ReadLogs                  .  .  .  x   .  x  x  x  x   deployment.logs.get
        ReadDagTags               .  .  .  x   .  x  x  x  x   deployment.airflow.dag.get
        PublishDagTags            .  .  .  x   .  .  x  x  x   deployment.deploys.create
        ReadOrganizationTokens    .  .  .  x   .  .  .  .  .   -
        ManageOrganizationTokens  .  .  .  x   .  .  .  .  .   -
        ReadWorkspaceTokens       .  .  .  x   .  x  x  x  x   -
        ManageWorkspaceTokens     .  .  .  x   .  .  .  x  x   -
        ReadDeploymentTokens      .  .  .  x   .  x  x  x  x   deployment.apiTokens.get
        CreateDeploymentTokens    .  .  .  x   .  .  .  .  x   deployment.apiTokens.create
        UpdateDeploymentTokens    .  .  .  x   .  .  .  .  x   deployment.apiTokens.update
        RotateDeploymentTokens    .  .  .  x   .  .  .  .  x   deployment.apiTokens.rotate
        DeleteDeploymentTokens    .  .  .  x   .  .  .  .  x   deployment.apiTokens.delete
        AssignTokens              .  .  .  x   .  .  .  .  x   deployment.apiTokens.update
        AssignDagRoles            .  .  .  x   .  .  .  .  x   deployment.update
        ManageDirectAccess        .  .  .  x   .  .  .  .  .   -
    ";

    fn actor(
        role: Option<OrganizationRole>,
        workspace: Option<WorkspaceRole>,
        deployment: Option<Permission>,
    ) -> Actor {
        Actor {
            id: "usr_a".into(),
            organization: "org_a".into(),
            role,
            workspaces: workspace.map(|role| ("wsp_a".to_owned(), role)).into_iter().collect(),
            deployments: [("dep_a".to_owned(), deployment.into_iter().collect())].into(),
        }
    }

    fn scope<'a>(organization: &'a str, workspace: &'a str, deployment: &'a str) -> Scope<'a> {
        Scope { organization, workspace: Some(workspace), deployment: Some(deployment) }
    }

    const HERE: (&str, &str, &str) = ("org_a", "wsp_a", "dep_a");

    fn allowed(
        actor: &Actor,
        operation: Operation,
        (organization, workspace, deployment): (&str, &str, &str),
    ) -> bool {
        actor.may(operation, scope(organization, workspace, deployment)).is_ok()
    }

    #[test]
    fn the_whole_table_holds() {
        let rows: Vec<Vec<&str>> = EXPECTED
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|row| !row.is_empty())
            .skip(1)
            .collect();
        assert_eq!(rows.len(), TABLE.len());
        for (row, (operation, ..)) in rows.iter().zip(TABLE) {
            let [name, marks @ .., permission] = row.as_slice() else { panic!("{row:?}") };
            assert_eq!(*name, format!("{operation:?}"));
            let organization =
                [None].into_iter().chain(OrganizationRole::ALL.map(Some)).map(|role| (role, None));
            let workspace = WorkspaceRole::ALL.map(|role| (None, Some(role)));
            let columns = organization.chain(workspace);
            for ((organization, workspace), mark) in columns.zip(marks) {
                let actor = actor(organization, workspace, None);
                assert_eq!(
                    allowed(&actor, operation, HERE),
                    *mark == "x",
                    "{name} {organization:?} {workspace:?}"
                );
            }
            for held in Permission::all() {
                let actor = actor(None, None, Some(held));
                let expected = held.as_str() == *permission || marks[0] == "x";
                assert_eq!(allowed(&actor, operation, HERE), expected, "{name} {held}");
            }
        }
    }

    #[test]
    fn a_role_says_nothing_about_another_place() {
        for (operation, least, ..) in TABLE {
            let all = PermissionSet::all();
            let mut actor =
                actor(Some(OrganizationRole::OrganizationOwner), Some(WorkspaceRole::WorkspaceOwner), None);
            actor.deployments.insert("dep_a".into(), all);
            assert!(!allowed(&actor, operation, ("org_b", "wsp_a", "dep_a")), "{operation:?}");
            assert!(actor.permissions_on(scope("org_b", "wsp_a", "dep_a")).is_empty());
            actor.role = None;
            assert_eq!(
                allowed(&actor, operation, ("org_a", "wsp_b", "dep_b")),
                least.is_none(),
                "{operation:?}"
            );
            assert!(actor.permissions_on(scope("org_a", "wsp_b", "dep_b")).is_empty());
        }
    }

    #[test]
    fn the_higher_of_two_roles_wins() {
        for organization in OrganizationRole::ALL {
            for workspace in WorkspaceRole::ALL {
                let both = actor(Some(organization), Some(workspace), None);
                for (operation, ..) in TABLE {
                    let either = allowed(&actor(Some(organization), None, None), operation, HERE)
                        || allowed(&actor(None, Some(workspace), None), operation, HERE);
                    assert_eq!(allowed(&both, operation, HERE), either, "{operation:?}");
                }
            }
        }
    }

    #[test]
    fn only_an_organization_owner_may_create_a_direct_access_token() {
        for role in OrganizationRole::ALL {
            let mut actor = actor(Some(role), Some(WorkspaceRole::WorkspaceOwner), None);
            actor.deployments.insert("dep_a".into(), PermissionSet::all());
            let refused = actor.may(Operation::ManageDirectAccess, scope("org_a", "wsp_a", "dep_a"));
            assert_eq!(refused.is_ok(), role == OrganizationRole::OrganizationOwner);
            if let Err(error) = refused {
                assert_eq!(error.code(), "owner_required");
            }
        }
    }
}
