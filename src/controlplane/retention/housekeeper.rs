//! Thread that prunes tables. Calls do not wait for its end; it takes the writer's lock like any call.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Retention;
use crate::controlplane::ControlPlane;
use crate::platform::failing::Failing;

/// Time between the end of a round and the start of the next.
const PAUSE: Duration = Duration::from_mins(1);

/// Running housekeeper. Dropping it ends its thread after the current transaction or read.
#[derive(Debug)]
pub struct Housekeeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Housekeeper {
    /// Prunes the database of `control` at once and then every minute.
    pub fn start(control: Arc<ControlPlane>, retention: Retention) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            let failing = Failing::default();
            let stopping = || !matches!(stopped.try_recv(), Err(TryRecvError::Empty));
            let mut last = Instant::now();
            loop {
                let (before, started) = (last, Instant::now());
                last = started;
                match control.prune(&retention, started.duration_since(before), &stopping) {
                    Ok(()) => drop(failing.end()),
                    // Logged once, because on a full disk every round fails. `/readyz` reports the full disk as well.
                    Err(error) if failing.begin() => {
                        tracing::error!(%error, "old events and lines of the audit log cannot be deleted");
                    }
                    Err(_) => {}
                }
                if !matches!(stopped.recv_timeout(PAUSE), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("retention".into()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panicked thread has already printed its panic.
            let _ = thread.join();
        }
    }
}
