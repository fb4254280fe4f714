//! Steps of a decision, in order: credential, liveness, deployment, conditions, route, permission.

use std::net::IpAddr;
use std::sync::Arc;

use super::index::{Deployment, Grant, Revoked};
use super::introspection::Introspection;
use super::routes::{CanonicalPath, Match, RouteMap};
use super::session::{Durations, Session};
use super::snapshot::{Local, Proved, Snapshot};
use super::staleness::AtLimit;
use super::{Credential, Decision, Now, Reason, RequestFacts, Target};
use crate::protocol::glass::GlassState;
use crate::protocol::host::host_name;
use crate::protocol::id::SessionId;
use crate::protocol::permission::PermissionSet;
use crate::protocol::token::{Claims, TokenError, TokenKind, VerifiedToken};

/// Credential that was found genuine.
enum Proof<'c> {
    Token(Arc<VerifiedToken>),
    Session(&'c Session),
}

/// Reason for which a decision ends before its last step.
pub(super) enum Stop {
    /// The request is denied.
    Denied(Reason),
    /// The token's signature was not verified before, and no signature is to be verified.
    SignatureUnverified,
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Denied(reason)
    }
}

/// Decision in progress.
pub(super) struct Step<'a> {
    pub(super) facts: &'a RequestFacts<'a>,
    pub(super) now: Now,
    pub(super) decision: &'a mut Decision,
}

impl Step<'_> {
    /// Decides on a request: calls the steps in order, and stops at the first one that denies. `verify` returns the token of
    /// some bytes.
    pub(super) fn all<E: From<Reason>>(
        mut self,
        verify: impl FnOnce(&[u8], &Proved) -> Result<Arc<VerifiedToken>, E>,
        credential: Option<Credential<'_>>,
        introspection: Option<&Introspection>,
        snapshot: &Snapshot,
    ) -> Result<(), E> {
        let empty = |credential: &Credential<'_>| matches!(credential, Credential::Token([]));
        let credential = credential.filter(|credential| !empty(credential)).ok_or(Reason::TokenMissing)?;
        let proved = snapshot.proved.as_deref().ok_or(Reason::ReplicaMissing)?;
        let (token, local) = (self.credential(verify, credential, proved, &snapshot.local)?, &snapshot.local);
        let (claims, standard) = match &token {
            Proof::Token(token) => (token.claims(), token.kind() == TokenKind::Standard),
            Proof::Session(session) => (session.claims(), session.standard_on().is_some()),
        };
        if standard {
            self.same_site(credential)?;
            let (said, deployment) = self.standard(claims, introspection, proved, local)?;
            // A session is for the deployment where it began. A standard token may open others too.
            if let Proof::Session(session) = token
                && session.standard_on() != Some(&deployment.id)
            {
                return Err(Reason::WrongDeployment.into());
            }
            return Ok(self.permission_said(said, deployment)?);
        }
        let (grant, deployment) = self.access(claims, proved, local)?;
        self.same_site(credential)?;
        self.conditions(grant, proved, local)?;
        Ok(self.permission(claims, grant, deployment)?)
    }

    /// Decides on a sign-in: everything but the route and its permission.
    pub(super) fn sign_in(
        mut self,
        token: &[u8],
        introspection: Option<&Introspection>,
        snapshot: &Snapshot,
        (id, durations): (SessionId, Durations),
    ) -> Result<Session, Reason> {
        if token.is_empty() {
            return Err(Reason::TokenMissing);
        }
        let (proved, local) = (snapshot.proved.as_deref().ok_or(Reason::ReplicaMissing)?, &snapshot.local);
        let (token, now) = (verified(token, proved)?, self.now.effective());
        self.claimed(token.claims());
        let ends = if token.kind() == TokenKind::Standard {
            let (said, deployment) = self.standard(token.claims(), introspection, proved, local)?;
            let (_, ends) = said.valid;
            (ends.unwrap_or(now.plus(durations.max)), Some(deployment.id.clone()))
        } else {
            let (grant, _) = self.access(token.claims(), proved, local)?;
            self.conditions(grant, proved, local)?;
            if token.claims().role.as_ref() != Some(grant.profile.role()) {
                return Err(Reason::RoleMismatch);
            }
            (grant.expires_at, None)
        };
        self.decision.session = Some(id.clone());
        let begun = local.ended_sessions.beginning(now);
        Ok(Session::begin(id, &token, ends, (begun, now), durations))
    }

    /// Checks that a session is used by a page of the deployment's own origin, or by a person who opens one.
    fn same_site(&mut self, credential: Credential<'_>) -> Result<(), Reason> {
        match credential {
            Credential::Session(_, initiator) if !initiator.may_use_session(self.facts.method) => {
                // Whoever looks into it needs to know what another site tried.
                self.decision.name_path(self.facts);
                Err(Reason::CrossSite)
            }
            _ => Ok(()),
        }
    }

    /// Verifies the credential itself: the token's signature, or that the session lasts and that the key of its token is
    /// still in force.
    fn credential<'c, E: From<Reason>>(
        &mut self,
        verify: impl FnOnce(&[u8], &Proved) -> Result<Arc<VerifiedToken>, E>,
        credential: Credential<'c>,
        proved: &Proved,
        local: &Local,
    ) -> Result<Proof<'c>, E> {
        let session = match credential {
            Credential::Token(bytes) => {
                let token = verify(bytes, proved)?;
                self.claimed(token.claims());
                return Ok(Proof::Token(token));
            }
            Credential::Session(session, _) => session,
        };
        self.decision.session = Some(session.id().clone());
        self.claimed(session.claims());
        session.check(self.now, local.ended_sessions.holds(session.id(), session.begun()))?;
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

    /// Checks that a standard token is alive, and returns the control plane's answer about it. The checks that need only this
    /// node come first; the answer can't overrule them.
    fn standard<'i, 's>(
        &mut self,
        claims: &Claims,
        introspection: Option<&'i Introspection>,
        proved: &'s Proved,
        local: &Local,
    ) -> Result<(&'i Introspection, &'s Deployment), Reason> {
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

    /// Checks that the control plane's answer allows the route.
    fn permission_said(&mut self, said: &Introspection, deployment: &Deployment) -> Result<(), Reason> {
        let permissions = said.permissions.as_ref().ok_or(Reason::TokenRevoked)?;
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
        let routes = match self.facts.deployment {
            Target::Daemon(_) => Some(RouteMap::daemon()),
            _ => deployment.routes.as_deref(),
        };
        let found = routes.and_then(|routes| routes.find(self.facts.method, path));
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

/// Returns the token of some bytes. Verifies its signature, if that was not done before.
pub(super) fn verified(bytes: &[u8], proved: &Proved) -> Result<Arc<VerifiedToken>, Reason> {
    proved.signatures.verify(bytes, &proved.keyset).map_err(|error| match error {
        TokenError::Malformed => Reason::TokenMalformed,
        TokenError::TooLarge => Reason::TokenTooLarge,
        TokenError::KeyUnknown => Reason::KeyUnknown,
        TokenError::SignatureInvalid => Reason::SignatureInvalid,
    })
}

/// Returns the token of some bytes, if its signature was verified before.
pub(super) fn known(bytes: &[u8], proved: &Proved) -> Result<Arc<VerifiedToken>, Stop> {
    proved.signatures.known(bytes).ok_or(Stop::SignatureUnverified)
}

fn allow(permissions: PermissionSet, found: &Match<'_, '_>) -> Result<(), Reason> {
    if found.route.permissions.is_subset(permissions) { Ok(()) } else { Err(Reason::PermissionDenied) }
}
