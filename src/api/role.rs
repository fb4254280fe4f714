//! Roles in organizations and workspaces, and the roles of a token, user or team taken together.

use serde::{Deserialize, Serialize};

use super::id::RoleId;
use super::instant::Instant;
#[cfg(feature = "control")]
use super::page::NamedSort;
use super::page::{Extent, NamedField, Sort};
use super::subject::Subject;
use crate::protocol::permission::{Permission, PermissionSet};
use crate::protocol::role::{RoleDigest, RoleScope};

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

/// Properties of a new custom role.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRole {
    /// Name of 1 to 64 letters, digits, `_` or `-`, with single spaces between words. Headers, logs and configuration files
    /// of hosts carry it with `_` in place of each space.
    pub name: String,
    /// Description of its purpose.
    #[serde(default)]
    pub description: String,
    /// Permissions of the role.
    pub permissions: PermissionSet,
    /// Kind of object that it is held on: a deployment or Dags.
    pub scope_type: RoleScope,
    /// Workspaces in which it can be held; empty for all.
    #[serde(default)]
    pub restricted_workspace_ids: Vec<String>,
}

/// Changes to a custom role. Absent members keep their values. A new name or other permissions make a new version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleUpdate {
    /// New name of the role.
    pub name: Option<String>,
    /// New description of the role.
    pub description: Option<String>,
    /// New permissions, in place of all earlier ones.
    pub permissions: Option<PermissionSet>,
    /// New list of workspaces in which it can be held.
    pub restricted_workspace_ids: Option<Vec<String>>,
}

/// Newest version of a role.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Id of the role. A built-in role's is its name.
    pub id: RoleId,
    /// Name of the role.
    pub name: String,
    /// Description of its purpose.
    pub description: String,
    /// Kind of object that it is held on.
    pub scope_type: RoleScope,
    /// Permissions of the role.
    pub permissions: PermissionSet,
    /// Workspaces in which it can be held; empty for all.
    pub restricted_workspace_ids: Vec<String>,
    /// Number of the newest version.
    pub version: u32,
    /// Digest of the newest version.
    pub digest: RoleDigest,
    /// True for a built-in role, which cannot be changed.
    pub built_in: bool,
    /// Time of creation. A built-in role has none, nor the next three members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Instant>,
    /// User or token that created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<Subject>,
    /// Time of the last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Instant>,
    /// User or token that changed it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_by: Option<Subject>,
}

/// Page of roles.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RolePage {
    /// Custom roles of the page, by name.
    pub roles: Vec<Role>,
    /// Built-in roles, from the organization's to the Dags'; only if the query asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_roles: Option<Vec<Role>>,
    /// Extent of the page of custom roles.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Conditions that a role must meet. An absent condition matches every role.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct RoleFilter {
    /// Kinds of objects, on one of which it is held.
    #[serde(default)]
    pub scope_types: Vec<RoleScope>,
    /// If true, the answer has the built-in roles as well.
    #[serde(default)]
    pub include_default_roles: bool,
    /// Order of the custom roles, the first key first: `FIELD:asc` or `FIELD:desc` with one of `createdAt`, `name`,
    /// `updatedAt`.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(inline, value_type = Vec<NamedSort>))]
    pub sorts: Vec<Sort<NamedField>>,
}

/// Version of a role.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoleHistory {
    /// Number of the version, from 1.
    pub version: u32,
    /// Name of the role in this version.
    pub name: String,
    /// Permissions in this version.
    pub permissions: PermissionSet,
    /// Digest of its bytes.
    pub digest: RoleDigest,
    /// Time of creation; none for a built-in role.
    pub created_at: Option<Instant>,
    /// User or token that created it; none for a built-in role.
    pub created_by: Option<Subject>,
}

/// Template of a custom role.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoleTemplate {
    /// Name of the template.
    pub name: String,
    /// Description of the people that it is for.
    pub description: String,
    /// Kind of object that the role is held on.
    pub scope_type: RoleScope,
    /// Permissions of the role.
    pub permissions: PermissionSet,
}

/// Permissions on one kind of object.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PermissionGroup {
    /// Kind of object, such as `deployment.airflow.connection`.
    pub name: String,
    /// Description of the object.
    pub description: String,
    /// Kind of object that the query asks about, or `DEPLOYMENT`.
    pub scope: RoleScope,
    /// Objects that roles with these permissions can be held on.
    pub scope_types: Vec<RoleScope>,
    /// Permissions on the object.
    pub permissions: Vec<PermissionEntry>,
}

/// Permission with its description.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PermissionEntry {
    /// Name, as used in roles.
    pub name: Permission,
    /// Action that it allows.
    pub action: String,
    /// Description for people.
    pub description: String,
}

/// Conditions that a group of permissions must meet.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct GroupFilter {
    /// Kind of object that roles are held on.
    pub scope_type: Option<RoleScope>,
}
