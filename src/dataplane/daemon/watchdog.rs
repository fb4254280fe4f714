//! Watchdog: checks that the daemon still decides and records, and reports it to the service manager. A process that runs
//! and decides nothing is worse than none, because systemd would restart a dead one.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::dataplane::audit::AuditLog;
use crate::dataplane::faces::http::Prober;
use crate::dataplane::node::connection::{Progress, State};
use crate::dataplane::replica::replication::Replication;
use crate::platform::clock::Clock;
use crate::platform::systemd::{NotifyState, notify};
use crate::protocol::event::Connectivity;
use crate::protocol::time::Time;

/// Interval at which the status text is checked, and at which it is sent even if only the time changed.
const LOOK: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_secs(10);

/// Parts that did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Stalled {
    /// A serving thread did not decide, or allowed an unsigned token.
    #[error("a serving thread decides nothing")]
    Decision,
    /// The audit writer did not answer.
    #[error("the audit writer does not answer")]
    Audit,
    /// The replica's store did not answer.
    #[error("the replica's store does not answer")]
    Store,
}

/// Parts that the watchdog checks.
pub struct Watchdog {
    /// Prober of the serving threads.
    pub prober: Prober,
    /// Audit log of the node.
    pub audit: Arc<AuditLog>,
    /// Replica of the node.
    pub replication: Arc<Replication>,
    /// Clock of the node.
    pub clock: Clock,
}

impl Watchdog {
    /// Decides on a probe on every serving thread, and waits for the audit writer and the store. A part that answers with
    /// an error is alive: with a full disk the daemon still denies requests with a reason.
    pub async fn prove(&self, patience: Duration) -> Result<(), Stalled> {
        let replication = Arc::clone(&self.replication);
        let store = tokio::task::spawn_blocking(move || drop(replication.position()));
        let (decided, written, read) = tokio::join!(
            tokio::time::timeout(patience, self.prober.decided()),
            tokio::time::timeout(patience, self.audit.answers()),
            tokio::time::timeout(patience, store),
        );
        match (decided, written, read) {
            (Err(_) | Ok(false), _, _) => Err(Stalled::Decision),
            (_, Err(_) | Ok(false), _) => Err(Stalled::Audit),
            (_, _, Err(_) | Ok(Err(_))) => Err(Stalled::Store),
            (Ok(true), Ok(true), Ok(Ok(()))) => Ok(()),
        }
    }

    /// Sends the status to the service manager, and feeds its `watchdog`, if there is one, only after a successful check.
    /// Runs until the task is dropped.
    pub async fn report(self, watchdog: Option<Duration>) {
        let report = async {
            let (mut last, mut waited) = (None, TELL);
            loop {
                let live = self.replication.live();
                let progress = live.standing().progress;
                let head = live.snapshot().head().map(|head| (head.head().version, head.head().iat));
                let what = (progress.connectivity, progress.state, head);
                if last.replace(what) != Some(what) || waited >= TELL {
                    notify(&[NotifyState::Status(&status(progress, head, (self.clock)()))]);
                    waited = Duration::ZERO;
                }
                tokio::time::sleep(LOOK).await;
                waited += LOOK;
            }
        };
        let feed = async {
            let Some(interval) = watchdog.map(|watchdog| watchdog / 3) else { return };
            loop {
                match self.prove(interval).await {
                    Ok(()) => notify(&[NotifyState::Watchdog]),
                    Err(stalled) => {
                        tracing::error!(
                            %stalled,
                            "a part of the daemon does not answer; the watchdog of the service manager is not fed"
                        );
                    }
                }
                tokio::time::sleep(interval).await;
            }
        };
        tokio::join!(report, feed);
    }
}

/// Returns the status in one line.
fn status(progress: Progress, head: Option<(u64, Time)>, now: Time) -> String {
    let reach = match progress.connectivity {
        Connectivity::Connecting => "connecting",
        Connectivity::Online => "connected",
        Connectivity::Offline => "offline",
    };
    let doubt = match progress.state {
        State::Degraded | State::Stale => format!(" ({})", progress.state.as_str()),
        State::Connecting | State::Live | State::Offline => String::new(),
    };
    let replica = head.map_or_else(
        || "no replica: every request is denied".to_owned(),
        |(version, signed)| format!("replica {version}, signed {} ago", span(now.since(signed))),
    );
    format!("{reach} since {}{doubt}; {replica}", progress.connectivity_since)
}

