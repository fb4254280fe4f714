//! Accepted clock: an administrator of this host declares its clock right although the time floor is ahead of it. The
//! acceptance is recorded before it takes effect.

use std::sync::Arc;

use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};

use crate::dataplane::audit::{AuditLog, AuditUnavailable};
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::replica::replication::Replication;
use crate::dataplane::replica::store::StoreError;
use crate::protocol::event::{Draft, EventKind};
use crate::protocol::id::NodeId;
use crate::protocol::revocation::{RevocationError, check_reason};
use crate::protocol::time::Time;

/// Reasons why a clock is not accepted.
#[derive(Debug, Error)]
pub(super) enum ClockError {
    /// The reason breaks the rules of [`check_reason`].
    #[error(transparent)]
    Reason(#[from] RevocationError),
    /// The time floor is not ahead of the clock.
    #[error("the clock is trusted: it shows {0}, and there is nothing to accept")]
    Trusted(Time),
    /// The audit log cannot take the event, so the clock was not accepted.
    #[error("{0}; the clock was not accepted")]
    Unrecorded(#[from] AuditUnavailable),
    /// The acceptance was recorded, but the replica's database can't take it.
    #[error(transparent)]
    NotStored(#[from] StoreError),
    /// The thread that works on the database ended before its time.
    #[error(transparent)]
    Ended(#[from] JoinError),
}

/// Acceptance that is in force.
#[derive(Debug)]
pub(super) struct AcceptedClock {
    /// Seconds by which the time floor was ahead.
    pub(super) ahead: i64,
    /// Number of expired tokens that stay expired.
    pub(super) stay_expired: usize,
    /// Identifier of the event.
    pub(super) event: String,
}

/// Accepts `wall` as the time, by order of `operator`. The event is on the disk first: if the log cannot take it, the clock
/// is not accepted.
pub(super) async fn accept_clock(
    replication: &Arc<Replication>,
    (audit, node): (&AuditLog, &NodeId),
    (operator, reason): (&str, &str),
    wall: Time,
) -> Result<AcceptedClock, ClockError> {
    check_reason(reason)?;
    let live = replication.live();
    if live.now(wall).trusted() {
        return Err(ClockError::Trusted(wall));
    }
    let id = audit.next_id();
    let draft = Draft {
        operator: Some(operator),
        because: Some(reason),
        ..Draft::new(EventKind::ClockAccepted, &id, wall, node, live.connectivity())
    };
    audit.record_durably(&draft).await?;
    let accepting = Arc::clone(replication);
    let (ahead, stay_expired) = spawn_blocking(move || accepting.accept_clock(wall)).await??;
    let what = format!(
        "{operator} accepted the clock at {wall}, {ahead} s behind the time this node had taken for proved: {reason}"
    );
    live.alarms.raise(AlarmKind::Clock, &what, wall);
    Ok(AcceptedClock { ahead, stay_expired, event: id.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tempfile::TempDir;

    use super::*;
    use crate::dataplane::audit::events;
    use crate::dataplane::decide::snapshot::{Snapshot, Staleness};
    use crate::dataplane::node::state::Live;
    use crate::dataplane::replica::store::ReplicaStore;
    use crate::protocol::key::SigningKey;
    use crate::world::{T0, World};

    struct Host {
        directory: TempDir,
        replication: Arc<Replication>,
        audit: AuditLog,
        node: NodeId,
    }

    impl Host {
        /// A host whose time floor is a day ahead of its clock, which shows [`T0`].
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let live = Arc::new(Live::new(Snapshot::absent(), T0.plus(86_400), T0));
            let path = directory.path().join("replica.db");
            let store = ReplicaStore::open(&path, World::data_plane(), World::new().pinned()).unwrap();
            let (node, key) = (NodeId::new("nod_a").unwrap(), Arc::new(SigningKey::from_seed(&[9; 32])));
            let path = directory.path().join("audit.db");
            let audit = AuditLog::open(&path, node.clone(), key, Arc::new(|| T0), 100).unwrap();
            let replication = Arc::new(Replication::new(store, live, Staleness::default()));
            Self { directory, replication, audit, node }
        }

        async fn accept(&self, reason: &str) -> Result<AcceptedClock, ClockError> {
            accept_clock(&self.replication, (&self.audit, &self.node), ("uid 7", reason), T0).await
        }

        fn trusted(&self) -> bool {
            self.replication.live().now(T0).trusted()
        }

        fn logged(&self) -> Vec<String> {
            events(&self.directory.path().join("audit.db"), 0, 10).unwrap()
        }
    }

    #[tokio::test]
    async fn a_clock_that_is_accepted_is_trusted_and_recorded() {
        let host = Host::new();
        assert!(!host.trusted());
        let accepted = host.accept("time server was ahead").await.unwrap();
        assert_eq!((accepted.ahead, accepted.stay_expired), (86_400, 0));
        assert!(host.trusted());
        let logged = host.logged();
        assert!(logged.len() == 1 && logged[0].contains(&accepted.event), "{logged:?}");
        assert_eq!(host.replication.live().alarms.count(AlarmKind::Clock), 1);
    }

    #[tokio::test]
    async fn no_clock_is_accepted_if_the_event_cant_be_written() {
        let host = Host::new();
        host.audit.close();
        let refused = host.accept("time server was ahead").await.unwrap_err();
        assert!(matches!(refused, ClockError::Unrecorded(_)), "{refused}");
        assert!(!host.trusted());
        assert_eq!(host.replication.live().alarms.count(AlarmKind::Clock), 0);
    }

    #[tokio::test]
    async fn an_acceptance_that_is_refused_leaves_no_event() {
        let host = Host::new();
        assert!(matches!(host.accept("").await, Err(ClockError::Reason(_))));
        host.accept("time server was ahead").await.unwrap();
        assert!(matches!(host.accept("again").await, Err(ClockError::Trusted(T0))));
        assert_eq!(host.logged().len(), 1);
    }
}
