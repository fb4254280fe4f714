//! Workspaces, which group deployments.

use serde::{Deserialize, Serialize};

use super::id::{OrganizationId, WorkspaceId};
use super::instant::Instant;
#[cfg(feature = "control")]
use super::name::Name;
#[cfg(feature = "control")]
use super::page::NamedSort;
use super::page::{Extent, NamedField, Sort};
use super::subject::Subject;

/// Workspace.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Workspace {
    /// Id of the workspace.
    pub id: WorkspaceId,
    /// Name of the workspace.
    pub name: String,
    /// Description of its purpose.
    pub description: String,
    /// Id of its organization.
    pub organization_id: OrganizationId,
    /// Name of its organization.
    pub organization_name: String,
    /// Always false: deploys need no pipeline.
    pub cicd_enforced_default: bool,
    /// Time of creation.
    pub created_at: Instant,
    /// User or token that created it.
    pub created_by: Subject,
    /// Time of the last change.
    pub updated_at: Instant,
    /// User or token that changed it last.
    pub updated_by: Subject,
}

/// Properties of a new workspace.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewWorkspace {
    /// Name of the workspace.
    #[cfg_attr(feature = "control", schema(value_type = Name))]
    pub name: String,
    /// Description of its purpose.
    #[serde(default)]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub description: String,
}

/// Changes to a workspace. Absent members keep their values.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkspaceUpdate {
    /// New name of the workspace.
    #[cfg_attr(feature = "control", schema(value_type = Option<Name>))]
    pub name: Option<String>,
    /// New description of the workspace.
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub description: Option<String>,
}

/// Page of workspaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct WorkspacePage {
    /// Workspaces of the page.
    pub workspaces: Vec<Workspace>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Conditions that a workspace must meet. An absent condition matches every workspace.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct WorkspaceFilter {
    /// Ids, one of which it has.
    #[serde(default)]
    pub workspace_ids: Vec<String>,
    /// Names, one of which it has.
    #[serde(default)]
    pub names: Vec<String>,
    /// Order of the list, the first key first: `FIELD:asc` or `FIELD:desc` with one of `createdAt`, `name`, `updatedAt`.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(inline, value_type = Vec<NamedSort>))]
    pub sorts: Vec<Sort<NamedField>>,
}
