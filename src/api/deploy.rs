//! Deploys: archives of a deployment's code.

use serde::{Deserialize, Serialize};

use crate::protocol::id::DeployId;

/// Deploy that a host took itself: the host's answer to an archive that was pushed to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostDeployed {
    /// Id of the deploy, which the host made.
    pub deploy: DeployId,
    /// SHA-256 of the archive, base64url.
    pub digest: String,
    /// Size of the archive, in bytes.
    pub size: u64,
    /// Number among the deploys that hosts took on top of the control plane's last one.
    pub seq: u64,
    /// Version of the control plane's last deploy that the host knows, or 0 if it knows none.
    pub base: u64,
}
