//! Staleness policy: the maximum age of the replica by role. It bounds how long a revoked token can act on a node that is cut off.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::protocol::role::is_reserved;

const DAY: i64 = 24 * 3600;
/// Name that stands for all roles without a limit of their own.
pub const OTHER_ROLES: &str = "other roles";

/// Built-in limits. A revoked token of a deployment's administrator can do the most harm.
const BUILT_IN: [(&str, i64); 1] = [("DEPLOYMENT_ADMIN", DAY)];

/// Handling of a request once the replica is too old for its role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtLimit {
    /// The request is denied with `replica_stale`.
    #[default]
    Deny,
    /// The request is decided as usual, and an alarm is raised.
    Allow,
}

/// Limits of the replica's age, in seconds since its head was signed.
///
/// ```
/// use halligan::dataplane::decide::staleness::Staleness;
///
/// let policy = Staleness::default();
/// let two_days = 2 * 24 * 3600;
/// assert!(policy.judge("DEPLOYMENT_ADMIN", two_days).over());
/// assert!(!policy.judge("DAG_VIEWER", two_days).over());
/// ```
#[derive(Clone, Debug)]
pub struct Staleness {
    /// Maximum age of the replica for roles that are not in `roles`, in seconds.
    pub default: i64,
    /// Maximum age of the replica by role name, in seconds. An entry replaces the built-in limit of its role.
    pub roles: BTreeMap<String, i64>,
    /// Handling of requests beyond the limit.
    pub at_limit: AtLimit,
}

impl Default for Staleness {
    /// Returns a limit of one day for `DEPLOYMENT_ADMIN` and seven days for every other role.
    fn default() -> Self {
        Self { default: 7 * DAY, roles: BTreeMap::new(), at_limit: AtLimit::Deny }
    }
}

impl Staleness {
    /// Returns the limit for a role, in seconds. A built-in limit never exceeds the one for roles that are not named.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use halligan::dataplane::decide::staleness::Staleness;
    ///
    /// let roles = BTreeMap::from([("DAG_VIEWER".to_owned(), 30 * 86_400)]);
    /// let policy = Staleness { roles, ..Staleness::default() };
    /// assert_eq!(policy.limit("DAG_VIEWER"), 30 * 86_400);
    /// assert_eq!(policy.limit("DEPLOYMENT_ADMIN"), 86_400);
    /// assert_eq!(policy.limit("RUNNER"), 7 * 86_400);
    ///
    /// // A shorter limit for all roles shortens the built-in one too.
    /// let strict = Staleness { default: 3600, ..Staleness::default() };
    /// assert_eq!(strict.limit("DEPLOYMENT_ADMIN"), 3600);
    /// ```
    #[must_use]
    pub fn limit(&self, role: &str) -> i64 {
        self.limited(role).0
    }

    /// Returns the limit for a role, and the setting that changes it.
    fn limited(&self, role: &str) -> (i64, Setting) {
        if let Some(named) = self.roles.get(role) {
            return (*named, Setting::Role);
        }
        match BUILT_IN.iter().find(|(name, limit)| *name == role && *limit <= self.default) {
            Some((_, limit)) => (*limit, Setting::Role),
            None => (self.default, Setting::Default),
        }
    }

    /// Compares an age of the replica with the limit of a role.
    ///
    /// ```
    /// use halligan::dataplane::decide::staleness::Staleness;
    ///
    /// let policy = Staleness::default();
    /// let freshness = policy.judge("DEPLOYMENT_ADMIN", 20 * 3600);
    /// assert!(freshness.near() && !freshness.over());
    /// assert_eq!(freshness.left(), 4 * 3600);
    /// // The operator who wants another limit changes this setting.
    /// assert_eq!(freshness.setting.key("DEPLOYMENT_ADMIN"), "staleness.roles.DEPLOYMENT_ADMIN");
    /// ```
    #[must_use]
    pub fn judge(&self, role: &str, age: i64) -> Freshness {
        let (limit, setting) = self.limited(role);
        Freshness { age, limit, setting }
    }

    /// Returns all limits, by role.
    ///
    /// ```
    /// use halligan::dataplane::decide::staleness::Staleness;
    ///
    /// let limits = Staleness::default().limits();
    /// assert_eq!(limits, [("DEPLOYMENT_ADMIN".into(), 86_400), ("other roles".into(), 7 * 86_400)]);
    /// ```
    #[must_use]
    pub fn limits(&self) -> Vec<(String, i64)> {
        let built_in = BUILT_IN.iter().map(|(name, _)| *name).filter(|name| !self.roles.contains_key(*name));
        let named = self.roles.keys().map(String::as_str).chain(built_in);
        let mut limits: Vec<_> = named.map(|role| (role.to_owned(), self.limit(role))).collect();
        limits.push((OTHER_ROLES.into(), self.default));
        limits
    }
}

