//! API tokens, and the roles that they have.

mod list;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

#[cfg(feature = "control")]
pub use list::TokenSort;
pub use list::{TokenField, TokenFilter, TokenPage};

use super::id::TokenId;
use super::instant::Instant;
#[cfg(feature = "control")]
use super::name::Name;
use super::role::SubjectRoles;
use super::subject::Subject;
use crate::protocol::permission::PermissionSet;
use crate::protocol::role::RoleDigest;
use crate::protocol::token::{DagTarget, TokenKind};

/// Kind of object that a token's main role is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TokenScope {
    /// The organization as a whole.
    Organization,
    /// A workspace of the organization.
    Workspace,
    /// A deployment of a workspace.
    Deployment,
}

impl TokenScope {
    /// Returns the name of the scope, such as `ORGANIZATION`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "ORGANIZATION",
            Self::Workspace => "WORKSPACE",
            Self::Deployment => "DEPLOYMENT",
        }
    }
}

/// Kind of object that a role is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntityType {
    /// Organization as a whole.
    Organization,
    /// Workspace with its deployments.
    Workspace,
    /// Deployment with its Dags.
    Deployment,
    /// One Dag, by its id.
    Dag,
    /// All Dags with a tag.
    DagTag,
}

impl EntityType {
    /// Returns the name of the kind, such as `DAG_TAG`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "ORGANIZATION",
            Self::Workspace => "WORKSPACE",
            Self::Deployment => "DEPLOYMENT",
            Self::Dag => "DAG",
            Self::DagTag => "DAG_TAG",
        }
    }
}

impl From<TokenScope> for EntityType {
    fn from(scope: TokenScope) -> Self {
        match scope {
            TokenScope::Organization => Self::Organization,
            TokenScope::Workspace => Self::Workspace,
            TokenScope::Deployment => Self::Deployment,
        }
    }
}

/// Role for a token. Other members of [`TokenRole`] are ignored, so that a client can send back what it read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NewTokenRole {
    /// Kind of object that the role is on.
    pub entity_type: EntityType,
    /// Id of the object, or the tag.
    pub entity_id: String,
    /// Id of the deployment of a Dag or tag. It may be omitted for a deployment's token.
    pub deployment_id: Option<String>,
    /// Name of the role; for a custom role, alternatively its id.
    pub role: String,
}

impl From<TokenRole> for NewTokenRole {
    fn from(role: TokenRole) -> Self {
        let TokenRole { entity_type, entity_id, deployment_id, role, .. } = role;
        Self { entity_type, entity_id, deployment_id, role }
    }
}

/// Role of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TokenRole {
    /// Kind of object that the role is on.
    pub entity_type: EntityType,
    /// Id of the object, or the tag.
    pub entity_id: String,
    /// Id of the deployment of a Dag or tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Name of the role.
    pub role: String,
    /// Version in force: the newest, or the one that a direct-access token was created with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_version: Option<u32>,
    /// Digest of that version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_digest: Option<RoleDigest>,
    /// Newest version, if a different one is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<NewerRole>,
}

/// Difference between the newest version of a role and the one in force for a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct NewerRole {
    /// Number of the newest version.
    pub version: u32,
    /// Permissions of the newest version that the token's version lacks.
    pub added: PermissionSet,
    /// Permissions of the token's version that the newest lacks.
    pub removed: PermissionSet,
}

/// Properties of a new token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewToken {
    /// Name of the token.
    #[cfg_attr(feature = "control", schema(value_type = Name))]
    pub name: String,
    /// Description of its purpose.
    #[serde(default)]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub description: String,
    /// Kind of object that its main role is on. Clients of `/iam/v1beta1` call it `type`, which is read here as well.
    #[serde(alias = "type")]
    pub scope: TokenScope,
    /// Kind of token: who decides about its uses.
    #[serde(default = "standard")]
    pub kind: TokenKind,
    /// Id of the workspace or deployment.
    pub entity_id: Option<String>,
    /// Main role, by name or id.
    pub role: Option<String>,
    /// Additional roles: on Dags, for a token of an organization or workspace on deployments, and for one of an organization
    /// in workspaces.
    #[serde(default)]
    pub roles: Vec<NewTokenRole>,
    /// Days until it expires, 1 to 3650, or none for never. A direct-access token must expire.
    #[serde(default, deserialize_with = "super::number::maybe")]
    #[cfg_attr(feature = "control", schema(minimum = 1, maximum = 3650))]
    pub token_expiry_period_in_days: Option<i64>,
    /// Networks (CIDR) from which a direct-access token may be used; empty for all. They cannot be changed later.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Maximum uses of a direct-access token per minute on each host, or none for no limit. It cannot be changed later.
    #[cfg_attr(feature = "control", schema(minimum = 1, maximum = 1_000_000))]
    pub rate_limit_per_minute: Option<u32>,
}

