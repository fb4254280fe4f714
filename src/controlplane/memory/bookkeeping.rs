//! Bookkeeping: writes that inform people and decide nothing. A failure of one is logged and counted, and never fails the
//! call that caused it: on a full disk, reads go on and tokens stay valid.

use prometheus_client::metrics::counter::Counter;

use crate::controlplane::error::Error;
use crate::platform::failing::Failing;

/// State of the bookkeeping.
#[derive(Debug, Default)]
pub(in crate::controlplane) struct Bookkeeping {
    failing: Failing,
    /// Number of writes that failed.
    pub(in crate::controlplane) lost: Counter,
}

impl Bookkeeping {
    /// Handles the result of a write. `Ok(false)` means that no write was due, which says nothing about the next one.
    /// The first failure and the first success after it are logged, not each failure: there may be one for every call.
    pub(in crate::controlplane) fn settle(&self, what: &str, outcome: Result<bool, Error>) {
        match outcome {
            Ok(false) => {}
            Ok(true) => {
                if self.failing.end() {
                    tracing::info!(what, "the control plane can write these notes again");
                }
            }
            Err(error) => {
                self.lost.inc();
                if self.failing.begin() {
                    tracing::error!(%error, what, "the control plane can't write these notes; calls are answered without them");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::controlplane::test_world::World;

    #[test]
    fn a_failure_is_over_once_something_was_written_and_not_before() {
        let world = World::new();
        let (control, token) = (&world.control, "tok_a");
        world.write(&format!(
            "INSERT INTO token (id, organization, name, description, type, kind, entity, role, generation, short, start_at,
                 created_at, created_by, updated_at, updated_by)
             VALUES ('{token}', '{}', 'a', '', 'ORGANIZATION', 'STANDARD', 'x', 'x', 1, 'x', 0, 0, 'x', 0, 'x')",
            world.owner.organization
        ));
        let failing = || control.bookkeeping.failing.lasts();
        control.used(token, control.now(), "control-plane");
        assert!(!failing());
        control.store.refuse_writes(true);
        control.used(token, control.now().plus(3600), "control-plane");
        assert!(failing());
        control.used(token, control.now(), "control-plane");
        assert!(failing(), "nothing was due, and nothing was tried");
        control.note_instance("nod_a", "first");
        control.note_instance("nod_a", "second");
        control.note_instance("nod_a", "first");
        assert_eq!(control.bookkeeping.lost.get(), 2, "a shared identity counts, too");
        control.store.refuse_writes(false);
        control.used(token, control.now().plus(3600), "control-plane");
        assert!(!failing());
    }
}
