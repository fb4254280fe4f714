//! Deployments of Airflow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::environment::{EnvironmentVariable, NewEnvironmentVariable};
use super::id::{DataPlaneId, DeploymentId, OrganizationId, WorkspaceId};
use super::instant::Instant;
#[cfg(feature = "control")]
use super::name::Name;
#[cfg(feature = "control")]
use super::page::NamedSort;
use super::page::{Extent, NamedField, Sort};
use super::settings::{Executor, Settings};
use super::subject::Subject;
use crate::protocol::glass::GlassMode;

/// Deployment of Airflow.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Id of the deployment.
    pub id: DeploymentId,
    /// Name of the deployment.
    pub name: String,
    /// Description of its purpose.
    pub description: String,
    /// Id of its organization.
    pub organization_id: OrganizationId,
    /// Id of its workspace.
    pub workspace_id: WorkspaceId,
    /// Name of its workspace.
    pub workspace_name: String,
    /// Id of its data plane.
    pub data_plane_id: DataPlaneId,
    /// Host names under which clients reach it.
    pub hosts: Vec<String>,
    /// Name of its route map.
    pub routes: String,
    /// Condition under which direct-access tokens open it.
    pub glass: GlassMode,
    /// Always `STANDARD`.
    #[serde(rename = "type")]
    pub deployment_type: String,
    /// Always `UNKNOWN`: the control plane does not watch Airflow.
    pub status: String,
    /// The deployment's id.
    pub namespace: String,
    /// The same as `runtimeVersion`.
    pub astro_runtime_version: String,
    /// Settings of its Airflow.
    #[serde(flatten)]
    pub settings: Settings,
    /// Address of its user interface: that of its first host, or empty.
    pub ui_url: String,
    /// Address of its API: that of its first host, or empty.
    pub api_url: String,
    /// The same as `uiUrl`.
    pub web_server_url: String,
    /// Its first host, or empty.
    pub web_server_ingress_hostname: String,
    /// The same as `apiUrl`.
    pub web_server_airflow_api_url: String,
    /// Environment variables; absent if the caller may not see them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_variables: Option<Vec<EnvironmentVariable>>,
    /// Version of the environment variables, which each change of them raises; 0 before the first one. Absent if the caller
    /// may not see them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_variables_version: Option<u64>,
    /// Worker queues; empty.
    #[cfg_attr(feature = "control", schema(value_type = Vec<Object>))]
    pub worker_queues: Vec<serde_json::Value>,
    /// Time of creation.
    pub created_at: Instant,
    /// User or token that created it.
    pub created_by: Subject,
    /// Time of the last change.
    pub updated_at: Instant,
    /// User or token that changed it last.
    pub updated_by: Subject,
}

/// Properties of a new deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDeployment {
    /// Name of the deployment.
    #[cfg_attr(feature = "control", schema(value_type = Name))]
    pub name: String,
    /// Description of its purpose.
    #[serde(default)]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub description: String,
    /// Id of its workspace.
    pub workspace_id: String,
    /// Id of its data plane.
    pub data_plane_id: String,
    /// Host names under which clients reach it.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Name of its route map; by default that of the Airflow REST API v2.
    pub routes: Option<String>,
    /// Condition under which direct-access tokens open it; `always` by default.
    #[serde(default)]
    pub glass: GlassMode,
}

/// Changes to a deployment. Absent members keep their values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploymentUpdate {
    /// New name of the deployment.
    #[cfg_attr(feature = "control", schema(value_type = Option<Name>))]
    pub name: Option<String>,
    /// New description of the deployment.
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub description: Option<String>,
    /// New host names, in place of all earlier ones.
    pub hosts: Option<Vec<String>>,
    /// Name of another route map.
    pub routes: Option<String>,
    /// New condition under which direct-access tokens open it.
    pub glass: Option<GlassMode>,
    /// Executor of Airflow; `CELERY` unless it was set.
    pub executor: Option<Executor>,
    /// Version of the platform's runtime.
    pub runtime_version: Option<String>,
    /// Version of Airflow.
    pub airflow_version: Option<String>,
    /// Processors of the web server, such as `500m` or `2`.
    pub web_server_cpu: Option<String>,
    /// Memory of the web server, such as `512Mi` or `2Gi`.
    pub web_server_memory: Option<String>,
    /// Size of the scheduler; `SMALL` unless it was set.
    pub scheduler_size: Option<String>,
    /// Processors of the scheduler.
    pub scheduler_cpu: Option<String>,
    /// Memory of the scheduler.
    pub scheduler_memory: Option<String>,
    /// Number of schedulers, 1 to 100.
    pub scheduler_replicas: Option<u32>,
    /// Processors of a task's pod.
    pub default_task_pod_cpu: Option<String>,
    /// Memory of a task's pod.
    pub default_task_pod_memory: Option<String>,
    /// Limit of processors.
    pub resource_quota_cpu: Option<String>,
    /// Limit of memory.
    pub resource_quota_memory: Option<String>,
    /// Repository of its image.
    pub image_repository: Option<String>,
    /// Tag of its image.
    pub image_tag: Option<String>,
    /// True if code comes from pipelines only.
    pub is_cicd_enforced: Option<bool>,
    /// True if Dags can be deployed without an image.
    pub is_dag_deploy_enabled: Option<bool>,
    /// True if its components run twice.
    pub is_high_availability: Option<bool>,
    /// True if it is for development.
    pub is_development_mode: Option<bool>,
    /// Email addresses of those to write to about it, at most 20.
    pub contact_emails: Option<Vec<String>>,
    /// All environment variables from now on: those that are not named are deleted.
    pub environment_variables: Option<Vec<NewEnvironmentVariable>>,
    /// Id of its workspace, which never changes; for clients that send it.
    pub workspace_id: Option<String>,
    /// `STANDARD`, which never changes; for clients that send it.
    #[serde(rename = "type")]
    pub deployment_type: Option<String>,
    /// Worker queues, which are not kept; for clients that send them.
    #[cfg_attr(feature = "control", schema(value_type = Option<Vec<Object>>))]
    pub worker_queues: Option<Vec<serde_json::Value>>,
}

