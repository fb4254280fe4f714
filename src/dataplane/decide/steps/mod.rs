//! Steps of a decision, in order: credential, liveness, deployment, conditions, route, permission.

mod permission;

use std::net::IpAddr;
use std::sync::Arc;

use super::decision::Findings;
use super::genuine::{GenuineCredential, verify_token};
use super::index::{Deployment, Grant, Revoked};
use super::introspection::Introspection;
use super::session::{Durations, Session};
use super::snapshot::{Granted, Local, Proved, Snapshot};
use super::staleness::AtLimit;
use super::{Allowed, Authority, Credential, Decision, Denied, Now, Reason, RequestFacts, Target};
use crate::protocol::glass::GlassState;
use crate::protocol::host::host_name;
use crate::protocol::id::{DeploymentId, SessionId};
use crate::protocol::token::{Claims, TokenKind, VerifiedToken};

/// Decision in progress.
struct Step<'s> {
    facts: &'s RequestFacts<'s>,
    now: Now,
    claims: &'s Claims,
    deployment: Option<&'s Deployment>,
    found: Findings,
}

/// Conditions under which a request is allowed, all of which hold.
struct Admission {
    deployment: DeploymentId,
    granted: Granted,
    rate_limit: Option<u32>,
}

/// Decides on a request. `verify` returns the token of some bytes; its outer error ends the decision without a result.
pub(super) fn request<U>(
    facts: &RequestFacts<'_>,
    now: Now,
    verify: impl FnOnce(&[u8], &Proved) -> Result<Result<Arc<VerifiedToken>, Reason>, U>,
    credential: Option<Credential<'_>>,
    introspection: Option<&Introspection>,
    snapshot: &Snapshot,
) -> Result<Decision, U> {
    let denied = |reason| Ok(Decision::Denied(Denied::new(reason, facts)));
    let empty = |credential: &Credential<'_>| matches!(credential, Credential::Token([]));
    let Some(credential) = credential.filter(|credential| !empty(credential)) else {
        return denied(Reason::TokenMissing);
    };
    let Some(proved) = snapshot.proved.as_deref() else { return denied(Reason::ReplicaMissing) };
    let token;
    let credential = match credential {
        Credential::Token(bytes) => match verify(bytes, proved)? {
            Ok(verified) => {
                token = verified;
                GenuineCredential::Token(&token)
            }
            Err(reason) => return denied(reason),
        },
        Credential::Session(session, initiator) => GenuineCredential::Session(session, initiator),
    };
    let mut step = Step::new(facts, now, credential.claims());
    let admission = step.request(&credential, introspection, proved, &snapshot.local);
    Ok(step.end(admission))
}

