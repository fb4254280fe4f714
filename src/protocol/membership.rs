//! What a node states of itself while its control plane answers, and what it is told in return.

use serde::{Deserialize, Serialize};

/// The most heads a statement carries.
pub const MAX_HEADS: usize = 32;

/// What a node states of itself. Members a receiver does not know are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatement {
    /// The name its configuration gives it; none where it gives it none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The head it holds, and heads that contradict one it has proved (compact JWS).
    pub heads: Vec<String>,
    /// The last checkpoint of its log whose event has arrived above (compact JWS).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// What the node is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStanding {
    /// Another host calls under the identity of this one.
    pub shared_identity: bool,
    /// Why its name was not taken; none if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_refused: Option<String>,
    /// What was found of its log of late that does not follow from what it had sent before, each in a sentence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_faults: Vec<String>,
}
