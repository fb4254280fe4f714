//! The staleness policy: how old a replica each role may rest on. What a revoked token can still do on a node that is cut
//! off is bounded by it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::protocol::role::is_reserved;

const DAY: i64 = 24 * 3600;
/// What stands in place of a role's name for all roles that are not named.
pub const OTHER_ROLES: &str = "other roles";

/// Limits that are built in. Whoever administers a deployment can do the most harm with a token that was taken away.
const BUILT_IN: [(&str, i64); 1] = [("DEPLOYMENT_ADMIN", DAY)];

/// What happens to a request once the replica is older than its role may rest on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtLimit {
    /// It is denied: `replica_stale`.
    #[default]
    Deny,
    /// It is decided as ever, and an alarm tells of it.
    Allow,
}

/// How old a replica may be, in seconds since its head was signed.
#[derive(Clone, Debug)]
pub struct Staleness {
    /// For roles that are not named.
    pub default: i64,
    /// By role name: these stand before what is built in.
    pub roles: BTreeMap<String, i64>,
    /// What happens at the limit.
    pub at_limit: AtLimit,
}

impl Default for Staleness {
    /// A day for `DEPLOYMENT_ADMIN`, seven for every other role.
    fn default() -> Self {
        Self { default: 7 * DAY, roles: BTreeMap::new(), at_limit: AtLimit::Deny }
    }
}

impl Staleness {
    /// The limit for a role. What is built in is never longer than what holds for roles that are not named.
    #[must_use]
    pub fn limit(&self, role: &str) -> i64 {
        self.limited(role).0
    }

    /// The limit for a role, and the setting that has to be changed to change it.
    fn limited(&self, role: &str) -> (i64, Setting) {
        if let Some(named) = self.roles.get(role) {
            return (*named, Setting::Role);
        }
        match BUILT_IN.iter().find(|(name, limit)| *name == role && *limit <= self.default) {
            Some((_, limit)) => (*limit, Setting::Role),
            None => (self.default, Setting::Default),
        }
    }

    /// How a replica of this age stands with a role.
    #[must_use]
    pub fn judge(&self, role: &str, age: i64) -> Freshness {
        let (limit, setting) = self.limited(role);
        Freshness { age, limit, setting }
    }

    /// Every limit there is, by role.
    #[must_use]
    pub fn limits(&self) -> Vec<(String, i64)> {
        let built_in = BUILT_IN.iter().map(|(name, _)| *name).filter(|name| !self.roles.contains_key(*name));
        let named = self.roles.keys().map(String::as_str).chain(built_in);
        let mut limits: Vec<_> = named.map(|role| (role.to_owned(), self.limit(role))).collect();
        limits.push((OTHER_ROLES.into(), self.default));
        limits
    }
}

/// The setting that limits a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `staleness.default_seconds`.
    Default,
    /// The role's own. It takes effect in place of what is built in for the role.
    Role,
}

impl Setting {
    /// Its key in the configuration.
    #[must_use]
    pub fn key(self, role: &str) -> String {
        match self {
            Self::Default => "staleness.default_seconds".into(),
            Self::Role if is_reserved(role) => format!("staleness.roles.{role}"),
            Self::Role => format!("staleness.custom_roles.{role}"),
        }
    }
}

/// How old the replica is, against what a role may rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Seconds since the head was signed.
    pub age: i64,
    /// Seconds it may be old.
    pub limit: i64,
    /// What says so.
    pub setting: Setting,
}

impl Freshness {
    /// Whether it is older than it may be.
    #[must_use]
    pub fn over(self) -> bool {
        self.age > self.limit
    }

    /// Whether three quarters of the time are over: soon enough to do something about it.
    #[must_use]
    pub fn near(self) -> bool {
        self.age.saturating_mul(4) >= self.limit.saturating_mul(3)
    }

    /// Seconds until it is over; negative when it is.
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
                // Raised by one setting, then perhaps held by what is built in: that one is named next.
                let after = raised.judge(role, 0);
                assert!(after.limit > before.limit, "{role}: {before:?} {after:?}");
                if after.limit < 100 * DAY {
                    assert_eq!(after.setting.key(role), "staleness.roles.DEPLOYMENT_ADMIN");
                }
            }
        }
    }
}
