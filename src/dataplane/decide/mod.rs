//! Decides on a request: a pure function of the token's bytes, the facts of the request, a snapshot of the replica, and
//! the time.
//!
//! The function does no I/O and takes no lock. `Step::all` calls the steps in order; the first one that returns a
//! [`Reason`] denies the request.

pub mod glass;
mod head_age;
pub mod index;
pub mod introspection;
mod now;
mod reason;
pub mod routes;
pub mod signatures;
pub mod snapshot;
pub mod staleness;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

pub use head_age::HeadAge;
pub use now::{CLOCK_TOLERANCE, Now};
pub use reason::Reason;

use self::index::{Deployment, Grant, Revoked};
use self::introspection::Introspection;
use self::routes::{CanonicalPath, Match};
use self::snapshot::{Granted, Local, Proved, Snapshot};
use self::staleness::{AtLimit, Freshness};
use crate::protocol::glass::GlassState;
use crate::protocol::host::host_name;
use crate::protocol::id::{DeploymentId, TokenId};
use crate::protocol::permission::{Permission, PermissionSet};
use crate::protocol::role::RoleRef;
use crate::protocol::token::{TokenError, TokenKind, VerifiedToken};

/// Deployment to which a request is directed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Identifier of the deployment, from the proxy's configuration.
    Id(&'a str),
    /// Host name of the request. The deployment is the one whose record lists it.
    Host(&'a str),
    /// The request names no host, or contradictory ones.
    Unknown,
}

/// Facts of a request, except its token.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// Deployment to which the request is directed.
    pub deployment: Target<'a>,
    /// Method of the request.
    pub method: &'a str,
    /// Path and query of the request, as the client sent them.
    pub uri: &'a str,
    /// Address of the client, if known.
    pub client: Option<IpAddr>,
}

/// Result of a decision, with the facts that the steps found before it ended. A step that was not reached leaves its
/// members empty.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Reason of the result: [`Reason::Ok`] allows the request, any other denies it.
    pub reason: Reason,
    /// Identifier of the token, after its signature was found valid.
    pub token: Option<TokenId>,
    /// Generation of the token.
    pub generation: Option<u32>,
    /// Role of the token.
    pub role: Option<RoleRef>,
    /// Deployment of the request, if the replica holds it.
    pub deployment: Option<DeploymentId>,
    /// State of the deployment's glass.
    pub glass: Option<GlassState>,
    /// Template of the route that matched.
    pub route: Option<Arc<str>>,
    /// Canonical path of the request.
    pub path: Option<String>,
    /// Permission that the route requires.
    pub permission: Option<Permission>,
    /// All permissions of the token, not only the required one.
    pub granted: Granted,
    /// Age of the replica and the limit for the token's role, in seconds.
    pub freshness: Option<Freshness>,
    /// Maximum number of uses of the token in a minute.
    pub rate_limit: Option<u32>,
    /// Seconds after which a retry can succeed, for the header `Retry-After`.
    pub retry_after: Option<u64>,
    /// True if the request may change something. Without a route, every method but GET and HEAD counts as mutating.
    pub mutating: bool,
}

impl Decision {
    /// Returns a decision with this reason and no other facts.
    #[must_use]
    pub fn new(reason: Reason, facts: &RequestFacts<'_>) -> Self {
        Self {
            reason,
            token: None,
            generation: None,
            role: None,
            deployment: None,
            glass: None,
            route: None,
            path: None,
            permission: None,
            granted: Granted::default(),
            freshness: None,
            rate_limit: None,
            retry_after: None,
            mutating: !matches!(facts.method, "GET" | "HEAD"),
        }
    }

    /// Returns true if the request is allowed.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.reason == Reason::Ok
    }

    /// Explains a denial further than its reason code: for a stale replica, the age, the limit and the setting that
    /// defines the limit.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        let Freshness { age, limit, setting } =
            self.freshness.filter(|_| self.reason == Reason::ReplicaStale)?;
        let key = setting.key(self.role.as_ref().map_or("", RoleRef::name));
        Some(format!(
            "the replica was signed {age} s ago; {key} allows {limit} s in this host's configuration"
        ))
    }
}

/// Decides with the replica alone. A standard token gets [`Reason::NeedsControlPlane`] at best.
///
/// ```
/// use halligan::dataplane::decide::{Now, Reason, RequestFacts, Target, decide};
/// use halligan::dataplane::decide::snapshot::Snapshot;
/// use halligan::protocol::time::Time;
///
/// let deployment = Target::Id("dep_a");
/// let facts = RequestFacts { deployment, method: "GET", uri: "/api/v2/dags", client: None };
/// let wall = Time::from_unix(1_800_000_000);
/// let decision = decide(Some(b"token"), &facts, &Snapshot::absent(), Now { wall, floor: wall });
/// assert_eq!(decision.reason, Reason::ReplicaMissing);
/// ```
#[must_use]
pub fn decide(token: Option<&[u8]>, facts: &RequestFacts<'_>, snapshot: &Snapshot, now: Now) -> Decision {
    decide_introspected(token, None, facts, snapshot, now)
}

