//! Serves the feed to many nodes at once. Work that needs the database is done on a blocking thread, once for all nodes
//! that wait for it; everything else is done on the thread of the request.

use std::sync::Arc;

use super::{Held, check_nonce};
use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::replica::delta::Delta;
use crate::controlplane::replica::spool::{Answer, Transfer};

impl ControlPlane {
    /// Returns the same answer as [`Self::feed_for`].
    pub(in crate::controlplane) async fn serve_feed(
        self: &Arc<Self>,
        data_plane: &str,
        held: Held,
        nonce: Option<&str>,
    ) -> Result<Arc<Answer>, Error> {
        check_nonce(nonce)?;
        let published = self.store.published(data_plane)?;
        if held.version > 0 && held.version == published.version {
            return self.small_answer(data_plane, held, nonce, &Delta::none(published), &[]);
        }
        let cell = self.deltas.cell(data_plane, held.version, published.version);
        let read = || {
            let plane = data_plane.to_owned();
            self.off_reactor(move |control| {
                control.store.read(|reader| Delta::read(reader, &plane, held.version)).map(Arc::new)
            })
        };
        let delta = Arc::clone(cell.get_or_try_init(read).await?);
        if let Some(lines) = &delta.lines {
            return self.small_answer(data_plane, held, nonce, &delta, lines);
        }
        let nonce = delta.nonce(held.version, nonce);
        // One call writes an answer without a nonce, and the others find it in the spool.
        let turn = self.spool.turn(data_plane);
        let _turn = if nonce.is_none() { Some(turn.lock().await) } else { None };
        let (plane, nonce) = (data_plane.to_owned(), nonce.map(str::to_owned));
        self.off_reactor(move |control| control.large_answer(&plane, held, nonce.as_deref())).await
    }

    /// Waits for the right to send an answer from a file. If too many are sent, the node is told when to come back: each
    /// at another time, so that they do not come all at once again.
    pub(in crate::controlplane) async fn transfer(&self) -> Result<Transfer, Error> {
        let transfer = self.spool.transfer().await;
        transfer.ok_or_else(|| self.busy())
    }
}