/// Setting that limits a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `staleness.default_seconds`.
    Default,
    /// The setting of the role itself. It replaces the built-in limit.
    Role,
}

impl Setting {
    /// Returns the key of the setting in the configuration.
    ///
    /// ```
    /// use halligan::dataplane::decide::staleness::Setting;
    ///
    /// assert_eq!(Setting::Role.key("DAG_VIEWER"), "staleness.roles.DAG_VIEWER");
    /// assert_eq!(Setting::Role.key("RUNNER"), "staleness.custom_roles.RUNNER");
    /// assert_eq!(Setting::Default.key("RUNNER"), "staleness.default_seconds");
    /// ```
    #[must_use]
    pub fn key(self, role: &str) -> String {
        match self {
            Self::Default => "staleness.default_seconds".into(),
            Self::Role if is_reserved(role) => format!("staleness.roles.{role}"),
            Self::Role => format!("staleness.custom_roles.{role}"),
        }
    }
}

/// Age of the replica, and the limit for a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Seconds since the head was signed.
    pub age: i64,
    /// Maximum age in seconds.
    pub limit: i64,
    /// Setting that determines the limit.
    pub setting: Setting,
}

impl Freshness {
    /// Returns true if the replica is older than the limit.
    #[must_use]
    pub fn over(self) -> bool {
        self.age > self.limit
    }

    /// Returns true if three quarters of the limit have passed, which leaves time to act.
    #[must_use]
    pub fn near(self) -> bool {
        self.age.saturating_mul(4) >= self.limit.saturating_mul(3)
    }

    /// Returns the seconds until the limit, negative beyond it.
    #[must_use]
    pub fn left(self) -> i64 {
        self.limit.saturating_sub(self.age)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_named_role_stands_before_what_is_built_in_and_that_never_above_the_rest() {
        let mut policy = Staleness::default();
        assert_eq!((policy.limit("DEPLOYMENT_ADMIN"), policy.limit("DAG_VIEWER")), (DAY, 7 * DAY));
        policy.default = 3600;
        assert_eq!(policy.limit("DEPLOYMENT_ADMIN"), 3600);
        policy.roles.insert("DEPLOYMENT_ADMIN".into(), 3 * DAY);
        assert_eq!(policy.limit("DEPLOYMENT_ADMIN"), 3 * DAY);
        assert_eq!(policy.limits(), [("DEPLOYMENT_ADMIN".into(), 3 * DAY), (OTHER_ROLES.into(), 3600)]);
    }

    #[test]
    fn a_warning_comes_before_the_limit_does() {
        let at = |age| Freshness { age, limit: 100, setting: Setting::Default };
        assert_eq!(
            [74, 75, 100, 101].map(|age| (at(age).near(), at(age).over())),
            [(false, false), (true, false), (true, false), (true, true)]
        );
        assert_eq!(at(130).left(), -30);
    }

    #[test]
    fn the_setting_that_is_named_is_the_one_that_lifts_the_limit() {
        let policies = [
            Staleness::default(),
            Staleness { default: 3600, ..Staleness::default() },
            Staleness { default: DAY, ..Staleness::default() },
            Staleness { default: 30 * DAY, ..Staleness::default() },
            Staleness {
                roles: [("DEPLOYMENT_ADMIN".into(), 60), ("AUDITOR".into(), 60)].into(),
                ..Staleness::default()
            },
        ];
        for policy in policies {
            for role in ["DEPLOYMENT_ADMIN", "DEPLOYMENT_ACCESSOR", "DAG_VIEWER", "AUDITOR"] {
                let before = policy.judge(role, 0);
                let mut raised = policy.clone();
                match before.setting.key(role).strip_prefix("staleness.").unwrap() {
                    "default_seconds" => raised.default = 100 * DAY,
                    key => {
                        let (table, name) = key.split_once('.').unwrap();
                        assert_eq!((table == "roles", name), (role != "AUDITOR", role));
                        raised.roles.insert(role.into(), 100 * DAY);
                    }
                }
                // After one setting is raised, the built-in limit may apply: that one is named next.
                let after = raised.judge(role, 0);
                assert!(after.limit > before.limit, "{role}: {before:?} {after:?}");
                if after.limit < 100 * DAY {
                    assert_eq!(after.setting.key(role), "staleness.roles.DEPLOYMENT_ADMIN");
                }
            }
        }
    }
}