/// Decides like [`decide`], with the control plane's answer about a standard token. A direct-access token is decided from
/// the replica, and the answer is ignored.
#[must_use]
pub fn decide_introspected(
    token: Option<&[u8]>,
    introspection: Option<&Introspection>,
    facts: &RequestFacts<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> Decision {
    let mut decision = Decision::new(Reason::Ok, facts);
    let step = Step { facts, now, decision: &mut decision };
    if let Err(reason) = step.all(token, introspection, snapshot) {
        decision.reason = reason;
    }
    decision
}

struct Step<'a> {
    facts: &'a RequestFacts<'a>,
    now: Now,
    decision: &'a mut Decision,
}

impl Step<'_> {
    fn all(
        mut self,
        token: Option<&[u8]>,
        introspection: Option<&Introspection>,
        snapshot: &Snapshot,
    ) -> Result<(), Reason> {
        let bytes = token.filter(|bytes| !bytes.is_empty()).ok_or(Reason::TokenMissing)?;
        let proved = snapshot.proved.as_deref().ok_or(Reason::ReplicaMissing)?;
        let token = self.signature(bytes, proved)?;
        if token.kind() == TokenKind::Standard {
            return self.standard(&token, introspection, proved, &snapshot.local);
        }
        let grant = Self::replica(&token, proved)?;
        self.decision.rate_limit = grant.profile.rate_limit_per_minute;
        self.liveness(&token, grant, &snapshot.local)?;
        let deployment = self.deployment(&token, grant, proved, &snapshot.local)?;
        self.source(grant)?;
        self.freshness(grant, proved, &snapshot.local)?;
        self.glass()?;
        self.permission(&token, grant, deployment)
    }

    fn signature(&mut self, bytes: &[u8], proved: &Proved) -> Result<Arc<VerifiedToken>, Reason> {
        let token = proved.signatures.verify(bytes, &proved.keyset).map_err(|error| match error {
            TokenError::Malformed => Reason::TokenMalformed,
            TokenError::TooLarge => Reason::TokenTooLarge,
            TokenError::KeyUnknown => Reason::KeyUnknown,
            TokenError::SignatureInvalid => Reason::SignatureInvalid,
        })?;
        self.decision.token = Some(token.claims().sub.clone());
        self.decision.generation = Some(token.claims().generation);
        self.decision.role = token.claims().role.as_ref().map(|role| role.id.clone());
        Ok(token)
    }

    fn replica<'s>(token: &VerifiedToken, proved: &'s Proved) -> Result<&'s Grant, Reason> {
        if token.claims().iss != proved.head.head().iss {
            return Err(Reason::TokenUnknown);
        }
        proved.index.grants.get(&token.claims().sub).ok_or(Reason::TokenUnknown)
    }

    fn liveness(&self, token: &VerifiedToken, grant: &Grant, local: &Local) -> Result<(), Reason> {
        let claims = token.claims();
        if grant.revoked != Revoked::No || local.revoked.contains_key(&claims.sub) {
            return Err(Reason::TokenRevoked);
        }
        if claims.generation < grant.generation.max(grant.superseded) {
            return Err(Reason::TokenRotated);
        }
        // A takeaway ends older generations. It does not make a generation valid that the replica does not hold.
        if claims.generation > grant.generation {
            return Err(Reason::TokenUnknown);
        }
        if !self.now.trusted() {
            return Err(Reason::ClockUntrusted);
        }
        let now = self.now.effective();
        if now >= grant.expires_at || claims.exp.is_none_or(|exp| now >= exp) {
            return Err(Reason::TokenExpired);
        }
        // `not_before` is compared with the clock, not the time floor: a floor that a wrong clock raised must not
        // activate a token early.
        if self.now.wall < grant.not_before || self.now.wall < claims.nbf {
            return Err(Reason::TokenNotYetValid);
        }
        Ok(())
    }

    fn deployment<'s>(
        &mut self,
        token: &VerifiedToken,
        grant: &Grant,
        proved: &'s Proved,
        local: &Local,
    ) -> Result<&'s Deployment, Reason> {
        let deployment = self.target(proved)?;
        self.decision.glass = Some(local.glass(deployment, self.now.effective()));
        if token.claims().aud != deployment.id.as_str() || *grant.profile.deployment != deployment.id {
            return Err(Reason::WrongDeployment);
        }
        Ok(deployment)
    }

    /// Finds the deployment of the request in the replica.
    fn target<'s>(&mut self, proved: &'s Proved) -> Result<&'s Deployment, Reason> {
        let id = match self.facts.deployment {
            Target::Unknown => return Err(Reason::PathInvalid),
            Target::Id(id) => id,
            Target::Host(host) => {
                let known = proved
                    .directory
                    .hosts
                    .get(host)
                    .or_else(|| proved.directory.hosts.get(&*host_name(host)));
                known.and_then(Option::as_ref).ok_or(Reason::WrongDeployment)?.as_str()
            }
        };
        let deployment = proved.directory.deployments.get(id).ok_or(Reason::WrongDeployment)?;
        self.decision.deployment = Some(deployment.id.clone());
        Ok(deployment)
    }

    fn source(&self, grant: &Grant) -> Result<(), Reason> {
        let sources = grant.profile.sources.as_ref().ok_or(Reason::SourceNotAllowed)?;
        let within = |client: IpAddr| sources.iter().any(|network| network.contains(&client.to_canonical()));
        if sources.is_empty() || self.facts.client.is_some_and(within) {
            Ok(())
        } else {
            Err(Reason::SourceNotAllowed)
        }
    }

    fn freshness(&mut self, grant: &Grant, proved: &Proved, local: &Local) -> Result<(), Reason> {
        let age = self.now.effective().since(local.signed_at(proved.head.head()));
        let freshness = proved.staleness.judge(grant.profile.role().id.name(), age);
        self.decision.freshness = Some(freshness);
        if freshness.over() && proved.staleness.at_limit == AtLimit::Deny {
            Err(Reason::ReplicaStale)
        } else {
            Ok(())
        }
    }

    fn glass(&self) -> Result<(), Reason> {
        if self.decision.glass == Some(GlassState::Sealed) { Err(Reason::GlassSealed) } else { Ok(()) }
    }

    /// Decides on a standard token. The checks that need only this node come first; the control plane's answer can't
    /// overrule them.
    fn standard(
        &mut self,
        token: &VerifiedToken,
        introspection: Option<&Introspection>,
        proved: &Proved,
        local: &Local,
    ) -> Result<(), Reason> {
        let claims = token.claims();
        // The audience of a standard token is its issuer. A token for another audience is not meant for this data plane.
        if claims.iss != proved.head.head().iss || claims.aud != claims.iss {
            return Err(Reason::TokenUnknown);
        }
        if local.revoked.contains_key(&claims.sub) {
            return Err(Reason::TokenRevoked);
        }
        if !self.now.trusted() {
            return Err(Reason::ClockUntrusted);
        }
        if claims.exp.is_some_and(|exp| self.now.effective() >= exp) {
            return Err(Reason::TokenExpired);
        }
        if self.now.wall < claims.nbf {
            return Err(Reason::TokenNotYetValid);
        }
        let deployment = self.target(proved)?;
        let said = introspection.filter(|said| said.concerns(claims, &deployment.id));
        let said = said.ok_or(Reason::NeedsControlPlane)?;
        let permissions = said.permissions.as_ref().ok_or(Reason::TokenRevoked)?;
        let (not_before, expires) = said.valid;
        if expires.is_some_and(|exp| self.now.effective() >= exp) {
            return Err(Reason::TokenExpired);
        }
        if not_before.is_some_and(|nbf| self.now.wall < nbf) {
            return Err(Reason::TokenNotYetValid);
        }
        let path = CanonicalPath::parse(self.facts.uri).map_err(|_| Reason::PathInvalid)?;
        let found = self.route(deployment, &path)?;
        self.decision.granted = permissions.granted();
        allow(permissions.on(found.dag, &deployment.tags), &found)
    }

    fn permission(
        &mut self,
        token: &VerifiedToken,
        grant: &Grant,
        deployment: &Deployment,
    ) -> Result<(), Reason> {
        let path = CanonicalPath::parse(self.facts.uri).map_err(|_| Reason::PathInvalid)?;
        let found = self.route(deployment, &path)?;
        if token.claims().role.as_ref() != Some(grant.profile.role()) {
            return Err(Reason::RoleMismatch);
        }
        self.decision.granted = grant.profile.granted().ok_or(Reason::RoleMismatch)?;
        let permissions = grant.profile.permissions(found.dag, &deployment.tags);
        allow(permissions.ok_or(Reason::RoleMismatch)?, &found)
    }

    fn route<'m, 'p>(
        &mut self,
        deployment: &'m Deployment,
        path: &'p CanonicalPath<'_>,
    ) -> Result<Match<'m, 'p>, Reason> {
        let found = deployment.routes.as_ref().and_then(|routes| routes.find(self.facts.method, path));
        // Only a matching route can allow an encoded slash in the path.
        if found.is_none() && path.encoded_slash().is_some() {
            return Err(Reason::PathInvalid);
        }
        self.decision.path = Some(path.as_str().to_owned());
        let found = found.ok_or(Reason::RouteUnknown)?;
        self.decision.route = Some(Arc::clone(&found.route.template));
        self.decision.permission = Some(found.route.permission);
        self.decision.mutating = found.route.mutating;
        Ok(found)
    }
}

fn allow(permissions: PermissionSet, found: &Match<'_, '_>) -> Result<(), Reason> {
    if found.route.permissions.is_subset(permissions) { Ok(()) } else { Err(Reason::PermissionDenied) }
}
