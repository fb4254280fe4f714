//! Authorizes requests: decides, records the event, and counts the answer. Every interface calls this module.

pub mod introspection;
pub mod rate;
pub mod sessions;
mod verification_permits;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot::Receiver;

use self::introspection::Introspector;
use self::rate::RateLimits;
use self::sessions::Sessions;
pub use self::verification_permits::{VerificationPermit, VerificationPermits};
use super::audit::{AuditLog, AuditUnavailable};
use super::decide::introspection::Introspection;
use super::decide::session::Session;
use super::decide::snapshot::Snapshot;
use super::decide::{
    Credential, Decision, Denied, Facts, Now, Reason, RequestFacts, Target, decide, decide_introspected,
    decide_known, sign_in,
};
use crate::dataplane::node::state::Live;
use crate::dataplane::observe::metrics::Metrics;
use crate::dataplane::observe::traces::{Trace, Traces};
use crate::platform::clock::Clock;
use crate::protocol::event::{Draft, EventId, EventKind};
use crate::protocol::glass::GlassState;
use crate::protocol::id::{DeploymentId, NodeId, SessionId};
use crate::protocol::permission::Permission;
use crate::protocol::time::Time;

/// A well-formed token, `{"alg":"EdDSA","typ":"direct-access+jwt","kid":"probe"}`, that no key has signed.
const PROBE: &[u8] = b"eyJhbGciOiJFZERTQSIsInR5cCI6ImRpcmVjdC1hY2Nlc3Mrand0Iiwia2lkIjoicHJvYmUifQ.e30.\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Parts that a decision needs.
pub struct Authorizer {
    /// Snapshot in force, and state of the node.
    pub live: Arc<Live>,
    /// Audit log of the node.
    pub audit: Arc<AuditLog>,
    /// Identifier of this node.
    pub node: NodeId,
    /// Clock of the node.
    pub clock: Clock,
    /// Counters of decisions.
    pub metrics: Metrics,
    /// Recent uses of tokens with a rate limit.
    pub rates: RateLimits,
    /// Bounds the signatures that are verified at a time.
    pub permits: Arc<VerificationPermits>,
    /// Asks the control plane about standard tokens. If it is `None`, they are denied.
    pub introspector: Option<Arc<Introspector>>,
    /// Sessions of browsers. If it is `None`, cookies are ignored and nobody can sign in.
    pub sessions: Option<Arc<Sessions>>,
    /// Exports decisions as spans.
    pub traces: Traces,
}

/// Decision whose event is recorded, so that it may be sent. `D` is [`Denied`] where nothing else is possible.
#[derive(Clone, Debug)]
pub struct Verdict<D = Decision> {
    /// Decision on the request.
    pub decision: D,
    /// Identifier of the event.
    pub event: EventId,
    /// Time of the request.
    pub time: Time,
}

/// Beginning of the work on a request.
struct Begun {
    started: Instant,
    event: EventId,
    wall: Time,
}

impl Begun {
    fn now(authorizer: &Authorizer) -> Self {
        Self { started: Instant::now(), event: authorizer.audit.next_id(), wall: (authorizer.clock)() }
    }
}

#[cfg(test)]
impl Authorizer {
    /// Returns one without sessions and without standard tokens.
    pub(in crate::dataplane) fn plain(
        (live, audit): (Arc<Live>, Arc<AuditLog>),
        node: NodeId,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let (rates, permits, traces) = (RateLimits::default(), Arc::default(), Traces::default());
        Self { live, audit, node, clock, metrics, rates, permits, introspector: None, sessions: None, traces }
    }
}

impl Authorizer {
    /// Decides on a request. Returns once its event is in the log's queue, or, for a mutating request that is allowed, on
    /// the disk. `trace` gets the result.
    pub async fn authorize(
        &self,
        credential: Option<Credential<'_>>,
        facts: &RequestFacts<'_>,
        trace: Trace,
    ) -> Verdict {
        let begun = Begun::now(self);
        let decision = self.consider(credential, facts, begun.wall).await;
        self.conclude(begun, decision, facts, trace).await
    }

