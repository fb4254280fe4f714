//! Sessions of browsers on the host.

use serde::{Deserialize, Serialize};

use crate::protocol::id::{DeploymentId, SessionId, TokenId};
use crate::protocol::time::Time;

/// Session that the host has seen since its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenSession {
    /// Identifier of the session, which events carry.
    pub id: SessionId,
    /// Token that signed in.
    pub token_id: TokenId,
    /// Generation of the token.
    pub generation: u32,
    /// Deployment that the session opens.
    pub deployment_id: Option<DeploymentId>,
    /// Time of the sign-in.
    pub begun_at: Time,
    /// Time at which the session ends if it is not used.
    pub until: Time,
    /// Time at which the session ends even if it is used.
    pub ends_at: Time,
}

/// Session that was ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedSession {
    /// Identifier of the session.
    pub id: SessionId,
    /// The session, or `None` if the host has not seen it since its start.
    pub session: Option<SeenSession>,
    /// True if a restart does not forget the end.
    pub written: bool,
    /// Identifier of the event, or `None` if it could not be recorded.
    pub event: Option<String>,
}