/// Returns a duration in the largest unit that leaves two digits.
fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::num::NonZeroU16;
    use std::sync::atomic::{AtomicBool, Ordering};

    use arc_swap::ArcSwap;
    use tempfile::TempDir;
    use tokio::sync::watch;

    use super::*;
    use crate::dataplane::authorize::Authorizer;
    use crate::dataplane::decide::snapshot::{Snapshot, Staleness};
    use crate::dataplane::faces::answer::Answers;
    use crate::dataplane::faces::http::{Face, Workers};
    use crate::dataplane::node::state::Live;
    use crate::dataplane::observe::metrics::Metrics;
    use crate::dataplane::replica::store::ReplicaStore;
    use crate::protocol::id::{DataPlaneId, NodeId};
    use crate::protocol::key::SigningKey;
    use crate::protocol::keyset::RootSet;

    const NOW: Time = Time::from_unix(1_800_000_000);
    const PATIENCE: Duration = Duration::from_secs(20);
    const IMPATIENCE: Duration = Duration::from_millis(300);

    struct Parts {
        watchdog: Watchdog,
        /// While it is true, every read of the clock blocks.
        stuck: Arc<AtomicBool>,
        directory: TempDir,
        _stop: watch::Sender<()>,
        _workers: Workers,
    }

    fn parts() -> Parts {
        let directory = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed(&[7; 32]);
        let stuck = Arc::new(AtomicBool::new(false));
        let held = Arc::clone(&stuck);
        let clock: Clock = Arc::new(move || {
            while held.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            NOW
        });
        let still: Clock = Arc::new(|| NOW);
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), NOW));
        let roots = RootSet::new(vec![key.public().clone()], 1).unwrap();
        let data_plane = DataPlaneId::new("dpl_a").unwrap();
        let store = ReplicaStore::open(&directory.path().join("replica.db"), data_plane, roots).unwrap();
        let node = NodeId::new("nod_a").unwrap();
        let path = directory.path().join("audit.db");
        let audit = AuditLog::open(&path, node.clone(), Arc::new(key), Arc::clone(&still), 100).unwrap();
        let audit = Arc::new(audit);
        let replication = Arc::new(Replication::new(store, Arc::clone(&live), Staleness::default()));
        let metrics = Metrics::new(Arc::clone(&live), Arc::clone(&still));
        let authorizer = Arc::new(Authorizer::plain((live, Arc::clone(&audit)), node, clock, metrics));
        let answers = Answers { pass_status: false, identity: None };
        let face = Face { authorizer, trusted: ArcSwap::default(), answers, code: None };
        let (stop, stopped) = watch::channel(());
        let workers = Workers::start(NonZeroU16::MIN.saturating_add(1), &Arc::new(face), &stopped).unwrap();
        let watchdog = Watchdog { prober: workers.prober(), audit, replication, clock: still };
        Parts { watchdog, stuck, directory, _stop: stop, _workers: workers }
    }

    #[tokio::test]
    async fn a_daemon_that_decides_and_records_is_alive_also_without_a_replica() {
        let parts = parts();
        assert_eq!(parts.watchdog.prove(PATIENCE).await, Ok(()));
        // A check leaves no event in the log.
        parts.watchdog.audit.close();
        let log = crate::dataplane::audit::events(&parts.directory.path().join("audit.db"), 0, 10).unwrap();
        assert!(log.is_empty(), "{log:?}");
    }

    #[tokio::test]
    async fn a_decision_that_hangs_starves_the_watchdog() {
        let parts = parts();
        parts.stuck.store(true, Ordering::Relaxed);
        assert_eq!(parts.watchdog.prove(IMPATIENCE).await, Err(Stalled::Decision));
        parts.stuck.store(false, Ordering::Relaxed);
        assert_eq!(parts.watchdog.prove(PATIENCE).await, Ok(()));
    }

    #[tokio::test]
    async fn a_writer_that_is_gone_starves_the_watchdog() {
        let parts = parts();
        parts.watchdog.audit.close();
        assert_eq!(parts.watchdog.prove(IMPATIENCE).await, Err(Stalled::Audit));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_hangs_starves_the_watchdog() {
        let parts = parts();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (replication, (ready, taken)) =
            (Arc::clone(&parts.watchdog.replication), std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            let _store = replication.store();
            ready.send(()).unwrap();
            let _ = held.recv();
        });
        taken.recv().unwrap();
        assert_eq!(parts.watchdog.prove(IMPATIENCE).await, Err(Stalled::Store));
        drop(release);
        thread.join().unwrap();
        assert_eq!(parts.watchdog.prove(PATIENCE).await, Ok(()));
    }

    #[test]
    fn the_status_line_says_since_when_and_what_is_held() {
        let mut progress = Live::new(Snapshot::absent(), Time::default(), NOW).standing().progress;
        let now = NOW.plus(100);
        assert_eq!(
            status(progress, None, now),
            format!("connecting since {NOW}; no replica: every request is denied")
        );
        (progress.connectivity, progress.state) = (Connectivity::Online, State::Live);
        assert_eq!(
            status(progress, Some((7, NOW)), now),
            format!("connected since {NOW}; replica 7, signed 100 s ago")
        );
        (progress.connectivity, progress.state) = (Connectivity::Offline, State::Stale);
        let told = status(progress, Some((7, NOW)), NOW.plus(200_000));
        assert_eq!(told, format!("offline since {NOW} (stale); replica 7, signed 2 days ago"));
    }

    #[test]
    fn a_span_is_read_at_a_glance() {
        let spans = [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")];
        for (seconds, text) in spans {
            assert_eq!(span(seconds), text);
        }
    }
}
