//! The thread that prunes: no call waits for it, and it waits for the writer's lock as any call does.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Retention;
use crate::controlplane::ControlPlane;

/// Time from the end of a round to the next.
const PAUSE: Duration = Duration::from_mins(1);

/// A running housekeeper. Dropping it ends its thread after the transaction, or the read, that is under way.
#[derive(Debug)]
pub struct Housekeeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Housekeeper {
    /// Prunes what `control` holds, at once and then every minute.
    pub fn start(control: Arc<ControlPlane>, retention: Retention) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            let mut failing = false;
            let stopping = || !matches!(stopped.try_recv(), Err(TryRecvError::Empty));
            loop {
                match control.prune(&retention, &stopping) {
                    Ok(()) => failing = false,
                    // Told once: on a full disk every round fails, and readiness says so as well.
                    Err(error) if !failing => {
                        failing = true;
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
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}
