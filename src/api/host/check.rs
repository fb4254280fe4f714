//! Decision on a request that nobody made.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::protocol::glass::GlassState;

/// Request to be decided on. It names a deployment or a host, not both.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// Value of the token, or `None` for a request without one.
    pub token: Option<Zeroizing<String>>,
    /// Identifier of the deployment.
    pub deployment: Option<String>,
    /// Host name of the request.
    pub host: Option<String>,
    /// Method of the request.
    pub method: String,
    /// Path and query of the request.
    pub uri: String,
    /// Address of the client, if it is known.
    pub client: Option<IpAddr>,
}

/// Decision, with the facts that its steps found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// True if the request is allowed.
    pub allowed: bool,
    /// Reason code.
    pub reason: String,
    /// Reason in words.
    pub title: String,
    /// Details of a denial.
    pub detail: Option<String>,
    /// Step at which the decision ends.
    pub step: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// Identifier of the token, after its signature was found valid.
    pub token_id: Option<String>,
    /// Generation of the token.
    pub generation: Option<u32>,
    /// Role of the token, with its version.
    pub role: Option<String>,
    /// Identifier of the deployment, if the replica holds it.
    pub deployment: Option<String>,
    /// State of the deployment's glass.
    pub glass: Option<GlassState>,
    /// Method of the request.
    pub method: String,
    /// Canonical path of the request.
    pub path: Option<String>,
    /// Template of the route that matched.
    pub route: Option<String>,
    /// Permission that the route requires.
    pub permission: Option<String>,
    /// True if the request may change something.
    pub mutating: bool,
}
