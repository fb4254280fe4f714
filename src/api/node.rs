//! Nodes of data planes: as people manage them, and as a host enrols.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::id;
use super::instant::Instant;
#[cfg(feature = "control")]
use super::name::Name;
use super::page::Extent;
use crate::protocol::id::{DataPlaneId, NodeId};
use crate::protocol::key::Jwk;

/// Node of a data plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Id of the node.
    pub id: id::NodeId,
    /// Name of the node.
    pub name: String,
    /// Time of enrolment.
    pub created_at: Instant,
    /// Time at which the node was retired. A retired node receives nothing, and its signatures no longer count.
    pub retired_at: Option<Instant>,
    /// The node's fault in one sentence, or none.
    pub remark: Option<String>,
}

/// Page of nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub struct NodePage {
    /// Nodes of the page, the oldest first.
    pub nodes: Vec<Node>,
    /// Extent of the page.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Node to create for a host that cannot reach the control plane, from a public key that was carried here.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewNode {
    /// Name of the node.
    #[cfg_attr(feature = "control", schema(value_type = Name))]
    pub name: String,
    /// Public key of the node.
    pub key: Jwk,
}

/// Request of a host to become a node.
// Not `Debug`: that would print the token.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Enrolment {
    /// Value of the one-time token.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub enrolment_token: Zeroizing<String>,
    /// Name of the node.
    #[cfg_attr(feature = "control", schema(value_type = Name))]
    pub name: String,
    /// Public key of the node.
    pub key: Jwk,
    /// A `node-auth+jwt` signed with that key, which proves that the host possesses the private key.
    pub proof: String,
}

/// Identity of an enrolled node.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Enrolled {
    /// Id of the node.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub node_id: NodeId,
    /// Id of its data plane.
    #[cfg_attr(feature = "control", schema(value_type = String))]
    pub data_plane_id: DataPlaneId,
    /// Issuer name of the control plane, which is the audience of the node's JWTs.
    pub issuer: String,
}
