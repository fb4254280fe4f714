//! Runs calls on blocking threads: a call is a transaction of SQLite, and must not hold up the threads of the reactor.

use std::sync::Arc;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;

impl ControlPlane {
    /// Runs `work` on a blocking thread.
    pub(in crate::controlplane) async fn off_reactor<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let control = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&control)).await {
            Ok(result) => result,
            Err(ended) => Err(Error::Io(std::io::Error::other(ended))),
        }
    }
}
