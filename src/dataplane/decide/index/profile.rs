//! Profiles: the fixed part of a token's grant. Most tokens share theirs with many others, so each is kept once.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::quality::RandomState;
use ipnet::IpNet;

use super::{Roles, Tags};
use crate::platform::net::{forwarded, network};
use crate::protocol::id::DeploymentId;
use crate::protocol::permission::PermissionSet;
use crate::protocol::role::{RoleRef, RoleScope};
use crate::protocol::token::{DagTarget, RoleClaim, TokenRecord};

/// Minimum number of entries that a pool collects before it looks for unused ones.
const SWEEP: usize = 1024;

/// All permissions of a token, on any resource, not only those that one request needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Permissions on the deployment.
    pub deployment: PermissionSet,
    /// Permissions on some of its Dags.
    pub dags: PermissionSet,
}

/// Part of a grant that never changes, with the permissions of its roles.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::dataplane) struct Profile {
    pub(in crate::dataplane) deployment: Arc<DeploymentId>,
    role: Arc<Role>,
    dag_roles: Box<[DagRole]>,
    /// Networks from which the token may be used. `None` if one of them cannot be parsed: no source address is allowed then.
    pub(in crate::dataplane) sources: Option<Box<[IpNet]>>,
    pub(in crate::dataplane) rate_limit_per_minute: Option<u32>,
}

/// Role of a token, with its permissions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Role {
    claim: RoleClaim,
    /// `None` if the role is missing, unreadable, of another scope, or does not match its digest.
    permissions: Option<PermissionSet>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct DagRole {
    target: DagTarget,
    role: Arc<Role>,
}

impl Profile {
    /// Returns the claim that a token value of this profile must carry.
    pub(in crate::dataplane) fn role(&self) -> &RoleClaim {
        &self.role.claim
    }

    /// Returns all permissions, on any resource. Returns `None` if a role of the token is missing or faulty: the token has
    /// no permissions then.
    pub(in crate::dataplane) fn granted(&self) -> Option<Granted> {
        let mut granted = Granted { deployment: self.role.permissions?, dags: PermissionSet::empty() };
        for dag in &self.dag_roles {
            granted.dags = granted.dags.union(dag.role.permissions?);
        }
        Some(granted)
    }

    /// Returns the permissions on `dag`, or on the deployment if it is `None`. Returns `None` in the same case as
    /// [`Self::granted`].
    pub(in crate::dataplane) fn permissions(&self, dag: Option<&str>, tags: &Tags) -> Option<PermissionSet> {
        let mut allowed = self.role.permissions?;
        for bound in &self.dag_roles {
            let permissions = bound.role.permissions?;
            if dag.is_some_and(|dag| includes(&bound.target, dag, tags)) {
                allowed = allowed.union(permissions);
            }
        }
        Some(allowed)
    }
}

/// Returns true if `target` includes `dag`. `tags` are the tags of each Dag of its deployment.
pub(in crate::dataplane) fn includes(target: &DagTarget, dag: &str, tags: &Tags) -> bool {
    match target {
        DagTarget::Dag(id) => id == dag,
        DagTarget::Tag(tag) => tags.get(dag).is_some_and(|of_dag| of_dag.contains(tag)),
    }
}

/// Profiles, roles and deployments in use, each once.
#[derive(Default)]
pub(super) struct Pool {
    profiles: Shared<Profile>,
    roles: Shared<Role>,
    deployments: Shared<DeploymentId>,
}

impl Pool {
    /// Returns the profile of a token, whose roles are looked up in `roles`.
    pub(super) fn profile(&mut self, record: &TokenRecord, roles: &Roles) -> Arc<Profile> {
        let dags = record.dag_roles.iter();
        let dag_roles = dags.map(|dag| DagRole {
            target: dag.target.clone(),
            role: self.role(&dag.role, RoleScope::Dag, roles),
        });
        let dag_roles = dag_roles.collect();
        let network = |source: &String| network::parse(source).map(forwarded::canonical);
        let profile = Profile {
            deployment: self.deployments.share(record.deployment.clone()),
            role: self.role(&record.role, RoleScope::Deployment, roles),
            dag_roles,
            sources: record.sources.iter().map(network).collect(),
            rate_limit_per_minute: record.rate_limit_per_minute,
        };
        self.profiles.share(profile)
    }

    /// Returns `profile` with its roles looked up anew in `roles`.
    pub(super) fn renewed(&mut self, profile: &Profile, roles: &Roles) -> Arc<Profile> {
        let dags = profile.dag_roles.iter();
        let dag_roles = dags.map(|dag| DagRole {
            target: dag.target.clone(),
            role: self.role(&dag.role.claim, RoleScope::Dag, roles),
        });
        let dag_roles = dag_roles.collect();
        let role = self.role(&profile.role.claim, RoleScope::Deployment, roles);
        self.profiles.share(Profile { role, dag_roles, ..profile.clone() })
    }

    /// Returns the number of profiles.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.profiles.values.len()
    }

    /// Returns true if a profile may name the role.
    pub(super) fn names(&self, role: &RoleRef) -> bool {
        self.roles.values.iter().any(|used| used.claim.id == *role)
    }

    /// Returns a role as a token names it. It applies only to its own scope: a role for Dags grants nothing on the
    /// deployment.
    fn role(&mut self, claim: &RoleClaim, on: RoleScope, roles: &Roles) -> Arc<Role> {
        let found = roles.get(&claim.id);
        let found = found.filter(|(digest, scope, _)| *digest == claim.digest && *scope == on);
        self.roles
            .share(Role { claim: claim.clone(), permissions: found.map(|(_, _, permissions)| *permissions) })
    }
}

/// Values that are kept once. Those that nothing else refers to are dropped when their number may have doubled.
struct Shared<T> {
    values: HashSet<Arc<T>, RandomState>,
    /// Number of values at which unused ones are dropped.
    sweep_at: usize,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { values: HashSet::default(), sweep_at: SWEEP }
    }
}

impl<T: Eq + Hash> Shared<T> {
    fn share(&mut self, value: T) -> Arc<T> {
        if let Some(known) = self.values.get(&value) {
            return Arc::clone(known);
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (self.values.len() * 2).max(SWEEP);
        }
        let value = Arc::new(value);
        self.values.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_nothing_refers_to_are_dropped_when_their_number_may_have_doubled() {
        let mut shared = Shared::default();
        let used: Vec<_> = (0..3 * SWEEP).map(|number| shared.share(number)).collect();
        let (mut before, mut sweeps) = (shared.values.len(), 0);
        for number in used.len()..30 * used.len() {
            shared.share(number);
            let kept = shared.values.len();
            assert!(kept <= 2 * used.len(), "{kept}");
            sweeps += usize::from(kept <= before);
            before = kept;
        }
        assert!((28..=30).contains(&sweeps), "a sweep visits all values, and there were {sweeps}");
        assert!(used.iter().enumerate().all(|(number, used)| Arc::ptr_eq(used, &shared.share(number))));
    }
}
