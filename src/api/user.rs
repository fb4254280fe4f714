//! Users and their roles.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::id::UserId;
use super::instant::Instant;
#[cfg(feature = "control")]
use super::name::Name;
use super::page::{Extent, Sort, SortField};
use super::role::{OrganizationRole, RoleOnDags, RoleOnDeployment, WorkspaceRole};

/// Role in a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkspaceGrant {
    /// Id of the workspace.
    pub workspace_id: String,
    /// Role in the workspace.
    pub role: WorkspaceRole,
}

/// Properties of a new user.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewUser {
    /// Email address, which identifies the user to people.
    #[cfg_attr(feature = "control", schema(value_type = Name))]
    pub email: String,
    /// Role in the organization.
    pub organization_role: OrganizationRole,
    /// Roles in workspaces.
    #[serde(default)]
    pub workspace_roles: Vec<WorkspaceGrant>,
}

/// Changes to the roles of a user or team. Absent members keep their values.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserRoles {
    /// New role in the organization.
    pub organization_role: Option<OrganizationRole>,
    /// New roles in workspaces, in place of all earlier ones.
    pub workspace_roles: Option<Vec<WorkspaceGrant>>,
    /// New roles on deployments, in place of all earlier ones.
    pub deployment_roles: Option<Vec<RoleOnDeployment>>,
    /// New roles on Dags, in place of all earlier ones. Each has either a `dagId` or a `dagTag`.
    pub dag_roles: Option<Vec<RoleOnDags>>,
}

/// User of the control plane. The members about roles are those of the roles by kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Id of the user.
    pub id: UserId,
    /// Email address, which identifies the user to people.
    pub email: String,
    /// The same as `email`.
    pub username: String,
    /// The same as `email`, since no other name is known.
    pub full_name: String,
    /// Picture of the user; empty, since there are none.
    pub avatar_url: String,
    /// Always `ACTIVE`.
    pub status: String,
    /// Role in the organization.
    pub organization_role: OrganizationRole,
    /// Roles in workspaces.
    pub workspace_roles: Vec<WorkspaceGrant>,
    /// Roles on deployments.
    pub deployment_roles: Vec<RoleOnDeployment>,
    /// Roles on Dags.
    pub dag_roles: Vec<RoleOnDags>,
    /// Time of creation.
    pub created_at: Instant,
    /// Time of the last change of roles or token.
    pub updated_at: Instant,
    /// Expiry of the token that the user calls with, or none if an earlier version rotated it and its expiry is unknown.
    pub token_ends_at: Option<Instant>,
}

/// User with the token, which is shown only once.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct UserToken {
    /// Properties of the user.
    #[serde(flatten)]
    pub user: User,
    /// Value of the token.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub token: Zeroizing<String>,
}

/// Page of users.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct UserPage {
    /// Users of the page.
    pub users: Vec<User>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Conditions that a user must meet. An absent condition matches every user.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct UserFilter {
    /// Id of a workspace in which the user has a role of their own.
    pub workspace_id: Option<String>,
    /// Id of a deployment on which, or on whose Dags, the user has a role of their own.
    pub deployment_id: Option<String>,
    /// Id of a Dag on which the user has a role of their own, of the deployment if `deploymentId` is given.
    pub dag_id: Option<String>,
    /// Tags of Dags, on one of which the user has a role of their own, of the deployment if `deploymentId` is given.
    #[serde(default)]
    pub dag_tags: Vec<String>,
    /// Order of the list, the first key first: `FIELD:asc` or `FIELD:desc` with one of `createdAt`, `fullName`, `updatedAt`,
    /// `username`.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(inline, value_type = Vec<UserSort>))]
    pub sorts: Vec<Sort<UserField>>,
}

/// Field that a list of users can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserField {
    /// Time of creation.
    CreatedAt,
    /// Email address.
    Username,
    /// Time of the last change.
    UpdatedAt,
}

impl SortField for UserField {
    const FIELDS: &[(&'static str, Self)] = &[
        ("createdAt", Self::CreatedAt),
        ("fullName", Self::Username),
        ("updatedAt", Self::UpdatedAt),
        ("username", Self::Username),
    ];
}

/// Schema of a key of the order of a list of users.
#[cfg(feature = "control")]
pub struct UserSort;

#[cfg(feature = "control")]
impl utoipa::PartialSchema for UserSort {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        super::page::sort_schema::<UserField>()
    }
}

#[cfg(feature = "control")]
impl utoipa::ToSchema for UserSort {}