    /// Decides on a sign-in, and records it like a request. Returns the session if it is allowed and recorded.
    pub async fn sign_in(
        &self,
        sessions: &Sessions,
        token: &[u8],
        facts: &RequestFacts<'_>,
        trace: Trace,
    ) -> (Verdict, Option<Session>) {
        let begun = Begun::now(self);
        let (decision, session) = match sessions.next_id() {
            Some(id) => self.begin(sessions, token, id, facts, begun.wall).await,
            None => (Decision::Denied(Denied::new(Reason::AuditUnavailable, facts)), None),
        };
        let verdict = self.conclude(begun, decision, facts, trace).await;
        let session = session.filter(|_| verdict.decision.allowed());
        if let Some(session) = &session {
            sessions.keep_token(session, token);
        }
        (verdict, session)
    }

    /// Decides on a sign-in at time `wall`, without a record.
    async fn begin(
        &self,
        sessions: &Sessions,
        token: &[u8],
        id: SessionId,
        facts: &RequestFacts<'_>,
        wall: Time,
    ) -> (Decision, Option<Session>) {
        let wanted = || (id.clone(), sessions.durations());
        let (decision, session) = {
            let _permit = self.permits.next().await;
            let (snapshot, now) = (self.live.snapshot(), self.live.now(wall));
            sign_in(token, None, wanted(), facts, &snapshot, now)
        };
        if decision.reason() != Reason::NeedsControlPlane {
            return (decision, session);
        }
        let asked = self.introspected(token, decision.facts().deployment, |said, snapshot, now| {
            sign_in(token, Some(said), wanted(), facts, snapshot, now)
        });
        asked.await.unwrap_or((decision, None))
    }

    /// Limits the rate of a decision, and records it.
    async fn conclude(
        &self,
        begun: Begun,
        decision: Decision,
        facts: &RequestFacts<'_>,
        trace: Trace,
    ) -> Verdict {
        let Begun { started, event, wall } = begun;
        let decision = self.bound(decision);
        let recorded = match self.record(&event, decision.reason(), decision.facts(), facts, wall) {
            Ok(Some(written)) => written.await.is_ok(),
            Ok(None) => true,
            Err(AuditUnavailable) => false,
        };
        let decision = if recorded { decision } else { decision.unrecorded() };
        self.metrics.decided(decision.reason(), started.elapsed());
        trace.decided(&decision, &event);
        Verdict { decision, event, time: wall }
    }

    /// Records the denial of a request that could not be parsed far enough for a decision.
    pub fn refuse(&self, reason: Reason, facts: &RequestFacts<'_>) -> Verdict<Denied> {
        let (started, event, wall) = (Instant::now(), self.audit.next_id(), (self.clock)());
        let denied = Denied::with_path(reason, facts);
        // A denial does not wait for its event.
        let recorded = self.record(&event, reason, denied.facts(), facts, wall).is_ok();
        let decision = if recorded { denied } else { denied.instead(Reason::AuditUnavailable) };
        self.metrics.decided(decision.reason(), started.elapsed());
        Verdict { decision, event, time: wall }
    }

    /// Runs a request with an unsigned token through the decision, without a record. Returns false if it was allowed.
    #[must_use]
    pub fn refuses(&self) -> bool {
        let facts =
            RequestFacts { deployment: Target::Id("dep_probe"), method: "GET", uri: "/", client: None };
        let now = self.live.now((self.clock)());
        !decide(Some(PROBE), &facts, &self.live.snapshot(), now).allowed()
    }

