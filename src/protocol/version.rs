//! Defines the upper bound of versions, and the message by which a node names the ones it holds. Every JSON parser reads integers below 2^53
//! exactly (RFC 8259 section 6), and so does every database; a version above the bound is rejected everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Highest version of a replica or a keyset: 2^53 - 1.
pub const MAX_VERSION: u64 = (1 << 53) - 1;

/// Request of a node for the environments, or for the code, of its data plane's deployments.
/// The receiver ignores members that it does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HeldVersions {
    /// Versions that the node holds, by the deployment's id.
    pub held: BTreeMap<String, u64>,
    /// `next` of the answer before, of the same round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Deserializes a version from 1 to [`MAX_VERSION`].
pub(super) fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let version = u64::deserialize(deserializer)?;
    if (1..=MAX_VERSION).contains(&version) {
        Ok(version)
    } else {
        Err(serde::de::Error::custom(format!("{version} is no version: they are 1 to {MAX_VERSION}")))
    }
}

/// Deserializes a number from 0 to [`MAX_VERSION`]. As a version, 0 is the empty replica.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(deserializer)?;
    if number <= MAX_VERSION {
        Ok(number)
    } else {
        Err(serde::de::Error::custom(format!("{number} is above {MAX_VERSION}")))
    }
}
