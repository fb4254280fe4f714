//! Glass of the deployments on the host.

use serde::{Deserialize, Serialize};

use crate::protocol::glass::{GlassMode, GlassState};
use crate::protocol::id::DeploymentId;
use crate::protocol::time::Time;

/// Request to break glass.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Break {
    /// The operator's reason.
    pub reason: String,
    /// Duration in seconds.
    pub seconds: i64,
}

/// Facts of broken glass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Breaking {
    /// Operator who broke it.
    pub operator: String,
    /// The operator's reason.
    pub reason: String,
    /// Time at which it was broken.
    pub broken_at: Time,
    /// Time at which it ends.
    pub until: Time,
}

/// Glass that was broken or sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// Identifier of the deployment.
    pub deployment_id: DeploymentId,
    /// Facts of its breaking.
    #[serde(flatten)]
    pub breaking: Breaking,
}

/// Glass of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pane {
    /// Identifier of the deployment.
    pub deployment_id: DeploymentId,
    /// Name of the deployment, for display.
    pub name: String,
    /// Mode of the glass, from the deployment's record.
    pub mode: GlassMode,
    /// State of the glass.
    pub state: GlassState,
    /// Facts of its breaking, if it is broken.
    #[serde(flatten)]
    pub breaking: Option<Breaking>,
}