impl DeploymentUpdate {
    /// Moves the settings of its Airflow out of the update. Returns `before` with these changes.
    pub fn settings(&mut self, before: Settings) -> Settings {
        Settings {
            executor: self.executor.take().unwrap_or(before.executor),
            runtime_version: self.runtime_version.take().unwrap_or(before.runtime_version),
            airflow_version: self.airflow_version.take().unwrap_or(before.airflow_version),
            web_server_cpu: self.web_server_cpu.take().unwrap_or(before.web_server_cpu),
            web_server_memory: self.web_server_memory.take().unwrap_or(before.web_server_memory),
            scheduler_size: self.scheduler_size.take().unwrap_or(before.scheduler_size),
            scheduler_cpu: self.scheduler_cpu.take().unwrap_or(before.scheduler_cpu),
            scheduler_memory: self.scheduler_memory.take().unwrap_or(before.scheduler_memory),
            scheduler_replicas: self.scheduler_replicas.take().unwrap_or(before.scheduler_replicas),
            default_task_pod_cpu: self.default_task_pod_cpu.take().unwrap_or(before.default_task_pod_cpu),
            default_task_pod_memory: self
                .default_task_pod_memory
                .take()
                .unwrap_or(before.default_task_pod_memory),
            resource_quota_cpu: self.resource_quota_cpu.take().unwrap_or(before.resource_quota_cpu),
            resource_quota_memory: self.resource_quota_memory.take().unwrap_or(before.resource_quota_memory),
            image_repository: self.image_repository.take().unwrap_or(before.image_repository),
            image_tag: self.image_tag.take().unwrap_or(before.image_tag),
            is_cicd_enforced: self.is_cicd_enforced.take().unwrap_or(before.is_cicd_enforced),
            is_dag_deploy_enabled: self.is_dag_deploy_enabled.take().unwrap_or(before.is_dag_deploy_enabled),
            is_high_availability: self.is_high_availability.take().unwrap_or(before.is_high_availability),
            is_development_mode: self.is_development_mode.take().unwrap_or(before.is_development_mode),
            contact_emails: self.contact_emails.take().unwrap_or(before.contact_emails),
        }
    }
}

/// Page of deployments.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct DeploymentPage {
    /// Deployments of the page.
    pub deployments: Vec<Deployment>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Conditions that a deployment must meet. An absent condition matches every deployment.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::IntoParams))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "control", into_params(parameter_in = Query))]
pub struct DeploymentFilter {
    /// Ids, one of which it has.
    #[serde(default)]
    pub deployment_ids: Vec<String>,
    /// Names, one of which it has.
    #[serde(default)]
    pub names: Vec<String>,
    /// Ids of workspaces, one of which it is in.
    #[serde(default)]
    pub workspace_ids: Vec<String>,
    /// Order of the list, the first key first: `FIELD:asc` or `FIELD:desc` with one of `createdAt`, `name`, `updatedAt`.
    #[serde(default)]
    #[cfg_attr(feature = "control", param(inline, value_type = Vec<NamedSort>))]
    pub sorts: Vec<Sort<NamedField>>,
}

/// Dag tags of a deployment, to be published.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewDagTags {
    /// Tags by Dag id.
    pub tags: BTreeMap<String, Vec<String>>,
}

/// Published Dag tags of a deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DagTags {
    /// Id of the deployment.
    pub deployment_id: DeploymentId,
    /// Tags by Dag id.
    pub tags: BTreeMap<String, Vec<String>>,
    /// Time of the last publication, or none if there was none.
    pub updated_at: Option<Instant>,
    /// User or token that published them.
    pub updated_by: Option<Subject>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_change_keeps_what_it_does_not_name_and_nothing_is_null() {
        let mut update: DeploymentUpdate = serde_json::from_str(r#"{"executor":"ASTRO"}"#).unwrap();
        let settings = update.settings(Settings { image_tag: "7".into(), ..Settings::default() });
        assert_eq!((settings.executor, &*settings.image_tag), (Executor::Astro, "7"));
        assert_eq!(settings.check(), Ok(()));
        let text = serde_json::to_string(&settings).unwrap();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        // A row that an earlier version stored may lack members; they have their defaults.
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
    }
}
