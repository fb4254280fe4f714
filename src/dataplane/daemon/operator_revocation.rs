//! Revocation by an operator of this host. It is in force before it is recorded.

use std::sync::Arc;

use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};

use crate::api::host::revocation::Held;
use crate::dataplane::audit::AuditLog;
use crate::dataplane::node::state::Live;
use crate::dataplane::revocations::{LedgerError, Order, Revocations};
use crate::platform::clock::Clock;
use crate::protocol::event::{Draft, EventKind};
use crate::protocol::id::NodeId;

/// Reasons why a token is not revoked.
#[derive(Debug, Error)]
pub(super) enum RevokeError {
    /// The order can't be carried out, or the database can't take it.
    #[error(transparent)]
    Refused(#[from] LedgerError),
    /// The thread that works on the database ended before its time.
    #[error(transparent)]
    Ended(#[from] JoinError),
}

/// Revocation that is in force.
#[derive(Debug)]
pub(super) struct RevokedToken {
    /// The revocation.
    pub(super) held: Held,
    /// True if the revocation is new.
    pub(super) new: bool,
    /// Identifier of the event, or `None` if there is none: the revocation is not new, or the log could not take the event.
    pub(super) event: Option<String>,
}

/// Revokes a token by order of an operator. Access ends before the event is recorded, so that a full log cannot delay it. The
/// revocation stays in force if the log cannot take the event: its signed claims name the operator, the time and the reason.
pub(super) async fn revoke_token(
    revocations: &Arc<Revocations>,
    order: Order,
    live: &Live,
    (audit, node, clock): (&AuditLog, &NodeId, &Clock),
) -> Result<RevokedToken, RevokeError> {
    let (revoking, now, ordered) = (Arc::clone(revocations), clock(), order.clone());
    let (held, new) = spawn_blocking(move || revoking.revoke(&ordered, now)).await??;
    if !new {
        return Ok(RevokedToken { held, new, event: None });
    }
    let id = audit.next_id();
    let draft = Draft {
        token: Some(&order.token),
        operator: Some(&order.operator),
        because: Some(&order.reason),
        ..Draft::new(EventKind::Revocation, &id, clock(), node, live.connectivity())
    };
    let recorded = audit.record_durably(&draft).await.is_ok();
    Ok(RevokedToken { held, new, event: recorded.then(|| id.to_string()) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;
    use crate::dataplane::audit::events;
    use crate::nodes::{key, order, prover};
    use crate::world::{T0, World};

    struct Host {
        live: Arc<Live>,
        revocations: Arc<Revocations>,
        audit: AuditLog,
        node: NodeId,
        clock: Clock,
    }

    impl Host {
        fn new(directory: &Path) -> Self {
            let live = Arc::new(Live::new(World::new().snapshot(World::records(1)), T0, T0));
            let prover = prover("nod_a", 51);
            let node = prover.identity.node_id.clone();
            let path = directory.join("revocations.db");
            let revocations = Arc::new(Revocations::open(&path, Arc::clone(&live), prover).unwrap());
            let clock: Clock = Arc::new(|| T0);
            let (path, key) = (directory.join("audit.db"), Arc::new(key(51)));
            let audit = AuditLog::open(&path, node.clone(), key, Arc::clone(&clock), 100).unwrap();
            Self { live, revocations, audit, node, clock }
        }

        async fn revoke(&self) -> RevokedToken {
            let log = (&self.audit, &self.node, &self.clock);
            revoke_token(&self.revocations, order(0), &self.live, log).await.unwrap()
        }

        fn revoked(&self) -> bool {
            self.live.snapshot().local().revoked.contains_key(&order(0).token)
        }
    }

    #[tokio::test]
    async fn a_revocation_is_recorded_once() {
        let directory = tempfile::tempdir().unwrap();
        let host = Host::new(directory.path());
        let (first, again) = (host.revoke().await, host.revoke().await);
        assert!(host.revoked() && first.new && !again.new);
        assert_eq!(first.held.id, again.held.id);
        let logged = events(&directory.path().join("audit.db"), 0, 10).unwrap();
        assert!(logged.len() == 1 && logged[0].contains(&first.event.unwrap()), "{logged:?}");
        assert_eq!(again.event, None);
    }

    #[tokio::test]
    async fn a_token_is_revoked_also_if_the_event_cant_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let host = Host::new(directory.path());
        host.audit.close();
        let revoked = host.revoke().await;
        assert_eq!((revoked.new, revoked.event), (true, None));
        assert!(host.revoked());
    }
}
