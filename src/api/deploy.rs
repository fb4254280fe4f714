//! Deploys: archives of a deployment's code.

use serde::{Deserialize, Serialize};

use super::id::{DeployId, DeploymentId, NodeId};
use super::instant::Instant;
use super::page::Extent;
use super::subject::Subject;

/// Kind of a deploy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub enum DeployType {
    /// The folder of Dags, without an image.
    #[serde(rename = "DAG_ONLY")]
    DagOnly,
}

/// Progress of a deploy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeployStatus {
    /// Its archive has not arrived, or is not finalized yet.
    Initialized,
    /// It was put in force, and may have been replaced since.
    Deployed,
    /// It never came into force: it was abandoned, or another one stands in its place.
    Failed,
}

/// Place of the code in a repository. The control plane stores and shows it, and decides nothing by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeployGit {
    /// Kind of the repository's host: `GITHUB` or `GENERIC`.
    pub provider: GitProvider,
    /// Commit.
    #[cfg_attr(feature = "control", schema(min_length = 1, max_length = 500))]
    pub commit_sha: String,
    /// Account or organization of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub account: Option<String>,
    /// Name of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub repo: Option<String>,
    /// Path in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub path: Option<String>,
    /// Branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub branch: Option<String>,
    /// Commit before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub before_commit_sha: Option<String>,
    /// Page of the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub commit_url: Option<String>,
    /// URL of the remote repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub remote_url: Option<String>,
    /// Name of the commit's author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub author_name: Option<String>,
    /// User name of the commit's author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub author_username: Option<String>,
    /// Page of the commit's author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub author_url: Option<String>,
}

/// Kind of a repository's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GitProvider {
    /// GitHub.
    Github,
    /// Any other.
    Generic,
}

/// Deploy to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDeploy {
    /// Kind of the deploy.
    #[serde(rename = "type")]
    pub deploy_type: DeployType,
    /// Description, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub description: Option<String>,
    /// Place of the code in a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<DeployGit>,
}

/// New description of a deploy, or the description of a rollback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeployUpdate {
    /// Description, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(max_length = 500))]
    pub description: Option<String>,
}

/// Request to put an uploaded archive in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FinalizeDeploy {
    /// Version that the upload was answered with, in the field `x-ms-version-id`: the SHA-256 of the archive, base64url. The
    /// call is refused if the archive has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag_tarball_version: Option<String>,
}

/// Deploy of a deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Deploy {
    /// Id of the deploy.
    pub id: DeployId,
    /// Id of the deployment.
    pub deployment_id: DeploymentId,
    /// Kind of the deploy.
    #[serde(rename = "type")]
    pub deploy_type: DeployType,
    /// Progress of the deploy.
    pub status: DeployStatus,
    /// Description.
    pub description: String,
    /// Place of the code in a repository, if the request named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<DeployGit>,
    /// True: Dags are always deployed without an image.
    pub is_dag_deploy_enabled: bool,
    /// SHA-256 of the archive, base64url; absent before there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag_tarball_version: Option<String>,
    /// URL to `PUT` the archive to, without further authentication, within an hour. Only the answer that creates a deploy
    /// has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dags_upload_url: Option<String>,
    /// Empty: no deploy has an image.
    pub image_repository: String,
    /// Empty: no deploy has an image.
    pub image_tag: String,
    /// Deploy whose archive a rollback put in force again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_from_id: Option<DeployId>,
    /// True if the deployment shall run this deploy now.
    pub is_in_force: bool,
    /// Version of the deployment's code that it was put in force with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Size of the archive, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// True if the archive is kept, so that hosts can fetch it and a rollback can name it.
    pub is_archive_kept: bool,
    /// Node whose host took it in an outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// Deploy that stood when a host's deploy was reported, and stands in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by_id: Option<DeployId>,
    /// Time of creation.
    pub created_at: Instant,
    /// User or token that created it.
    pub created_by: Subject,
    /// The same as `createdBy`, for clients that read this member.
    pub created_by_subject: Subject,
    /// Time of the last change.
    pub updated_at: Instant,
    /// User or token that changed it last.
    pub updated_by: Subject,
    /// The same as `updatedBy`, for clients that read this member.
    pub updated_by_subject: Subject,
}

/// Page of deploys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct DeployPage {
    /// Deploys of the page, the newest first.
    pub deploys: Vec<Deploy>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Deploy that a host took itself: the host's answer to an archive that was pushed to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostDeployed {
    /// Id of the deploy, which the host made.
    pub deploy: crate::protocol::id::DeployId,
    /// SHA-256 of the archive, base64url.
    pub digest: String,
    /// Size of the archive, in bytes.
    pub size: u64,
    /// Number among the deploys that hosts took on top of the control plane's last one.
    pub seq: u64,
    /// Version of the control plane's last deploy that the host knows, or 0 if it knows none.
    pub base: u64,
}
