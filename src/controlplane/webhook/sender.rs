//! What tells announcements: a thread of its own, so that an endpoint that hangs or is gone holds up nobody else.
//!
//! An announcement is told until the endpoint says that it has it, and that is written down after it did: a crash in between
//! tells it twice, with the same id.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::{Fault, Webhook, pace};
use crate::controlplane::ControlPlane;
use crate::controlplane::announcements::{Announcement, Attempt, Outcome};
use crate::controlplane::error::Error;

/// How many are told at once while the endpoint takes them; otherwise one, to see whether it does again.
const AT_ONCE: usize = 8;
/// The longest sleep: the clock may have been set meanwhile.
const IDLE: Duration = Duration::from_mins(1);
/// How long what is under way may take when the program ends.
const GRACE: Duration = Duration::from_secs(2);

/// A running sender.
#[derive(Debug)]
pub struct Sender {
    webhook: watch::Sender<Arc<Webhook>>,
    task: JoinHandle<()>,
    runtime: Background,
}

/// A runtime that ends without anyone waiting for it: a look-up of a name may hang in it.
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
    /// Begins to tell what `control` announces.
    pub fn start(control: Arc<ControlPlane>, webhook: Webhook) -> std::io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("webhook").enable_all().build()?;
        let (webhook, current) = watch::channel(Arc::new(webhook));
        let task = runtime.spawn(run(control, current));
        Ok(Self { webhook, task, runtime: Background(Some(runtime)) })
    }

    /// Tells another endpoint, or signs with another secret, from now on.
    pub fn replace(&self, webhook: Webhook) {
        self.webhook.send_replace(Arc::new(webhook));
    }

    /// Ends it. What the endpoint does not take in time waits for the next start.
    pub async fn shutdown(self) {
        let Self { webhook, task, runtime } = self;
        drop(webhook);
        let _ = timeout(GRACE, task).await;
        drop(runtime);
    }
}

/// Goes on until nobody holds the other end of `webhook`.
async fn run(control: Arc<ControlPlane>, mut webhook: watch::Receiver<Arc<Webhook>>) {
    let mut changes = control.store.changes();
    let mut failures: u32 = 0;
    // Whether what waits for its next attempt is tried now: there is a reason to think that it will be taken.
    let mut eager = true;
    while webhook.has_changed().is_ok() {
        let current = Arc::clone(&webhook.borrow_and_update());
        // Before it is looked: what is announced after that wakes it.
        changes.borrow_and_update();
        let (pause, wakes) = match round(&control, &current, failures, eager).await {
            Ok(Round::Delivered { all }) => {
                if failures > 0 {
                    tracing::info!(to = current.origin(), "the webhook takes announcements again");
                }
                eager = all && (eager || failures > 0);
                failures = 0;
                continue;
            }
            Ok(Round::Nothing(until)) => (until, true),
            Ok(Round::Failed(asked)) => {
                failures = failures.saturating_add(1);
                (pace::pause(failures, control.luck(), asked), false)
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::error!(%error, "announcements can't be read, or what became of them not be written");
                (pace::pause(failures, control.luck(), None), false)
            }
        };
        eager = false;
        tokio::select! {
            // Another endpoint or secret is tried at once.
            _ = webhook.changed() => (failures, eager) = (0, true),
            _ = changes.changed(), if wakes => {}
            () = sleep(pause) => {}
        }
    }
}

/// What came of a look at what is due.
enum Round {
    /// Nothing is, for so long.
    Nothing(Duration),
    /// The endpoint took at least one, or all of them.
    Delivered { all: bool },
    /// It took none, and asked to be left alone for so long.
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
    let latest = now.plus(seconds(pace::LONGEST));
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
    let attempts: Vec<Attempt> = attempts
        .into_iter()
        .map(|(announcement, result)| judge(control, webhook, announcement, result))
        .collect();
    control.announced(&attempts)?;
    Ok(if delivered > 0 { Round::Delivered { all } } else { Round::Failed(asked) })
}

/// What follows from an attempt for the announcement.
fn judge(
    control: &ControlPlane,
    webhook: &Webhook,
    announcement: Announcement,
    result: Result<(), Fault>,
) -> Attempt {
    let (now, id, to) = (control.now(), announcement.id, webhook.origin());
    let failed = announcement.attempts.saturating_add(1);
    let outcome = match result {
        Ok(()) => Outcome::Delivered,
        Err(fault) if pace::gives_up(failed, now.since(announcement.made_at)) => {
            tracing::error!(id, to, attempts = failed, error = %fault, "an announcement is given up");
            Outcome::GivenUp { error: fault.to_string() }
        }
        Err(fault) => {
            let pause = pace::pause(failed, control.luck(), fault.retry_after());
            tracing::warn!(id, to, attempts = failed, error = %fault, "an announcement was not taken; it is told again");
            Outcome::Again { at: now.plus(seconds(pause)), error: fault.to_string() }
        }
    };
    Attempt { id, outcome }
}

/// Whole seconds, no fewer.
fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}
