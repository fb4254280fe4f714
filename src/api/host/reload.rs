//! Reload of the host's configuration.

use serde::{Deserialize, Serialize};

/// Result of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// Keys whose new values are in force.
    pub taken: Vec<String>,
    /// Keys whose new values need a restart.
    pub restart: Vec<String>,
}
