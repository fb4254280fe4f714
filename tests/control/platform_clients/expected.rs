//! Objects as the platform's clients decode them. A member whose type is not `Option` is required, with a value of that
//! type.

#![allow(
    dead_code,
    clippy::struct_excessive_bools,
    clippy::struct_field_names,
    reason = "that a member decodes is what is tested; the names are the platform's"
)]

use halligan::protocol::time::Time;
use serde::{Deserialize, Deserializer};

/// Instant in UTC (RFC 3339).
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

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Product {
    Hosted,
    Hybrid,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Organization {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) product: Product,
    pub(super) product_plans: Vec<serde_json::Value>,
    pub(super) status: Option<String>,
    pub(super) created_at: Instant,
    pub(super) created_by: Subject,
    pub(super) updated_at: Instant,
    pub(super) updated_by: Subject,
    pub(super) is_scim_enabled: bool,
    pub(super) allow_enhanced_support_access: bool,
    pub(super) has_allowed_ip_address_ranges: bool,
    pub(super) is_blocked_enable_ai_features: bool,
    pub(super) should_enforce_dedicated_clusters: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Organizations {
    pub(super) organizations: Vec<Organization>,
    pub(super) total_count: u64,
    pub(super) limit: u64,
    pub(super) offset: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Workspace {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) organization_id: Id,
    pub(super) organization_name: Option<String>,
    pub(super) cicd_enforced_default: bool,
    pub(super) created_at: Instant,
    pub(super) created_by: Option<Subject>,
    pub(super) updated_at: Instant,
    pub(super) updated_by: Option<Subject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Workspaces {
    pub(super) workspaces: Vec<Workspace>,
    pub(super) total_count: u64,
    pub(super) limit: u64,
    pub(super) offset: u64,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum DeploymentType {
    Standard,
    Dedicated,
    Hybrid,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Executor {
    Celery,
    Kubernetes,
    Astro,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum DeploymentStatus {
    Healthy,
    Unhealthy,
    Unknown,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Variable {
    pub(super) key: String,
    pub(super) value: Option<String>,
    pub(super) is_secret: bool,
    pub(super) updated_at: Instant,
}

/// Deployment. Members that the command line reads without a check for null are not of type `Option`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deployment {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) organization_id: Id,
    pub(super) workspace_id: Id,
    pub(super) workspace_name: String,
    #[serde(rename = "type")]
    pub(super) kind: DeploymentType,
    pub(super) status: DeploymentStatus,
    pub(super) namespace: String,
    pub(super) astro_runtime_version: String,
    pub(super) runtime_version: String,
    pub(super) airflow_version: String,
    pub(super) executor: Executor,
    pub(super) ui_url: String,
    pub(super) api_url: String,
    pub(super) web_server_url: String,
    pub(super) web_server_ingress_hostname: String,
    pub(super) web_server_airflow_api_url: String,
    pub(super) web_server_cpu: String,
    pub(super) web_server_memory: String,
    pub(super) scheduler_size: String,
    pub(super) scheduler_cpu: String,
    pub(super) scheduler_memory: String,
    pub(super) scheduler_replicas: i64,
    pub(super) default_task_pod_cpu: String,
    pub(super) default_task_pod_memory: String,
    pub(super) resource_quota_cpu: String,
    pub(super) resource_quota_memory: String,
    pub(super) image_repository: String,
    pub(super) image_tag: String,
    pub(super) is_cicd_enforced: bool,
    pub(super) is_dag_deploy_enabled: bool,
    pub(super) is_high_availability: bool,
    pub(super) is_development_mode: bool,
    pub(super) environment_variables: Option<Vec<Variable>>,
    pub(super) worker_queues: Option<Vec<serde_json::Value>>,
    pub(super) created_at: Instant,
    pub(super) created_by: Subject,
    pub(super) updated_at: Instant,
    pub(super) updated_by: Subject,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deployments {
    pub(super) deployments: Vec<Deployment>,
    pub(super) total_count: u64,
    pub(super) limit: u64,
    pub(super) offset: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    pub(super) id: Id,
    pub(super) username: String,
    pub(super) full_name: String,
    pub(super) avatar_url: String,
    pub(super) status: String,
    #[serde(flatten)]
    pub(super) roles: SubjectRoles,
    pub(super) created_at: Instant,
    pub(super) updated_at: Instant,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Users {
    pub(super) users: Vec<User>,
    pub(super) total_count: u64,
    pub(super) limit: u64,
    pub(super) offset: u64,
}

/// Answer of `GET /users/self`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SelfUser {
    pub(super) id: Id,
    pub(super) username: String,
    pub(super) full_name: String,
    pub(super) avatar_url: String,
    pub(super) status: String,
    pub(super) organization_id: Option<Id>,
    pub(super) roles: Option<Vec<TokenRole>>,
    pub(super) created_at: Instant,
    pub(super) updated_at: Instant,
    /// Halligan's addition; the platform has no such member.
    pub(super) operations: Vec<String>,
    /// Halligan's addition; the platform has no such member.
    pub(super) permissions: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Team {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) organization_id: Id,
    pub(super) is_idp_managed: bool,
    pub(super) roles_count: Option<u64>,
    #[serde(flatten)]
    pub(super) roles: SubjectRoles,
    pub(super) created_at: Instant,
    pub(super) created_by: Option<Subject>,
    pub(super) updated_at: Instant,
    pub(super) updated_by: Option<Subject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Teams {
    pub(super) teams: Vec<Team>,
    pub(super) total_count: u64,
    pub(super) limit: u64,
    pub(super) offset: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Role {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) scope_type: String,
    pub(super) permissions: Vec<String>,
    pub(super) restricted_workspace_ids: Vec<String>,
    pub(super) created_at: Instant,
    pub(super) created_by: Subject,
    pub(super) updated_at: Instant,
    pub(super) updated_by: Subject,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DefaultRole {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) scope_type: String,
    pub(super) permissions: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Roles {
    pub(super) roles: Vec<Role>,
    pub(super) default_roles: Option<Vec<DefaultRole>>,
    pub(super) total_count: u64,
    pub(super) limit: u64,
    pub(super) offset: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct PermissionEntry {
    pub(super) action: String,
    pub(super) description: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct PermissionGroup {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) scope: String,
    pub(super) permissions: Vec<PermissionEntry>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum DeployType {
    DagOnly,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum DeployStatus {
    Initialized,
    Deployed,
    Failed,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeployGit {
    pub(super) provider: String,
    pub(super) commit_sha: String,
    pub(super) branch: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deploy {
    pub(super) id: Id,
    pub(super) deployment_id: Id,
    #[serde(rename = "type")]
    pub(super) deploy_type: DeployType,
    pub(super) status: DeployStatus,
    pub(super) description: Option<String>,
    pub(super) git: Option<DeployGit>,
    pub(super) is_dag_deploy_enabled: bool,
    pub(super) dag_tarball_version: Option<String>,
    pub(super) dags_upload_url: Option<String>,
    pub(super) image_repository: String,
    pub(super) image_tag: String,
    pub(super) rollback_from_id: Option<Id>,
    pub(super) created_at: Instant,
    pub(super) created_by_subject: Subject,
    pub(super) updated_at: Instant,
    pub(super) updated_by_subject: Subject,
    /// Halligan's addition; the platform has no such member.
    pub(super) is_in_force: bool,
    pub(super) version: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deploys {
    pub(super) deploys: Vec<Deploy>,
    pub(super) total_count: u64,
    pub(super) limit: u64,
    pub(super) offset: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Log {
    pub(super) limit: u64,
    pub(super) max_num_results: u64,
    pub(super) offset: u64,
    pub(super) result_count: u64,
    pub(super) results: Vec<LogEntry>,
    pub(super) search_id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct LogEntry {
    pub(super) raw: String,
    pub(super) timestamp: f32,
    pub(super) source: String,
}