fn standard() -> TokenKind {
    TokenKind::Standard
}

/// API token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Id of the token.
    pub id: TokenId,
    /// Name of the token.
    pub name: String,
    /// Description of its purpose.
    pub description: String,
    /// Kind of object that its main role is on.
    pub scope: TokenScope,
    /// The same as `scope`, under the name that clients of `/iam/v1beta1` read.
    #[serde(rename = "type")]
    pub scope_v1beta1: TokenScope,
    /// Kind of token: who decides about its uses.
    pub kind: TokenKind,
    /// Roles, with the one in its own scope first. Roles that the caller may not see are left out.
    pub roles: Vec<TokenRole>,
    /// Last characters of its value.
    pub short_token: String,
    /// Value, only after creation and rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(value_type = Option<String>))]
    pub token: Option<Zeroizing<String>>,
    /// Time from which it is valid.
    pub start_at: Instant,
    /// Time at which it expires, or none.
    pub end_at: Option<Instant>,
    /// Lifetime in days.
    pub expiry_period_in_days: Option<i64>,
    /// Time of creation.
    pub created_at: Instant,
    /// User or token that created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<Subject>,
    /// Time of the last change.
    pub updated_at: Instant,
    /// User or token that changed it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_by: Option<Subject>,
    /// Time of the last rotation.
    pub last_rotated_at: Option<Instant>,
    /// Time of the last use, to the minute.
    pub last_used_at: Option<Instant>,
    /// Id of the deployment of the last use, or `control-plane`.
    pub last_used_on: Option<String>,
    /// Networks (CIDR) from which it may be used; empty for all.
    pub sources: Vec<String>,
    /// Maximum uses per minute on each host, or none for no limit.
    pub rate_limit_per_minute: Option<u32>,
}

impl Token {
    /// Returns its roles, by the kind of object that they are on.
    #[must_use]
    pub fn subject_roles(&self) -> SubjectRoles {
        use super::role::{RoleInWorkspace, RoleOnDags, RoleOnDeployment};
        let mut roles = SubjectRoles::default();
        for TokenRole { entity_type, entity_id, deployment_id, role, .. } in self.roles.iter().cloned() {
            let deployment = deployment_id.unwrap_or_default();
            match entity_type {
                EntityType::Organization => roles.organization_role = Some(role),
                EntityType::Workspace => {
                    roles.workspace_roles.push(RoleInWorkspace { workspace_id: entity_id, role });
                }
                EntityType::Deployment => {
                    roles.deployment_roles.push(RoleOnDeployment { deployment_id: entity_id, role });
                }
                EntityType::Dag => roles.dag_roles.push(RoleOnDags {
                    deployment_id: deployment,
                    dag_id: Some(entity_id),
                    dag_tag: None,
                    role,
                }),
                EntityType::DagTag => roles.dag_roles.push(RoleOnDags {
                    deployment_id: deployment,
                    dag_id: None,
                    dag_tag: Some(entity_id),
                    role,
                }),
            }
        }
        roles
    }
}

/// Answer of a call that changed a token's roles: the roles by kind of object, and the token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct TokenRoles {
    /// Roles by the kind of object that they are on.
    #[serde(flatten)]
    pub subject_roles: SubjectRoles,
    /// The token as it is now.
    #[serde(flatten)]
    pub token: Token,
}

/// Changes to a token. Absent members keep their values.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenUpdate {
    /// New name of the token.
    #[cfg_attr(feature = "control", schema(value_type = Option<Name>))]
    pub name: Option<String>,
    /// New description of the token.
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub description: Option<String>,
}

/// New roles of a token, in place of all earlier ones that the caller may see.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolesUpdate {
    /// Roles of the token.
    pub roles: Vec<NewTokenRole>,
}

/// Assignment of a token to a deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAssignment {
    /// Id of the token.
    pub token_id: String,
    /// Name or id of its role on the deployment.
    pub role: String,
}

/// Change of a token's assignment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assignment {
    /// Name or id of its new role on the deployment.
    pub role: String,
}

/// Permissions of a token on a deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// Permissions on the whole deployment.
    pub permissions: PermissionSet,
    /// Additional permissions on some of its Dags.
    pub dags: Vec<OnDags>,
}

/// Permissions of a token on some Dags.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct OnDags {
    /// Dag or tag that they apply to.
    #[serde(flatten)]
    pub target: DagTarget,
    /// Permissions on these Dags.
    pub permissions: PermissionSet,
}
