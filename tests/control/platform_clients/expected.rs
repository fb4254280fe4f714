//! Objects as the platform's clients decode them. A member that is no `Option` has to be there, with a value of its kind.

#![allow(
    dead_code,
    clippy::struct_field_names,
    reason = "that a member decodes is what is tested; the names are the platform's"
)]

use halligan::protocol::time::Time;
use serde::{Deserialize, Deserializer};

/// Instant by RFC 3339 in UTC.
#[derive(Debug)]
pub(super) struct Instant;

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let good = text.ends_with('Z') && Time::parse_rfc3339(&text).is_some();
        if good { Ok(Self) } else { Err(serde::de::Error::custom(format!("{text} is no instant"))) }
    }
}

/// Id of a new object: the letter c and 24 small letters or digits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let good = text.len() == 25
            && text.starts_with('c')
            && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
        if good { Ok(Self(text)) } else { Err(serde::de::Error::custom(format!("{text} is no id"))) }
    }
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum SubjectType {
    User,
    ServiceKey,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subject {
    pub(super) id: String,
    pub(super) subject_type: SubjectType,
    pub(super) full_name: Option<String>,
    pub(super) username: Option<String>,
    pub(super) avatar_url: Option<String>,
    pub(super) api_token_name: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Scope {
    Organization,
    Workspace,
    Deployment,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Kind {
    Standard,
    DirectAccess,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum EntityType {
    Organization,
    Workspace,
    Deployment,
    Dag,
    DagTag,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenRole {
    pub(super) entity_type: EntityType,
    pub(super) entity_id: String,
    pub(super) deployment_id: Option<String>,
    pub(super) role: String,
}

/// Token under `/v1`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiToken {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) kind: Kind,
    pub(super) scope: Scope,
    pub(super) short_token: String,
    pub(super) token: Option<String>,
    pub(super) roles: Option<Vec<TokenRole>>,
    pub(super) start_at: Instant,
    pub(super) end_at: Option<Instant>,
    pub(super) expiry_period_in_days: Option<u64>,
    pub(super) last_rotated_at: Option<Instant>,
    pub(super) last_used_at: Option<Instant>,
    pub(super) created_at: Instant,
    pub(super) created_by: Option<Subject>,
    pub(super) updated_at: Instant,
    pub(super) updated_by: Option<Subject>,
}

/// Token under the older base paths, which call its scope `type`.
#[derive(Debug, Deserialize)]
pub(super) struct OlderApiToken {
    #[serde(rename = "type")]
    pub(super) scope: Scope,
    #[serde(flatten)]
    pub(super) token: ApiToken,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiTokens {
    pub(super) tokens: Vec<OlderApiToken>,
    pub(super) total_count: u64,
    pub(super) limit: u64,
    pub(super) offset: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkspaceRole {
    pub(super) workspace_id: String,
    pub(super) role: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeploymentRole {
    pub(super) deployment_id: String,
    pub(super) role: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DagRole {
    pub(super) deployment_id: String,
    pub(super) dag_id: Option<String>,
    pub(super) dag_tag: Option<String>,
    pub(super) role: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubjectRoles {
    pub(super) organization_role: Option<String>,
    pub(super) workspace_roles: Option<Vec<WorkspaceRole>>,
    pub(super) deployment_roles: Option<Vec<DeploymentRole>>,
    pub(super) dag_roles: Option<Vec<DagRole>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct FieldError {
    pub(super) field: String,
    pub(super) code: String,
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) request_id: Id,
    pub(super) status_code: u16,
    pub(super) field_errors: Vec<FieldError>,
}
