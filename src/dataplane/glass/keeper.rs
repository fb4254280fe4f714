//! The keeper of the glass: a task that judges outages, ends what has lasted its time, and records every change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Ended, Glass, GlassError, Hysteresis, Reach};
use crate::dataplane::Clock;
use crate::dataplane::audit::AuditLog;
use crate::dataplane::live::Live;
use crate::protocol::event::{Draft, EventKind};
use crate::protocol::glass::GlassMode;
use crate::protocol::id::NodeId;

/// How often it looks.
const TICK: Duration = Duration::from_millis(250);

/// What the keeper needs.
pub struct Keeper {
    /// The broken glass.
    pub glass: Arc<Glass>,
    /// The snapshot in force, and how the node stands.
    pub live: Arc<Live>,
    /// Where every change is recorded.
    pub audit: Arc<AuditLog>,
    /// This node.
    pub node: NodeId,
    /// The clock.
    pub clock: Clock,
    /// How an outage is judged.
    pub limits: Hysteresis,
}

impl Keeper {
    /// Runs until the task is dropped.
    pub async fn run(&self) {
        let (started, mut written) = (Instant::now(), 0);
        let mut recorded = self.live.snapshot().local().outage;
        let mut reach = Reach::new(recorded);
        let mut since = self.live.standing().connectivity_since;
        loop {
            tokio::time::sleep(TICK).await;
            let (now, standing) = (started.elapsed(), self.live.standing());
            let again =
                std::mem::replace(&mut since, standing.connectivity_since) != standing.connectivity_since;
            reach = reach.seen(standing.connectivity, again, now, self.limits);
            let outage = reach.outage(now, self.limits);
            if outage != self.live.snapshot().local().outage {
                self.on_disk(move |glass| glass.judge(outage)).await;
            }
            if outage != recorded && self.record_judgement(outage).await {
                recorded = outage;
            }
            // Once a second, and written down: what is left of the time must outlive a crash.
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            if seconds > written {
                self.settle(seconds - written).await;
                written = seconds;
            }
        }
    }

    /// Ends what has lasted its time, and records whatever has ended. What the log can't take now is tried again.
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

    /// An outage breaks the glass of every deployment that is kept so: one event tells of all of them.
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

    /// Works on the disk, off the reactor. A disk that fails is said to; what is in force stays so, and is tried again.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Glass) -> Result<T, GlassError> + Send + 'static,
    ) -> Option<T> {
        let glass = Arc::clone(&self.glass);
        match tokio::task::spawn_blocking(move || work(&glass)).await {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                tracing::error!(%error, "the glass can't be kept as it should be");
                None
            }
            Err(_) => None,
        }
    }
}