    /// Decides on a request at time `wall`, without a record. The node asks the control plane only about a standard token
    /// that it would not deny by itself.
    pub async fn consider(
        &self,
        credential: Option<Credential<'_>>,
        facts: &RequestFacts<'_>,
        wall: Time,
    ) -> Decision {
        let known = decide_known(credential, facts, &self.live.snapshot(), self.live.now(wall));
        let decision = if let Some(decision) = known {
            decision
        } else {
            let _permit = self.permits.next().await;
            // The snapshot may have changed while this request waited.
            decide_introspected(credential, None, facts, &self.live.snapshot(), self.live.now(wall))
        };
        let denied = match decision {
            Decision::Denied(denied) if denied.reason() == Reason::NeedsControlPlane => denied,
            decision => return decision,
        };
        let kept;
        let token = match credential {
            Some(Credential::Token(token)) => token,
            Some(Credential::Session(session, _)) => {
                kept = self.sessions.as_ref().and_then(|sessions| sessions.kept_token(session.id()));
                // The session began before this daemon did, or at another host.
                let Some(token) = &kept else {
                    return Decision::Denied(denied.instead(Reason::TokenMissing));
                };
                token.as_slice()
            }
            None => return Decision::Denied(denied),
        };
        let asked = self.introspected(token, denied.facts().deployment, |said, snapshot, now| {
            decide_introspected(credential, Some(said), facts, snapshot, now)
        });
        asked.await.unwrap_or(Decision::Denied(denied))
    }

    /// Decides again with the control plane's answer about a standard token. Returns `None` without an answer.
    async fn introspected<T>(
        &self,
        token: &[u8],
        deployment: Option<&DeploymentId>,
        decide: impl Fn(&Introspection, &Snapshot, Now) -> T,
    ) -> Option<T> {
        let (introspector, deployment) = (self.introspector.as_ref()?, deployment?);
        let version = |snapshot: &Snapshot| snapshot.head().map_or(0, |head| head.head().version);
        // A newer replica invalidates an answer, since it may have changed what the answer states.
        for _ in 0..3 {
            let asked_at = version(&self.live.snapshot());
            let introspection = introspector.ask(token, deployment, asked_at).await?;
            let snapshot = Arc::clone(&self.live.snapshot());
            if version(&snapshot) == asked_at {
                return Some(decide(&introspection, &snapshot, self.live.now((self.clock)())));
            }
        }
        None
    }

    /// Denies a request that exceeds the token's rate limit.
    fn bound(&self, decision: Decision) -> Decision {
        let Decision::Allowed(allowed) = decision else { return decision };
        let within = |limit| self.rates.take_use(&allowed.token, limit, Instant::now());
        match allowed.rate_limit.map_or(Ok(()), within) {
            Ok(()) => Decision::Allowed(allowed),
            // Rounded up to whole seconds, so that a retry is not too early.
            Err(wait) => Decision::Denied(allowed.limited(wait.as_secs() + 1)),
        }
    }

    /// Queues the event of a decision.
    fn record(
        &self,
        event: &str,
        reason: Reason,
        found: Facts<'_>,
        facts: &RequestFacts<'_>,
        wall: Time,
    ) -> Result<Option<Receiver<()>>, AuditUnavailable> {
        let allowed = reason == Reason::Ok;
        let draft = Draft {
            decision: Some(if allowed { "allow" } else { "deny" }),
            reason: Some(reason.code()),
            token: found.token,
            generation: found.generation,
            session: found.session,
            role: found.role,
            deployment: found.deployment,
            method: Some(cut(facts.method)),
            route: found.route.map(|route| &**route),
            path: found.path,
            permission: found.permission.map(Permission::as_str),
            client: facts.client,
            glass: found.glass.map(GlassState::as_str),
            ..Draft::new(EventKind::Decision, event, wall, &self.node, self.live.connectivity())
        };
        // A denial changes nothing upstream, so it need not wait for the disk.
        self.audit.record(&draft, allowed && found.mutating)
    }
}

/// Truncates a method, so that an invented one cannot fill the log.
fn cut(method: &str) -> &str {
    method.get(..32).unwrap_or(method)
}
