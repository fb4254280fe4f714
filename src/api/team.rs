//! Teams: groups of users with common roles.

use serde::{Deserialize, Serialize};

use super::id::{OrganizationId, TeamId, UserId};
use super::instant::Instant;
#[cfg(feature = "control")]
use super::name::Name;
#[cfg(feature = "control")]
use super::page::NamedSort;
use super::page::{Extent, NamedField, Sort};
use super::role::{OrganizationRole, RoleOnDags, RoleOnDeployment};
use super::subject::Subject;
use super::user::WorkspaceGrant;

/// Properties of a new team.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewTeam {
    /// Name of the team.
    #[cfg_attr(feature = "control", schema(value_type = Name))]
    pub name: String,
    /// Description of its members.
    #[serde(default)]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub description: String,
    /// Ids of the users who are its members.
    #[serde(default)]
    pub member_ids: Vec<String>,
    /// Role in the organization.
    #[serde(default = "member")]
    pub organization_role: OrganizationRole,
    /// Roles in workspaces.
    #[serde(default)]
    pub workspace_roles: Vec<WorkspaceGrant>,
}

fn member() -> OrganizationRole {
    OrganizationRole::OrganizationMember
}

/// Changes to a team. Absent members keep their values.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeamUpdate {
    /// New name of the team.
    #[cfg_attr(feature = "control", schema(value_type = Option<Name>))]
    pub name: Option<String>,
    /// New description of the team.
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub description: Option<String>,
}

/// Team of users.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Team {
    /// Id of the team.
    pub id: TeamId,
    /// Name of the team.
    pub name: String,
    /// Description of its members.
    pub description: String,
    /// Id of its organization.
    pub organization_id: OrganizationId,
    /// Role in the organization.
    pub organization_role: OrganizationRole,
    /// Always false: teams are managed here.
    pub is_idp_managed: bool,
    /// Number of its roles.
    pub roles_count: u64,
    /// Roles in workspaces.
    pub workspace_roles: Vec<WorkspaceGrant>,
    /// Roles on deployments.
    pub deployment_roles: Vec<RoleOnDeployment>,
    /// Roles on Dags.
    pub dag_roles: Vec<RoleOnDags>,
    /// Number of members.
    pub members_count: u64,
    /// Time of creation.
    pub created_at: Instant,
    /// User or token that created it.
    pub created_by: Subject,
    /// Time of the last change.
    pub updated_at: Instant,
    /// User or token that changed it last.
    pub updated_by: Subject,
}

/// Page of teams.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct TeamPage {
    /// Teams of the page.
    pub teams: Vec<Team>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Conditions that a team must meet. An absent condition matches every team.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct TeamFilter {
    /// Names, one of which it has.
    #[serde(default)]
    pub names: Vec<String>,
    /// Id of a workspace in which it has a role.
    pub workspace_id: Option<String>,
    /// Order of the list, the first key first: `FIELD:asc` or `FIELD:desc` with one of `createdAt`, `name`, `updatedAt`. With
    /// several keys, use `offset`.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(inline, value_type = Vec<NamedSort>))]
    pub sorts: Vec<Sort<NamedField>>,
}

/// Users to add to a team.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMembers {
    /// Ids of the users.
    pub member_ids: Vec<String>,
}

/// Member of a team.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TeamMember {
    /// Id of the user.
    pub user_id: UserId,
    /// Email address of the user.
    pub email: String,
    /// The same as `email`.
    pub username: String,
    /// The same as `email`, since no other name is known.
    pub full_name: String,
    /// Picture of the user; empty, since there are none.
    pub avatar_url: String,
}

/// Page of members.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TeamMemberPage {
    /// Members of the page, by email address.
    pub team_members: Vec<TeamMember>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}
