//! Settings for the maximum age of the replica.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::dataplane::decide::staleness::{AtLimit, Staleness};
use crate::platform::configuration::Wrong;
use crate::protocol::id::is_id;
use crate::protocol::role::{built_in, is_reserved};

/// Limits of the replica's age, in seconds since its head was signed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StalenessConfig {
    /// Limit for roles that are not named.
    pub default_seconds: i64,
    /// Limits by name of a built-in role. `DEPLOYMENT_ADMIN` has a limit of one day if it is not named.
    pub roles: BTreeMap<String, i64>,
    /// Limits by name of a custom role, which only the control plane defines.
    pub custom_roles: BTreeMap<String, i64>,
    /// Handling of requests beyond the limit: `deny`, or `allow` with an alarm.
    pub at_limit: AtLimit,
}

impl Default for StalenessConfig {
    fn default() -> Self {
        let Staleness { default, roles, at_limit } = Staleness::default();
        Self { default_seconds: default, roles, custom_roles: BTreeMap::new(), at_limit }
    }
}

impl StalenessConfig {
    /// Returns the staleness policy.
    #[must_use]
    pub fn policy(&self) -> Staleness {
        let named = self.roles.iter().chain(&self.custom_roles);
        let roles = named.map(|(role, seconds)| (role.clone(), *seconds)).collect();
        Staleness { default: self.default_seconds, roles, at_limit: self.at_limit }
    }

    /// Checks the names of roles. A name without a role would limit nothing, contrary to its author's intent.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let known: Vec<String> = built_in().into_iter().map(|role| role.name).collect();
        let wrong =
            |table: &str, role: &str, what: String| Wrong { key: format!("staleness.{table}.{role}"), what };
        if let Some(role) = self.roles.keys().find(|role| !known.contains(role)) {
            let what = format!(
                "no built-in role has this name; those are {}. The limit of a custom role stands in staleness.custom_roles",
                known.join(", ")
            );
            return Err(wrong("roles", role, what));
        }
        for role in self.custom_roles.keys() {
            if known.iter().any(|known| known.eq_ignore_ascii_case(role)) {
                return Err(wrong(
                    "custom_roles",
                    role,
                    "this is a built-in role; name it in staleness.roles".into(),
                ));
            }
            if !is_id(role) || is_reserved(role) {
                return Err(wrong("custom_roles", role, "no custom role can have this name".into()));
            }
        }
        Ok(())
    }
}
