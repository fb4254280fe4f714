//! Roles in organizations and workspaces, and the roles of a token, user or team taken together.

use serde::{Deserialize, Serialize};

/// Role in an organization. Each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrganizationRole {
    /// Reads the objects of the organization as a whole.
    OrganizationMember,
    /// Reads, and manages billing.
    OrganizationBillingAdmin,
    /// Has every permission, and is Workspace Owner in each workspace.
    OrganizationOwner,
}

impl OrganizationRole {
    /// All roles, the lowest first.
    pub const ALL: [Self; 3] =
        [Self::OrganizationMember, Self::OrganizationBillingAdmin, Self::OrganizationOwner];

    /// Returns the name of the role, such as `ORGANIZATION_OWNER`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrganizationMember => "ORGANIZATION_MEMBER",
            Self::OrganizationBillingAdmin => "ORGANIZATION_BILLING_ADMIN",
            Self::OrganizationOwner => "ORGANIZATION_OWNER",
        }
    }

    /// Parses the name of a role.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// Role in a workspace. Each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkspaceRole {
    /// Sees that the workspace exists.
    WorkspaceAccessor,
    /// Reads the objects of the workspace.
    WorkspaceMember,
    /// Runs Dags as well.
    WorkspaceAuthor,
    /// Creates and changes deployments and the workspace's tokens as well.
    WorkspaceOperator,
    /// Manages deployments' tokens and the roles in the workspace as well.
    WorkspaceOwner,
}

impl WorkspaceRole {
    /// All roles, the lowest first.
    pub const ALL: [Self; 5] = [
        Self::WorkspaceAccessor,
        Self::WorkspaceMember,
        Self::WorkspaceAuthor,
        Self::WorkspaceOperator,
        Self::WorkspaceOwner,
    ];

    /// Returns the name of the role, such as `WORKSPACE_OWNER`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkspaceAccessor => "WORKSPACE_ACCESSOR",
            Self::WorkspaceMember => "WORKSPACE_MEMBER",
            Self::WorkspaceAuthor => "WORKSPACE_AUTHOR",
            Self::WorkspaceOperator => "WORKSPACE_OPERATOR",
            Self::WorkspaceOwner => "WORKSPACE_OWNER",
        }
    }

    /// Parses the name of a role.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// Roles of a token, user or team, by the kind of object that they are on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubjectRoles {
    /// Role in the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_role: Option<String>,
    /// Roles in workspaces.
    #[serde(default)]
    pub workspace_roles: Vec<RoleInWorkspace>,
    /// Roles on deployments.
    #[serde(default)]
    pub deployment_roles: Vec<RoleOnDeployment>,
    /// Roles on Dags.
    #[serde(default)]
    pub dag_roles: Vec<RoleOnDags>,
}

/// Role in a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoleInWorkspace {
    /// Id of the workspace.
    pub workspace_id: String,
    /// Name of the role.
    pub role: String,
}

/// Role on a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoleOnDeployment {
    /// Id of the deployment.
    pub deployment_id: String,
    /// Name of the role.
    pub role: String,
}

/// Role on one Dag, or on all Dags with a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoleOnDags {
    /// Id of the deployment.
    pub deployment_id: String,
    /// Id of the Dag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag_id: Option<String>,
    /// Tag of the Dags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag_tag: Option<String>,
    /// Name of the role.
    pub role: String,
}
