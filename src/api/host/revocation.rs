//! Revocations that were made on hosts.

use serde::{Deserialize, Serialize};

use crate::protocol::id::{NodeId, TokenId};
use crate::protocol::reconciliation::Outcome;
use crate::protocol::time::Time;

/// Request to revoke a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Revoke {
    /// Identifier of the token.
    pub token_id: String,
    /// The operator's reason.
    pub reason: String,
}

/// Revocation that the host holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Token that is revoked.
    pub token_id: TokenId,
    /// Node on which the revocation was made.
    pub node_id: NodeId,
    /// Time of the revocation.
    pub revoked_at: Time,
    /// User who made it.
    pub operator: String,
    /// The operator's reason.
    pub reason: String,
    /// Identifier of the revocation.
    pub id: String,
    /// Answer of the control plane, or `None` before it received the revocation.
    pub answer: Option<Outcome>,
}

/// Result of a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// The revocation.
    #[serde(flatten)]
    pub held: Held,
    /// True if the revocation is new. A second one returns the first.
    pub new: bool,
    /// True if the replica holds the token. An unknown token is revoked as well.
    pub known: bool,
    /// Identifier of the event, or `None` if it could not be recorded. The revocation is in force in both cases.
    pub event: Option<String>,
}
