//! Caller of the API, as `GET /users/self` shows them: a user, or an API token.

use serde::{Deserialize, Serialize};

use super::id::OrganizationId;
use super::instant::Instant;
use super::operation::Operation;
use super::subject::SubjectType;
use super::token::EntityType;
use crate::protocol::permission::PermissionSet;

/// Caller, with their roles and with what these allow.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// Id of the user or token.
    pub id: String,
    /// Kind of the caller.
    pub subject_type: SubjectType,
    /// Email address of the user, or name of the token.
    pub username: String,
    /// The same as `username`, since no other name is known.
    pub full_name: String,
    /// Picture of the user; empty, since there are none.
    pub avatar_url: String,
    /// Always `ACTIVE`.
    pub status: String,
    /// Id of the organization that the caller belongs to.
    pub organization_id: OrganizationId,
    /// Roles in force, including those of a user's teams. Of two roles in the organization, or in one workspace, only the
    /// higher one is listed.
    pub roles: Vec<CallerRole>,
    /// Operations that the caller may do in the organization as a whole, or on the object that the query names.
    pub operations: Vec<Operation>,
    /// Permissions on the deployment that the query names; empty if it names none.
    pub permissions: PermissionSet,
    /// Time of creation.
    pub created_at: Instant,
    /// Time of the last change.
    pub updated_at: Instant,
}

/// Role of a caller on one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CallerRole {
    /// Kind of object that the role is on.
    pub entity_type: EntityType,
    /// Id of the object, or the tag.
    pub entity_id: String,
    /// Id of the deployment of a Dag or tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Name of the role.
    pub role: String,
}

/// Object that the operations and permissions of a caller are about: the organization if none is named.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct CallerPlace {
    /// Id of a workspace.
    pub workspace_id: Option<String>,
    /// Id of a deployment, in place of a workspace.
    pub deployment_id: Option<String>,
}
