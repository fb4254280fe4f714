//! Scrub: reads the whole replica database again from time to time, and compares it with its head.
//!
//! A change is proved by the records that it touches. So a disk that loses or alters other records would go unnoticed until
//! the next start, which denies everything until the control plane answers. The scrub finds the damage before, and the
//! control plane's next answer repairs it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use super::replication::Replication;
use crate::platform::clock::Clock;

/// Pause between two scrubs.
const INTERVAL: Duration = Duration::from_hours(1);
/// Pause after each share of the records, which takes about a millisecond: a scrub keeps one core busy for a tenth of its time.
const PAUSE: Duration = Duration::from_millis(9);

/// Scrubs until the task is dropped. `wake` makes sync ask the control plane at once.
pub async fn run(replication: Arc<Replication>, clock: Clock, wake: Arc<Notify>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if !scrub(&replication, &clock, PAUSE).await {
            wake.notify_one();
        }
    }
}

/// Verifies all records on the disk, with a pause after each share of them. Returns false if they are damaged.
pub async fn scrub(replication: &Arc<Replication>, clock: &Clock, pause: Duration) -> bool {
    let begin = Arc::clone(replication);
    let mut scrub = match spawn_blocking(move || begin.begin_scrub()).await {
        Ok(Ok(Some(scrub))) => scrub,
        Ok(Ok(None)) | Err(_) => return true,
        Ok(Err(_)) => return end(replication, clock, false).await,
    };
    loop {
        // A share at a time: a thread that sleeps in between could not be stopped with the daemon.
        let stepped = spawn_blocking(move || {
            let more = scrub.step();
            (scrub, more)
        });
        let Ok((stepped, more)) = stepped.await else { return true };
        scrub = stepped;
        match more {
            Ok(true) => tokio::time::sleep(pause).await,
            Ok(false) => return end(replication, clock, scrub.holds()).await,
            Err(_) => return end(replication, clock, false).await,
        }
    }
}

async fn end(replication: &Arc<Replication>, clock: &Clock, holds: bool) -> bool {
    let (replication, now) = (Arc::clone(replication), clock());
    spawn_blocking(move || replication.end_scrub(holds, now)).await.unwrap_or(true)
}
