//! The decision: a pure function from a token's bytes, the request's facts, a snapshot and the time to an answer.
//!
//! It does no I/O and takes no lock. Read [`Step`]'s methods from the top: each is one step of a request's way, and what
//! it returns is what is now known. The first step that finds a reason to deny ends it.

mod reason;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

pub use reason::Reason;

use super::introspection::Introspection;
use super::routes::{CanonicalPath, Match};
use super::snapshot::{Deployment, Grant, Granted, Local, Permissions, Proved, Snapshot};
use super::staleness::{AtLimit, Freshness};
use crate::protocol::glass::GlassState;
use crate::protocol::host::host_name;
use crate::protocol::id::{DeploymentId, TokenId};
use crate::protocol::permission::Permission;
use crate::protocol::role::RoleRef;
use crate::protocol::time::Time;
use crate::protocol::token::{TokenError, TokenKind, VerifiedToken};

/// How far behind the time floor a clock may be, in seconds, before it is not trusted.
pub const CLOCK_TOLERANCE: i64 = 300;

/// Which deployment a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// By id, as the proxy's configuration names it.
    Id(&'a str),
    /// By host name: the one deployment whose record lists it.
    Host(&'a str),
    /// The request names its host in no way, or in two.
    Unknown,
}

/// What is known of a request, apart from its token.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The deployment.
    pub deployment: Target<'a>,
    /// The method.
    pub method: &'a str,
    /// Path and query, as sent.
    pub uri: &'a str,
    /// Where it came from, if known.
    pub client: Option<IpAddr>,
}

/// The time: what the clock says, and what is known to have passed.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The clock.
    pub wall: Time,
    /// The latest time this node has proof of. It survives restarts, and falls only when the proof was found wrong
    /// ([`super::timekeeper`]).
    pub floor: Time,
}

impl Now {
    /// A clock set back does not bring a dead token back: the later of the two counts.
    #[must_use]
    pub fn effective(self) -> Time {
        self.wall.max(self.floor)
    }

    /// Whether the clock is not far behind what is known to have passed.
    #[must_use]
    pub fn trusted(self) -> bool {
        self.wall.plus(CLOCK_TOLERANCE) >= self.floor
    }
}

/// The answer, and what was known when it was given.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Why.
    pub reason: Reason,
    /// The token, once its signature held.
    pub token: Option<TokenId>,
    /// Its generation.
    pub generation: Option<u32>,
    /// Its role.
    pub role: Option<RoleRef>,
    /// The deployment asked for, once it was found.
    pub deployment: Option<DeploymentId>,
    /// How its glass stands.
    pub glass: Option<GlassState>,
    /// The template of the route.
    pub route: Option<Arc<str>>,
    /// The canonical path.
    pub path: Option<String>,
    /// The permission it needs.
    pub permission: Option<Permission>,
    /// What its token may do in all, once its roles were found.
    pub granted: Granted,
    /// How old the replica was, against what the role may rest on, once that was looked at.
    pub freshness: Option<Freshness>,
    /// How often the token may be used in a minute.
    pub rate_limit: Option<u32>,
    /// How long to wait before another try, in seconds, where that helps.
    pub retry_after: Option<u64>,
    /// Whether it may change something; what is not known to be a read counts as if it did.
    pub mutating: bool,
}

impl Decision {
    /// Returns a decision of which nothing else is known yet.
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

    /// Whether the request may pass.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.reason == Reason::Ok
    }

    /// What more there is to say of a denial than its reason does: of a replica that is too old, the setting that limits it.
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

/// Decides on what this node holds. A standard token needs more.
#[must_use]
pub fn decide(token: Option<&[u8]>, facts: &RequestFacts<'_>, snapshot: &Snapshot, now: Now) -> Decision {
    decide_introspected(token, None, facts, snapshot, now)
}