/// Decides on a sign-in: all but the route is decided as for a request. Returns the session if the sign-in is allowed.
///
/// ```
/// use halligan::dataplane::decide::session::Durations;
/// use halligan::dataplane::decide::snapshot::Snapshot;
/// use halligan::dataplane::decide::{Now, Reason, RequestFacts, Target, sign_in};
/// use halligan::protocol::time::Time;
///
/// let facts = RequestFacts { deployment: Target::Id("dep_a"), method: "GET", uri: "/", client: None };
/// let wall = Time::from_unix(1_800_000_000);
/// let now = Now { wall, floor: wall };
/// let wanted = ("ses_a".parse().unwrap(), Durations { max: 28_800, idle: 3_600 });
/// let (decision, session) = sign_in(b"token", None, wanted, &facts, &Snapshot::absent(), now);
/// assert_eq!(decision.reason(), Reason::ReplicaMissing);
/// assert!(session.is_none());
/// ```
#[must_use]
pub fn sign_in(
    bytes: &[u8],
    introspection: Option<&Introspection>,
    wanted: (SessionId, Durations),
    facts: &RequestFacts<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> (Decision, Option<Session>) {
    // A sign-in has no route, so its event names the path.
    let denied = |reason| (Decision::Denied(Denied::with_path(reason, facts)), None);
    if bytes.is_empty() {
        return denied(Reason::TokenMissing);
    }
    let Some(proved) = snapshot.proved.as_deref() else { return denied(Reason::ReplicaMissing) };
    let token = match verify_token(bytes, proved) {
        Ok(token) => token,
        Err(reason) => return denied(reason),
    };
    let mut step = Step::new(facts, now, token.claims());
    step.found.name_path(facts);
    match step.sign_in(&token, introspection, (proved, &snapshot.local), wanted) {
        Ok((session, admission)) => (step.end(Ok(admission)), Some(session)),
        Err(reason) => (step.end(Err(reason)), None),
    }
}

impl<'s> Step<'s> {
    fn new(facts: &'s RequestFacts<'s>, now: Now, claims: &'s Claims) -> Self {
        Self { facts, now, claims, deployment: None, found: Findings::initial(facts) }
    }

    /// Ends the decision.
    fn end(self, admission: Result<Admission, Reason>) -> Decision {
        let (token, generation) = (self.claims.sub.clone(), self.claims.generation);
        let role = self.claims.role.as_ref().map(|role| role.id.clone());
        match admission {
            Ok(Admission { deployment, granted, rate_limit }) => Decision::Allowed(Allowed {
                token,
                generation,
                authority: role.map_or(Authority::ControlPlane, Authority::Role),
                deployment,
                granted,
                rate_limit,
                findings: self.found,
            }),
            Err(reason) => Decision::Denied(Denied {
                token: Some(token),
                generation: Some(generation),
                role,
                deployment: self.deployment.map(|deployment| deployment.id.clone()),
                findings: self.found,
                ..Denied::new(reason, self.facts)
            }),
        }
    }

    /// Calls the steps of a request in order, and stops at the first one that denies.
    fn request(
        &mut self,
        credential: &GenuineCredential<'s>,
        introspection: Option<&'s Introspection>,
        proved: &'s Proved,
        local: &Local,
    ) -> Result<Admission, Reason> {
        self.session(credential, proved, local)?;
        if credential.is_standard() {
            self.same_site(credential)?;
            let (said, deployment) = self.standard(introspection, proved, local)?;
            // A session is for the deployment where it began. A standard token may open others too.
            if let GenuineCredential::Session(session, _) = credential
                && session.standard_on() != Some(&deployment.id)
            {
                return Err(Reason::WrongDeployment);
            }
            let granted = self.permission_said(said, deployment)?;
            return Ok(Admission { deployment: deployment.id.clone(), granted, rate_limit: None });
        }
        let (grant, deployment) = self.access(proved, local)?;
        self.same_site(credential)?;
        self.conditions(grant, proved, local)?;
        let granted = self.permission(grant, deployment)?;
        let rate_limit = grant.profile.rate_limit_per_minute;
        Ok(Admission { deployment: deployment.id.clone(), granted, rate_limit })
    }

    /// Calls the steps of a sign-in in order, and begins a session if all allow it.
    fn sign_in(
        &mut self,
        token: &VerifiedToken,
        introspection: Option<&'s Introspection>,
        (proved, local): (&'s Proved, &Local),
        (id, durations): (SessionId, Durations),
    ) -> Result<(Session, Admission), Reason> {
        let now = self.now.effective();
        let (ends, deployment, rate_limit) = if token.kind() == TokenKind::Standard {
            let (said, deployment) = self.standard(introspection, proved, local)?;
            let (_, ends) = said.valid;
            ((ends.unwrap_or(now.plus(durations.max)), Some(deployment.id.clone())), deployment, None)
        } else {
            let (grant, deployment) = self.access(proved, local)?;
            self.conditions(grant, proved, local)?;
            if self.claims.role.as_ref() != Some(grant.profile.role()) {
                return Err(Reason::RoleMismatch);
            }
            ((grant.expires_at, None), deployment, grant.profile.rate_limit_per_minute)
        };
        self.found.session = Some(id.clone());
        let begun = local.ended_sessions.beginning(now);
        let session = Session::begin(id, token, ends, (begun, now), durations);
        let deployment = deployment.id.clone();
        Ok((session, Admission { deployment, granted: Granted::default(), rate_limit }))
    }

    /// Checks that a session is used by a page of the deployment's own origin, or by a person who opens one.
    fn same_site(&mut self, credential: &GenuineCredential<'_>) -> Result<(), Reason> {
        match credential {
            GenuineCredential::Session(_, initiator) if !initiator.may_use_session(self.facts.method) => {
                // The event names the path, so that operators see what the other site requested.
                self.found.name_path(self.facts);
                Err(Reason::CrossSite)
            }
            _ => Ok(()),
        }
    }

    /// Checks that a session lasts, and that the key of its token is still in force.
    fn session(
        &mut self,
        credential: &GenuineCredential<'_>,
        proved: &Proved,
        local: &Local,
    ) -> Result<(), Reason> {
        let GenuineCredential::Session(session, _) = credential else { return Ok(()) };
        self.found.session = Some(session.id().clone());
        session.check(self.now, local.ended_sessions.holds(session.id(), session.begun()))?;
        proved.keyset.token_key(session.kid()).map(drop).ok_or(Reason::KeyUnknown)
    }

    /// Checks that the token is alive, and for this deployment.
    fn access(&mut self, proved: &'s Proved, local: &Local) -> Result<(&'s Grant, &'s Deployment), Reason> {
        let grant = self.grant(proved)?;
        self.liveness(grant, local)?;
        let deployment = self.deployment(grant, proved, local)?;
        Ok((grant, deployment))
    }

    /// Checks the conditions under which a living token is accepted.
    fn conditions(&mut self, grant: &Grant, proved: &Proved, local: &Local) -> Result<(), Reason> {
        self.source(grant)?;
        self.freshness(grant, proved, local)?;
        self.glass()
    }

    fn grant(&self, proved: &'s Proved) -> Result<&'s Grant, Reason> {
        if self.claims.iss != proved.head.head().iss {
            return Err(Reason::TokenUnknown);
        }
        proved.index.grants.get(&self.claims.sub).ok_or(Reason::TokenUnknown)
    }

    fn liveness(&self, grant: &Grant, local: &Local) -> Result<(), Reason> {
        let claims = self.claims;
        if grant.revoked != Revoked::No || local.revoked.contains_key(&claims.sub) {
            return Err(Reason::TokenRevoked);
        }
        if claims.generation < grant.generation.max(grant.superseded) {
            return Err(Reason::TokenRotated);
        }
        // A loss of access ends older generations. It does not make a generation valid that the replica does not hold.
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

    fn deployment(
        &mut self,
        grant: &Grant,
        proved: &'s Proved,
        local: &Local,
    ) -> Result<&'s Deployment, Reason> {
        let deployment = self.target(proved)?;
        self.found.glass = Some(local.glass(deployment, self.now.effective()));
        if self.claims.aud != deployment.id.as_str() || *grant.profile.deployment != deployment.id {
            return Err(Reason::WrongDeployment);
        }
        Ok(deployment)
    }

    /// Finds the deployment of the request in the replica.
    fn target(&mut self, proved: &'s Proved) -> Result<&'s Deployment, Reason> {
        let id = match self.facts.deployment {
            Target::Unknown => return Err(Reason::PathInvalid),
            Target::Id(id) | Target::Daemon(id) => id,
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
        self.deployment = Some(deployment);
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
        self.found.freshness = Some(freshness);
        if freshness.over() && proved.staleness.at_limit == AtLimit::Deny {
            Err(Reason::ReplicaStale)
        } else {
            Ok(())
        }
    }

    fn glass(&self) -> Result<(), Reason> {
        if self.found.glass == Some(GlassState::Sealed) { Err(Reason::GlassSealed) } else { Ok(()) }
    }

    /// Checks that a standard token is alive, and returns the control plane's answer about it. The checks that need only this
    /// node come first; the answer can't overrule them.
    fn standard(
        &mut self,
        introspection: Option<&'s Introspection>,
        proved: &'s Proved,
        local: &Local,
    ) -> Result<(&'s Introspection, &'s Deployment), Reason> {
        let claims = self.claims;
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
        if said.permissions.is_none() {
            return Err(Reason::TokenRevoked);
        }
        let (not_before, expires) = said.valid;
        if expires.is_some_and(|exp| self.now.effective() >= exp) {
            return Err(Reason::TokenExpired);
        }
        if not_before.is_some_and(|nbf| self.now.wall < nbf) {
            return Err(Reason::TokenNotYetValid);
        }
        Ok((said, deployment))
    }
}
