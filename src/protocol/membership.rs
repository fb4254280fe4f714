//! Defines the exchange in which a node reports its own state to the control plane, and learns how the control plane sees
//! it.

use serde::{Deserialize, Serialize};

/// Maximum number of heads in a statement.
pub const MAX_HEADS: usize = 32;

/// A node's report of its own state. The receiver ignores members that it does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatement {
    /// Name from the node's configuration. Absent if the configuration sets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The head that the node holds, and heads that contradict one it has proved, each as a compact JWS.
    pub heads: Vec<String>,
    /// Last checkpoint of the node's log whose event the control plane has received, as a compact JWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Statement of the key to which the node's environments are to be encrypted, as a compact JWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<String>,
}

/// The control plane's answer to a [`NodeStatement`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStanding {
    /// True if another host has recently called with this node's identity.
    pub shared_identity: bool,
    /// Reason for which the control plane rejected the node's name. Absent if it accepted the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_refused: Option<String>,
    /// Faults that the control plane recently found in the node's log: content that contradicts what the node sent
    /// before. One sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_faults: Vec<String>,
    /// Number of changes to the environment variables of the data plane's deployments. A node that was told another number
    /// asks for them. Absent if there never was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_changes: Option<u64>,
    /// Number of changes to the code of the data plane's deployments. A node that was told another number asks for it.
    /// Absent if there never was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy_changes: Option<u64>,
}