/// Decides with what the control plane says of a standard token. Of a direct-access token nobody is asked, and nothing
/// that is said counts.
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
        self.decision.rate_limit = grant.record.rate_limit_per_minute;
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
        proved.grants.get(&token.claims().sub).ok_or(Reason::TokenUnknown)
    }

    fn liveness(&self, token: &VerifiedToken, grant: &Grant, local: &Local) -> Result<(), Reason> {
        let (claims, record) = (token.claims(), &grant.record);
        if record.revoked_at.is_some() || local.revoked.contains_key(&claims.sub) {
            return Err(Reason::TokenRevoked);
        }
        match claims.generation.cmp(&record.generation) {
            std::cmp::Ordering::Less => return Err(Reason::TokenRotated),
            std::cmp::Ordering::Greater => return Err(Reason::TokenUnknown),
            std::cmp::Ordering::Equal => {}
        }
        if !self.now.trusted() {
            return Err(Reason::ClockUntrusted);
        }
        let now = self.now.effective();
        if now >= record.expires_at || claims.exp.is_none_or(|exp| now >= exp) {
            return Err(Reason::TokenExpired);
        }
        // What begins must not begin early on a clock that runs ahead of nothing but itself: the wall clock counts.
        if self.now.wall < record.not_before || self.now.wall < claims.nbf {
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
        if token.claims().aud != deployment.id.as_str() || grant.record.deployment != deployment.id {
            return Err(Reason::WrongDeployment);
        }
        Ok(deployment)
    }

    /// The deployment asked for.
    fn target<'s>(&mut self, proved: &'s Proved) -> Result<&'s Deployment, Reason> {
        let id = match self.facts.deployment {
            Target::Unknown => return Err(Reason::PathInvalid),
            Target::Id(id) => id,
            Target::Host(host) => {
                let known = proved.hosts.get(host).or_else(|| proved.hosts.get(&*host_name(host)));
                known.and_then(Option::as_ref).ok_or(Reason::WrongDeployment)?.as_str()
            }
        };
        let deployment = proved.deployments.get(id).ok_or(Reason::WrongDeployment)?;
        self.decision.deployment = Some(deployment.id.clone());
        Ok(deployment)
    }

    fn source(&self, grant: &Grant) -> Result<(), Reason> {
        let sources = grant.sources.as_ref().ok_or(Reason::SourceNotAllowed)?;
        let within = |client: IpAddr| sources.iter().any(|network| network.contains(&client.to_canonical()));
        if sources.is_empty() || self.facts.client.is_some_and(within) {
            Ok(())
        } else {
            Err(Reason::SourceNotAllowed)
        }
    }

    fn freshness(&mut self, grant: &Grant, proved: &Proved, local: &Local) -> Result<(), Reason> {
        let age = self.now.effective().since(local.signed_at(proved.head.head()));
        let freshness = proved.staleness.judge(grant.record.role.id.name(), age);
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

    /// A standard token's way: what can be known here is, before the control plane's word counts.
    fn standard(
        &mut self,
        token: &VerifiedToken,
        introspection: Option<&Introspection>,
        proved: &Proved,
        local: &Local,
    ) -> Result<(), Reason> {
        let claims = token.claims();
        // A standard token is for its control plane: one for another audience is none of this data plane's.
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
        self.allowed(permissions, &found, deployment)
    }

    fn permission(
        &mut self,
        token: &VerifiedToken,
        grant: &Grant,
        deployment: &Deployment,
    ) -> Result<(), Reason> {
        let path = CanonicalPath::parse(self.facts.uri).map_err(|_| Reason::PathInvalid)?;
        let found = self.route(deployment, &path)?;
        if token.claims().role.as_ref() != Some(&grant.record.role) {
            return Err(Reason::RoleMismatch);
        }
        self.allowed(grant.permissions.as_ref().ok_or(Reason::RoleMismatch)?, &found, deployment)
    }

    fn route<'m, 'p>(
        &mut self,
        deployment: &'m Deployment,
        path: &'p CanonicalPath<'_>,
    ) -> Result<Match<'m, 'p>, Reason> {
        let found = deployment.routes.as_ref().and_then(|routes| routes.find(self.facts.method, path));
        // No route says that the slash may be encoded there.
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

    fn allowed(
        &mut self,
        permissions: &Permissions,
        found: &Match<'_, '_>,
        deployment: &Deployment,
    ) -> Result<(), Reason> {
        self.decision.granted = permissions.granted();
        let allowed = permissions.on(found.dag, &deployment.tags);
        if found.route.permissions.is_subset(allowed) { Ok(()) } else { Err(Reason::PermissionDenied) }
    }
}
