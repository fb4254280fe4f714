//! Operations of the control plane, each of which needs a role or a permission.

use serde::{Deserialize, Serialize};

/// Operation of the control plane that needs a role or a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Operation {
    /// Read the id and name of the caller's own organization.
    SeeOrganization,
    /// Read the organization's roles, data planes and nodes.
    ReadOrganization,
    /// Read the audit log of the organization.
    ReadAuditLog,
    /// Create or change workspaces, data planes, users and teams.
    Administer,
    /// Create enrolment tokens and nodes, and retire nodes.
    Enrol,
    /// Create, change and delete custom roles.
    ManageRoles,
    /// Read the id and name of a workspace.
    SeeWorkspace,
    /// Set the roles of users and teams in a workspace.
    ManageWorkspaceRoles,
    /// Set the roles of users on a deployment.
    ManageDeploymentUsers,
    /// Set the roles of teams on a deployment.
    ManageDeploymentTeams,
    /// List and show deployments.
    ReadDeployments,
    /// Create deployments in a workspace.
    CreateDeployments,
    /// Change a deployment.
    UpdateDeployments,
    /// Delete a deployment.
    DeleteDeployments,
    /// See the names of a deployment's environment variables, and the values that are not secret.
    ReadEnvironmentVariables,
    /// Add environment variables to a deployment.
    CreateEnvironmentVariables,
    /// Change environment variables of a deployment.
    UpdateEnvironmentVariables,
    /// Delete environment variables of a deployment.
    DeleteEnvironmentVariables,
    /// List and show the deploys of a deployment.
    ReadDeploys,
    /// Deploy code to a deployment, and roll it back.
    CreateDeploys,
    /// Change the description of a deploy.
    UpdateDeploys,
    /// Read the requests to a deployment that hosts report.
    ReadLogs,
    /// Read the Dag tags of a deployment.
    ReadDagTags,
    /// Publish the Dag tags of a deployment. A caller who can push Dags controls their tags in any case.
    PublishDagTags,
    /// List and show the organization's own tokens.
    ReadOrganizationTokens,
    /// Create, update, rotate and delete the organization's own tokens.
    ManageOrganizationTokens,
    /// List and show a workspace's tokens.
    ReadWorkspaceTokens,
    /// Create, update, rotate and delete a workspace's tokens.
    ManageWorkspaceTokens,
    /// List and show a deployment's tokens, and those assigned to it.
    ReadDeploymentTokens,
    /// Create a standard token of a deployment.
    CreateDeploymentTokens,
    /// Update a standard token of a deployment, and change its deployment role.
    UpdateDeploymentTokens,
    /// Rotate a standard token of a deployment.
    RotateDeploymentTokens,
    /// Delete a standard token of a deployment.
    DeleteDeploymentTokens,
    /// Assign a token of the organization or a workspace to a deployment, and remove the assignment.
    AssignTokens,
    /// Give a standard token, a user or a team roles on Dags of a deployment.
    AssignDagRoles,
    /// Create, update, rotate and delete direct-access tokens.
    ManageDirectAccess,
}
