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
pub mod session;
pub mod signatures;
pub(in crate::dataplane) mod slots;
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
use self::session::{Durations, Initiator, Session};
use self::snapshot::{Granted, Local, Proved, Snapshot};
use self::staleness::{AtLimit, Freshness};
use crate::protocol::glass::GlassState;
use crate::protocol::host::host_name;
use crate::protocol::id::{DeploymentId, SessionId, TokenId};
use crate::protocol::permission::{Permission, PermissionSet};
use crate::protocol::role::RoleRef;
use crate::protocol::token::{Claims, TokenError, TokenKind, VerifiedToken};

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

/// Credential of a request.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// Bytes that a client presents as a token.
    Token(&'a [u8]),
    /// Session that a cookie opened, and the party that made the browser send the request.
    Session(&'a Session, Initiator),
}

/// Facts of a request, except its credential.
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
    /// Identifier of the session by which the token is used, or that a sign-in began.
    pub session: Option<SessionId>,
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
            session: None,
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
    decide_introspected(token.map(Credential::Token), None, facts, snapshot, now)
}

/// Decides like [`decide`], also on a session, and with the control plane's answer about a standard token. A direct-access
/// token is decided from the replica, and the answer is ignored.
#[must_use]
pub fn decide_introspected(
    credential: Option<Credential<'_>>,
    introspection: Option<&Introspection>,
    facts: &RequestFacts<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> Decision {
    let mut decision = Decision::new(Reason::Ok, facts);
    let step = Step { facts, now, decision: &mut decision };
    if let Err(reason) = step.all(credential, introspection, snapshot) {
        decision.reason = reason;
    }
    decision
}

/// Decides on a sign-in with a direct-access token: all but the route is decided as for a request. Returns the session if
/// the sign-in is allowed.
#[must_use]
pub fn sign_in(
    token: &[u8],
    (id, durations): (SessionId, Durations),
    facts: &RequestFacts<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> (Decision, Option<Session>) {
    let mut decision = Decision::new(Reason::Ok, facts);
    let step = Step { facts, now, decision: &mut decision };
    let begun = step.sign_in(token, snapshot, (id, durations));
    // The page's own path, which no route map holds.
    decision.path = CanonicalPath::parse(facts.uri).ok().map(|path| path.as_str().to_owned());
    match begun {
        Ok(session) => (decision, Some(session)),
        Err(reason) => (Decision { reason, ..decision }, None),
    }
}

/// Credential that was found genuine.
enum Proof<'c> {
    Token(Arc<VerifiedToken>),
    Session(&'c Session),
}

struct Step<'a> {
    facts: &'a RequestFacts<'a>,
    now: Now,
    decision: &'a mut Decision,
}

impl Step<'_> {
    fn all(
        mut self,
        credential: Option<Credential<'_>>,
        introspection: Option<&Introspection>,
        snapshot: &Snapshot,
    ) -> Result<(), Reason> {
        let empty = |credential: &Credential<'_>| matches!(credential, Credential::Token([]));
        let credential = credential.filter(|credential| !empty(credential)).ok_or(Reason::TokenMissing)?;
        let proved = snapshot.proved.as_deref().ok_or(Reason::ReplicaMissing)?;
        let (token, local) = (self.credential(credential, proved, &snapshot.local)?, &snapshot.local);
        let claims = match &token {
            Proof::Token(token) if token.kind() == TokenKind::Standard => {
                return self.standard(token, introspection, proved, local);
            }
            Proof::Token(token) => token.claims(),
            Proof::Session(session) => session.claims(),
        };
        let (grant, deployment) = self.access(claims, proved, local)?;
        if let Credential::Session(_, initiator) = credential
            && !initiator.may_use_session(self.facts.method)
        {
            return Err(Reason::CrossSite);
        }
        self.conditions(grant, proved, local)?;
        self.permission(claims, grant, deployment)
    }

    /// Decides on a sign-in: everything but the route and its permission.
    fn sign_in(
        mut self,
        token: &[u8],
        snapshot: &Snapshot,
        (id, durations): (SessionId, Durations),
    ) -> Result<Session, Reason> {
        if token.is_empty() {
            return Err(Reason::TokenMissing);
        }
        let proved = snapshot.proved.as_deref().ok_or(Reason::ReplicaMissing)?;
        let token = self.signature(token, proved)?;
        if token.kind() == TokenKind::Standard {
            return Err(Reason::NeedsControlPlane);
        }
        let (grant, _) = self.access(token.claims(), proved, &snapshot.local)?;
        self.conditions(grant, proved, &snapshot.local)?;
        if token.claims().role.as_ref() != Some(grant.profile.role()) {
            return Err(Reason::RoleMismatch);
        }
        self.decision.session = Some(id.clone());
        Ok(Session::begin(id, &token, grant.expires_at, self.now.effective(), durations))
    }

    /// Verifies the credential itself: the token's signature, or that the session lasts and that the key of its token is
    /// still in force.
    fn credential<'c>(
        &mut self,
        credential: Credential<'c>,
        proved: &Proved,
        local: &Local,
    ) -> Result<Proof<'c>, Reason> {
        let session = match credential {
            Credential::Token(bytes) => return self.signature(bytes, proved).map(Proof::Token),
            Credential::Session(session, _) => session,
        };
        self.decision.session = Some(session.id().clone());
        self.claimed(session.claims());
        session.check(self.now, local.ended_sessions.contains_key(session.id()))?;
        proved.keyset.token_key(session.kid()).ok_or(Reason::KeyUnknown)?;
        Ok(Proof::Session(session))
    }

    /// Checks that the token is alive, and for this deployment.
    fn access<'s>(
        &mut self,
        claims: &Claims,
        proved: &'s Proved,
        local: &Local,
    ) -> Result<(&'s Grant, &'s Deployment), Reason> {
        let grant = Self::replica(claims, proved)?;
        self.decision.rate_limit = grant.profile.rate_limit_per_minute;
        self.liveness(claims, grant, local)?;
        let deployment = self.deployment(claims, grant, proved, local)?;
        Ok((grant, deployment))
    }

    /// Checks the conditions under which a living token is accepted.
    fn conditions(&mut self, grant: &Grant, proved: &Proved, local: &Local) -> Result<(), Reason> {
        self.source(grant)?;
        self.freshness(grant, proved, local)?;
        self.glass()
    }

    fn claimed(&mut self, claims: &Claims) {
        self.decision.token = Some(claims.sub.clone());
        self.decision.generation = Some(claims.generation);
        self.decision.role = claims.role.as_ref().map(|role| role.id.clone());
    }

    fn signature(&mut self, bytes: &[u8], proved: &Proved) -> Result<Arc<VerifiedToken>, Reason> {
        let token = proved.signatures.verify(bytes, &proved.keyset).map_err(|error| match error {
            TokenError::Malformed => Reason::TokenMalformed,
            TokenError::TooLarge => Reason::TokenTooLarge,
            TokenError::KeyUnknown => Reason::KeyUnknown,
            TokenError::SignatureInvalid => Reason::SignatureInvalid,
        })?;
        self.claimed(token.claims());
        Ok(token)
    }

    fn replica<'s>(claims: &Claims, proved: &'s Proved) -> Result<&'s Grant, Reason> {
        if claims.iss != proved.head.head().iss {
            return Err(Reason::TokenUnknown);
        }
        proved.index.grants.get(&claims.sub).ok_or(Reason::TokenUnknown)
    }

    fn liveness(&self, claims: &Claims, grant: &Grant, local: &Local) -> Result<(), Reason> {
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
        claims: &Claims,
        grant: &Grant,
        proved: &'s Proved,
        local: &Local,
    ) -> Result<&'s Deployment, Reason> {
        let deployment = self.target(proved)?;
        self.decision.glass = Some(local.glass(deployment, self.now.effective()));
        if claims.aud != deployment.id.as_str() || *grant.profile.deployment != deployment.id {
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

    fn permission(&mut self, claims: &Claims, grant: &Grant, deployment: &Deployment) -> Result<(), Reason> {
        let path = CanonicalPath::parse(self.facts.uri).map_err(|_| Reason::PathInvalid)?;
        let found = self.route(deployment, &path)?;
        if claims.role.as_ref() != Some(grant.profile.role()) {
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
