//! Sender of announcements. It has a thread of its own, so that a slow or absent endpoint blocks nothing else.
//!
//! An announcement is sent until the endpoint accepts it, and its success is stored afterwards: a crash in between
//! sends it twice, with the same id.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::announcements::{Announcement, Attempt, Outcome};
use super::{Fault, Webhook, retry};
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::protocol::time::Time;

/// Maximum number of concurrent attempts while the endpoint accepts messages. After a failure, one attempt tests it.
const AT_ONCE: usize = 8;
/// Maximum sleep. It is bounded because the clock may be set meanwhile.
const IDLE: Duration = Duration::from_mins(1);
/// Time limit for attempts in progress when the program stops.
const GRACE: Duration = Duration::from_secs(2);

/// Sender that is running.
#[derive(Debug)]
pub struct Sender {
    webhook: watch::Sender<Arc<Webhook>>,
    task: JoinHandle<()>,
    runtime: Background,
}

/// Runtime that is shut down without waiting, because a name look-up may block in it.
#[derive(Debug)]
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Sender {
    /// Starts to send the announcements of `control`.
    pub fn start(control: Arc<ControlPlane>, webhook: Webhook) -> std::io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("webhook").enable_all().build()?;
        let (webhook, current) = watch::channel(Arc::new(webhook));
        let task = runtime.spawn(run(control, current));
        Ok(Self { webhook, task, runtime: Background(Some(runtime)) })
    }

    /// Replaces the endpoint and its secrets.
    pub fn replace(&self, webhook: Webhook) {
        self.webhook.send_replace(Arc::new(webhook));
    }

    /// Stops the sender. Messages that are not accepted in time wait for the next start.
    pub async fn shutdown(self) {
        let Self { webhook, task, runtime } = self;
        drop(webhook);
        let _ = timeout(GRACE, task).await;
        drop(runtime);
    }
}

/// Runs until the sender of `webhook` is dropped.
async fn run(control: Arc<ControlPlane>, mut webhook: watch::Receiver<Arc<Webhook>>) {
    let mut changes = control.store.changes();
    let mut failures: u32 = 0;
    // True if messages that wait for their next attempt are due at once, because the endpoint has probably recovered.
    let mut eager = true;
    while webhook.has_changed().is_ok() {
        let current = Arc::clone(&webhook.borrow_and_update());
        // Marked as seen before the queue is read, so that a later announcement wakes the task.
        changes.borrow_and_update();
        let (pause, wakes) = match round(&control, &current, failures, eager).await {
            Ok(Round::Delivered { all }) => {
                if failures > 0 {
                    tracing::info!(to = current.origin(), "the webhook accepts announcements again");
                }
                eager = all && (eager || failures > 0);
                failures = 0;
                continue;
            }
            Ok(Round::Nothing(until)) => (until, true),
            Ok(Round::Failed(asked)) => {
                failures = failures.saturating_add(1);
                (retry::pause(failures, control.luck(), asked), false)
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::error!(%error, "announcements can't be read, or the results of their delivery can't be written");
                (retry::pause(failures, control.luck(), None), false)
            }
        };
        eager = false;
        tokio::select! {
            // A new endpoint or secret is tried at once.
            _ = webhook.changed() => (failures, eager) = (0, true),
            _ = changes.changed(), if wakes => {}
            () = sleep(pause) => {}
        }
    }
}

/// Result of one round.
enum Round {
    /// No message is due for this time.
    Nothing(Duration),
    /// The endpoint accepted at least one message, or all of them.
    Delivered { all: bool },
    /// The endpoint accepted none; the pause that it requested, if any.
    Failed(Option<Duration>),
}

async fn round(
    control: &ControlPlane,
    webhook: &Arc<Webhook>,
    failures: u32,
    eager: bool,
) -> Result<Round, Error> {
    let now = control.now();
    let most = if failures == 0 { AT_ONCE } else { 1 };
    let latest = now.plus(seconds(retry::LONGEST));
    let due = control.due_announcements(most, if eager { latest } else { now }, latest)?;
    if due.is_empty() {
        let next = control.next_announcement_at()?;
        let until = next.map(|next| Duration::from_secs(u64::try_from(next.since(now)).unwrap_or(0)));
        return Ok(Round::Nothing(until.unwrap_or(IDLE).clamp(Duration::from_millis(100), IDLE)));
    }
    let mut attempts = JoinSet::new();
    for announcement in due {
        let webhook = Arc::clone(webhook);
        attempts.spawn(async move {
            let result = webhook.attempt(&announcement, now).await;
            (announcement, result)
        });
    }
    let attempts = attempts.join_all().await;
    let delivered = attempts.iter().filter(|(_, result)| result.is_ok()).count();
    let all = delivered == attempts.len();
    let asked = attempts.iter().filter_map(|(_, result)| result.as_ref().err()?.retry_after()).max();
    let (to, trusted_time) = (webhook.origin(), control.trusted_time()?);
    let attempts: Vec<Attempt> = attempts
        .into_iter()
        .map(|(announcement, result)| judge(control, &to, trusted_time, announcement, result))
        .collect();
    control.announced(&attempts, trusted_time)?;
    Ok(if delivered > 0 { Round::Delivered { all } } else { Round::Failed(asked) })
}

/// Decides what happens to an announcement after an attempt. Its age is counted by `trusted_time`, so that a
/// clock that is ahead for a moment does not lose it.
fn judge(
    control: &ControlPlane,
    to: &str,
    trusted_time: Time,
    announcement: Announcement,
    result: Result<(), Fault>,
) -> Attempt {
    let (now, id) = (control.now(), announcement.id);
    let failed = announcement.attempts.saturating_add(1);
    let outcome = match result {
        Ok(()) => Outcome::Delivered,
        Err(fault) if retry::gives_up(failed, trusted_time.since(announcement.made_at)) => {
            tracing::error!(
                id,
                to,
                attempts = failed,
                error = %fault,
                "the webhook did not accept an announcement, and it is sent no more"
            );
            Outcome::GivenUp { error: fault.to_string() }
        }
        Err(fault) => {
            let pause = retry::pause(failed, control.luck(), fault.retry_after());
            tracing::warn!(
                id,
                to,
                attempts = failed,
                error = %fault,
                "the webhook did not accept an announcement; it is sent again"
            );
            Outcome::Again { at: now.plus(seconds(pause)), error: fault.to_string() }
        }
    };
    Attempt { id, outcome }
}

/// Rounds up to whole seconds.
fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::controlplane::retention::Retention;
    use crate::controlplane::test_world::World;

    #[test]
    fn a_clock_that_is_ahead_gives_up_no_announcement() {
        let world = World::new();
        let made_at = world.control.now();
        let judged = || {
            let announcement = Announcement { id: "a".into(), body: String::new(), made_at, attempts: 50 };
            let silent = Err(Fault::Silent(Duration::from_secs(10)));
            let trusted_time = world.control.trusted_time().unwrap();
            judge(&world.control, "https://hook.example", trusted_time, announcement, silent).outcome
        };
        let prune = || world.control.prune(&Retention::default(), Duration::ZERO, &|| false).unwrap();
        prune();
        world.later(365 * 86_400);
        assert!(matches!(judged(), Outcome::Again { .. }));
        world.later(-365 * 86_400);
        for _ in 0..7 {
            assert!(matches!(judged(), Outcome::Again { .. }));
            world.later(86_400);
            prune();
        }
        assert!(matches!(judged(), Outcome::GivenUp { .. }), "after a week");
    }
}
