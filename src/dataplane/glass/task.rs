//! Task that judges outages, ends direct access whose time is over, and records every change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Ended, Glass, GlassError, Hysteresis, Reach};
use crate::dataplane::audit::AuditLog;
use crate::dataplane::node::state::Live;
use crate::platform::clock::Clock;
use crate::protocol::event::{Draft, EventKind};
use crate::protocol::glass::GlassMode;
use crate::protocol::id::NodeId;

/// Interval between two checks.
const TICK: Duration = Duration::from_millis(250);

/// Parts that the task works with.
pub struct GlassTask {
    /// Broken glass of this host.
    pub glass: Arc<Glass>,
    /// Snapshot in force and state of the node.
    pub live: Arc<Live>,
    /// Audit log that records every change.
    pub audit: Arc<AuditLog>,
    /// Identifier of this node.
    pub node: NodeId,
    /// Clock of the node.
    pub clock: Clock,
    /// Limits by which an outage is judged.
    pub limits: Hysteresis,
}

impl GlassTask {
    /// Runs until the task is dropped.
    pub async fn run(&self) {
        let (started, mut written) = (Instant::now(), 0);
        let mut recorded = self.live.snapshot().local().outage;
        let mut reach = Reach::new(recorded);
        let mut since = self.live.standing().progress.connectivity_since;
        loop {
            tokio::time::sleep(TICK).await;
            let (now, standing) = (started.elapsed(), self.live.standing());
            let again = std::mem::replace(&mut since, standing.progress.connectivity_since)
                != standing.progress.connectivity_since;
            reach = reach.seen(standing.progress.connectivity, again, now, self.limits);
            let outage = reach.outage(now, self.limits);
            if outage != self.live.snapshot().local().outage {
                self.on_disk(move |glass| glass.judge(outage)).await;
            }
            if outage != recorded && self.record_judgement(outage).await {
                recorded = outage;
            }
            // Written once a second: the remaining time must survive a crash.
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            if seconds > written {
                self.settle(seconds - written).await;
                written = seconds;
            }
        }
    }

    /// Ends glass whose time is over, and records each end. An end that the log cannot take now is tried again.
    pub async fn settle(&self, passed: i64) {
        let now = self.live.now((self.clock)());
        let ended = self.on_disk(move |glass| glass.ended(now, passed)).await.unwrap_or_default();
        for ended in ended {
            if self.record_end(&ended).await {
                tracing::warn!(deployment = %ended.deployment, "the glass is sealed again");
                self.on_disk(move |glass| glass.forget(&ended)).await;
            }
        }
    }

    async fn record_end(&self, ended: &Ended) -> bool {
        let id = self.audit.next_id();
        let because = if ended.sealed_by.is_some() { "sealed by an operator" } else { "its time is over" };
        let draft = Draft {
            deployment: Some(&ended.deployment),
            glass: Some("sealed"),
            operator: ended.sealed_by.as_deref(),
            because: Some(because),
            ..self.draft(EventKind::GlassSealed, &id)
        };
        self.audit.record_durably(&draft).await.is_ok()
    }

    /// Records the judgement of an outage, which breaks or closes the glass of every deployment in that mode: one event for all.
    async fn record_judgement(&self, outage: bool) -> bool {
        if !self.live.snapshot().keeps_glass(GlassMode::Outage) {
            return true;
        }
        let id = self.audit.next_id();
        let (kind, glass, because) = if outage {
            let because = format!("the control plane was gone for {} s", self.limits.down.as_secs());
            (EventKind::GlassBroken, "outage", because)
        } else {
            let because = format!("the control plane was back for {} s", self.limits.up.as_secs());
            (EventKind::GlassSealed, "sealed", because)
        };
        let draft = Draft { glass: Some(glass), because: Some(&because), ..self.draft(kind, &id) };
        self.audit.record_durably(&draft).await.is_ok()
    }

    fn draft<'a>(&'a self, kind: EventKind, id: &'a str) -> Draft<'a> {
        Draft::new(kind, id, (self.clock)(), &self.node, self.live.connectivity())
    }

    /// Runs work on the disk on a blocking thread. A failure is logged; the state in force stays, and the next tick tries again.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Glass) -> Result<T, GlassError> + Send + 'static,
    ) -> Option<T> {
        let glass = Arc::clone(&self.glass);
        match tokio::task::spawn_blocking(move || work(&glass)).await {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                tracing::error!(%error, "the state of the glass can't be stored");
                None
            }
            Err(_) => None,
        }
    }
}
