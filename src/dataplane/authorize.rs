//! Authorizing: a request decided, its event recorded, its answer counted. Every face asks here, and nowhere else.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot::Receiver;

use super::Clock;
use super::audit::{AuditLog, AuditUnavailable};
use super::decide::{Decision, Reason, RequestFacts, Target, decide, decide_introspected};
use super::introspection::Introspector;
use super::live::Live;
use super::metrics::Metrics;
use super::rate::RateLimits;
use super::snapshot::Snapshot;
use super::traces::{Trace, Traces};
use crate::protocol::event::{Draft, EventId, EventKind};
use crate::protocol::glass::GlassState;
use crate::protocol::id::NodeId;
use crate::protocol::permission::Permission;
use crate::protocol::time::Time;

/// A token as to its form, `{"alg":"EdDSA","typ":"direct-access+jwt","kid":"probe"}`, that no key has signed.
const PROBE: &[u8] = b"eyJhbGciOiJFZERTQSIsInR5cCI6ImRpcmVjdC1hY2Nlc3Mrand0Iiwia2lkIjoicHJvYmUifQ.e30.\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What decides and records.
pub struct Authorizer {
    /// The snapshot in force.
    pub live: Arc<Live>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// Who decides.
    pub node: NodeId,
    /// The clock.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
    /// How often tokens were used of late.
    pub rates: RateLimits,
    /// What asks about standard tokens; without it they are refused.
    pub introspector: Option<Arc<Introspector>>,
    /// Where decisions are told as spans.
    pub traces: Traces,
}

/// A decision that is on record: now it may be told.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// The id of its event.
    pub event: EventId,
    /// When it was asked for.
    pub time: Time,
}

impl Authorizer {
    /// Decides about a request, and returns once its event is where it must be: in the log's queue, or, for a mutating
    /// request that may pass, on the disk. `trace` is told what came of it.
    pub async fn authorize(&self, token: Option<&[u8]>, facts: &RequestFacts<'_>, trace: Trace) -> Verdict {
        let started = Instant::now();
        let (event, wall) = (self.audit.next_id(), (self.clock)());
        let mut decision = self.consider(token, facts, wall).await;
        self.bound(&mut decision);
        let recorded = match self.record(&event, &decision, facts, wall) {
            Ok(Some(written)) => written.await.is_ok(),
            Ok(None) => true,
            Err(AuditUnavailable) => false,
        };
        if !recorded {
            decision.reason = Reason::AuditUnavailable;
        }
        self.metrics.decided(decision.reason, started.elapsed());
        trace.decided(&decision, &event);
        Verdict { decision, event, time: wall }
    }

    /// Records that a request was refused which nobody could read far enough to decide about.
    pub fn refuse(&self, reason: Reason, facts: &RequestFacts<'_>) -> Verdict {
        let (started, event, wall) = (Instant::now(), self.audit.next_id(), (self.clock)());
        let mut decision = Decision::new(reason, facts);
        // Nothing waits for the event of a denial.
        if self.record(&event, &decision, facts, wall).is_err() {
            decision.reason = Reason::AuditUnavailable;
        }
        self.metrics.decided(decision.reason, started.elapsed());
        Verdict { decision, event, time: wall }
    }

    /// Walks the way of a request with a token nobody issued, and leaves no trace. False: it was let through.
    #[must_use]
    pub fn refuses(&self) -> bool {
        let facts =
            RequestFacts { deployment: Target::Id("dep_probe"), method: "GET", uri: "/", client: None };
        let now = self.live.now((self.clock)());
        !decide(Some(PROBE), &facts, &self.live.snapshot(), now).allowed()
    }

    /// Decides about a request that came at `wall`, and leaves no trace. Whatever this node can answer alone is answered at
    /// once; a standard token that might pass is asked about.
    pub async fn consider(&self, token: Option<&[u8]>, facts: &RequestFacts<'_>, wall: Time) -> Decision {
        let decision = decide(token, facts, &self.live.snapshot(), self.live.now(wall));
        match (decision.reason, token) {
            (Reason::NeedsControlPlane, Some(token)) => self.introspected(token, facts, decision).await,
            _ => decision,
        }
    }

    /// Decides with what the control plane says of a standard token. While nobody says anything, `decision` stands.
    async fn introspected(&self, token: &[u8], facts: &RequestFacts<'_>, decision: Decision) -> Decision {
        let (Some(introspector), Some(deployment)) = (&self.introspector, &decision.deployment) else {
            return decision;
        };
        let version = |snapshot: &Snapshot| snapshot.head().map_or(0, |head| head.head().version);
        // A replica that has moved on meanwhile makes an answer void: what it said may have changed.
        for _ in 0..3 {
            let asked_at = version(&self.live.snapshot());
            let Some(introspection) = introspector.ask(token, deployment, asked_at).await else { break };
            let snapshot = Arc::clone(&self.live.snapshot());
            if version(&snapshot) == asked_at {
                let now = self.live.now((self.clock)());
                return decide_introspected(Some(token), Some(&introspection), facts, &snapshot, now);
            }
        }
        decision
    }

    /// Holds a use back that would be one too many.
    fn bound(&self, decision: &mut Decision) {
        if decision.allowed()
            && let (Some(limit), Some(id)) = (decision.rate_limit, &decision.token)
            && let Err(wait) = self.rates.take(id, limit, Instant::now())
        {
            decision.reason = Reason::RateLimited;
            // In whole seconds, and not too early.
            decision.retry_after = Some(wait.as_secs() + 1);
        }
    }

    /// Hands the event of a decision to the log.
    fn record(
        &self,
        event: &str,
        decision: &Decision,
        facts: &RequestFacts<'_>,
        wall: Time,
    ) -> Result<Option<Receiver<()>>, AuditUnavailable> {
        let draft = Draft {
            decision: Some(if decision.allowed() { "allow" } else { "deny" }),
            reason: Some(decision.reason.code()),
            token: decision.token.as_ref(),
            generation: decision.generation,
            role: decision.role.as_ref(),
            deployment: decision.deployment.as_ref(),
            method: Some(cut(facts.method)),
            route: decision.route.as_deref(),
            path: decision.path.as_deref(),
            permission: decision.permission.map(Permission::as_str),
            client: facts.client,
            glass: decision.glass.map(GlassState::as_str),
            ..Draft::new(EventKind::Decision, event, wall, &self.node, self.live.connectivity())
        };
        // A denial changes nothing upstream: it need not wait for the disk.
        self.audit.record(&draft, decision.allowed() && decision.mutating)
    }
}

/// No method is longer than this; what claims to be one fills no log.
fn cut(method: &str) -> &str {
    method.get(..32).unwrap_or(method)
}
