//! Defines the calls of a node about code: what it asks for, and what it reports of deploys that it took itself.

use serde::{Deserialize, Serialize};

use crate::protocol::id::DeployId;
use crate::protocol::time::Time;
use crate::protocol::version::number;

/// The control plane's answer to a node that says which [versions](crate::protocol::version::HeldVersions) of code it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DeployAnswer {
    /// Signed deploys of which the node holds another version, or none, each as a compact JWS.
    pub deploys: Vec<String>,
    /// Deployment after which the answer goes on; absent from the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A node's report of a deploy that a host took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct HostDeployReport {
    /// The host's deploy, as a compact JWS. Any node of the data plane may report it.
    pub host_deploy: String,
}

/// State of a host's deploy at the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum HostDeployState {
    /// The control plane has its archive, and has made it the deployment's deploy.
    Stored,
    /// The control plane asks for the archive.
    Wanted,
    /// Another deploy stands in its place. The control plane keeps no archive of it.
    Superseded,
}

/// The control plane's answer to a [`HostDeployReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct HostDeployAnswer {
    /// State of the host's deploy.
    pub state: HostDeployState,
    /// Deploy that stands in its place, if it is superseded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<StandingDeploy>,
}

/// Deploy of a deployment that is in force at the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct StandingDeploy {
    /// Id of the deploy.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub deploy: DeployId,
    /// Version of the deployment's code.
    #[serde(deserialize_with = "number")]
    pub version: u64,
}

/// Deploy that a host took, in the report of an outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutageDeploy {
    /// Id of the deploy.
    pub deploy_id: String,
    /// Deployment whose code it is.
    pub deployment_id: String,
    /// Token with which it was pushed.
    pub token_id: String,
    /// Time at which the host took it.
    pub time: Time,
    /// Result at the control plane.
    pub state: HostDeployState,
    /// Deploy that stood in its place when it was reported, if it was superseded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by_id: Option<String>,
}

impl OutageDeploy {
    /// Describes the deploy and its result in one sentence.
    ///
    /// ```
    /// use halligan::protocol::deploy::exchange::{HostDeployState, OutageDeploy};
    /// # use halligan::protocol::time::Time;
    ///
    /// let deploy = OutageDeploy {
    ///     deploy_id: "dpy_42".into(),
    ///     deployment_id: "dep_sales".into(),
    ///     token_id: "tok_etl".into(),
    ///     time: Time::from_unix(1_800_000_000),
    ///     state: HostDeployState::Superseded,
    ///     superseded_by_id: Some("dpy_43".into()),
    /// };
    /// let sentence = "tok_etl deployed dpy_42 to dep_sales on this host; deploy dpy_43 stands in its place";
    /// assert_eq!(deploy.sentence(), sentence);
    /// ```
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { deploy_id, deployment_id, token_id, .. } = self;
        let outcome = match (self.state, &self.superseded_by_id) {
            (HostDeployState::Stored, _) => "the control plane adopted it".to_owned(),
            (HostDeployState::Wanted, _) => "its archive has not arrived yet".to_owned(),
            (HostDeployState::Superseded, None) => "another deploy stands in its place".to_owned(),
            (HostDeployState::Superseded, Some(by)) => format!("deploy {by} stands in its place"),
        };
        format!("{token_id} deployed {deploy_id} to {deployment_id} on this host; {outcome}")
    }
}
