//! Breaking and sealing by operators of this host. A breaking is recorded before it takes effect; a sealing takes effect
//! before it is recorded.

use std::sync::Arc;

use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};

use super::{GlassError, GlassTask};
use crate::dataplane::audit::AuditUnavailable;
use crate::dataplane::decide::glass::Broken;
use crate::protocol::event::{Draft, EventKind};
use crate::protocol::id::DeploymentId;

/// Order of an operator to break the glass of a deployment.
#[derive(Clone, Debug)]
pub struct BreakOrder {
    /// Identifier of the deployment, as the operator wrote it.
    pub deployment: String,
    /// User who gives the order.
    pub operator: String,
    /// The operator's reason.
    pub reason: String,
    /// Duration in seconds.
    pub seconds: i64,
}

/// Reasons why an order of an operator is not carried out.
#[derive(Debug, Error)]
pub enum OrderError {
    /// The order can't be carried out. Nothing was recorded or changed.
    #[error(transparent)]
    Refused(GlassError),
    /// The audit log cannot take the event, so the glass was not broken.
    #[error("{0}; the glass was not broken")]
    Unrecorded(#[from] AuditUnavailable),
    /// The breaking was recorded, but the database can't take it, so the glass was not broken.
    #[error(transparent)]
    NotStored(GlassError),
    /// The thread that works on the database ended before its time.
    #[error(transparent)]
    Ended(#[from] JoinError),
}

impl GlassTask {
    /// Breaks the glass of a deployment, or replaces its end. The event is on the disk before the glass breaks: if the log cannot
    /// take it, the glass stays as it is. Returns the deployment and what is in force.
    pub async fn break_glass(&self, order: BreakOrder) -> Result<(DeploymentId, Broken), OrderError> {
        let wall = (self.clock)();
        let now = self.live.now(wall);
        let deployment = self
            .glass
            .check(&order.deployment, &order.reason, order.seconds, now)
            .map_err(OrderError::Refused)?;
        let broken = Broken {
            operator: order.operator,
            reason: order.reason,
            broken_at: now.effective(),
            until: now.effective().plus(order.seconds),
        };
        let id = self.audit.next_id();
        let draft = Draft {
            deployment: Some(&deployment),
            glass: Some("broken"),
            operator: Some(&broken.operator),
            because: Some(&broken.reason),
            until: Some(broken.until),
            ..Draft::new(EventKind::GlassBroken, &id, wall, &self.node, self.live.connectivity())
        };
        self.audit.record_durably(&draft).await?;
        let (glass, id, stored) = (Arc::clone(&self.glass), deployment.clone(), broken.clone());
        spawn_blocking(move || glass.break_glass(&id, &stored)).await?.map_err(OrderError::NotStored)?;
        tracing::warn!(%deployment, operator = broken.operator, reason = broken.reason, until = %broken.until, "the glass was broken");
        Ok((deployment, broken))
    }

    /// Seals the glass of a deployment. Access ends before the event is recorded, so that a full log cannot delay it; an end that
    /// the log cannot take now is recorded later. Returns the facts of the breaking.
    pub async fn seal(&self, deployment: &DeploymentId, operator: String) -> Result<Broken, OrderError> {
        let (glass, id) = (Arc::clone(&self.glass), deployment.clone());
        let broken =
            spawn_blocking(move || glass.seal(&id, &operator)).await?.map_err(OrderError::Refused)?;
        self.settle(0).await;
        Ok(broken)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;
    use std::time::Duration;

    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;
    use crate::dataplane::audit::{AuditLog, events};
    use crate::dataplane::glass::{Glass, Hysteresis};
    use crate::dataplane::node::state::Live;
    use crate::platform::clock::Clock;
    use crate::protocol::glass::GlassMode;
    use crate::protocol::id::NodeId;
    use crate::protocol::key::SigningKey;
    use crate::protocol::record::{DeploymentRecord, Record, RecordKind};
    use crate::world::{DEPLOYMENT, T0, World};

    struct Host {
        directory: TempDir,
        task: GlassTask,
    }

    impl Host {
        /// A host that holds one deployment whose glass has to be broken.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let deployment = DeploymentRecord {
                id: DEPLOYMENT.parse().unwrap(),
                workspace: "wsp_a".into(),
                name: "a".into(),
                hosts: Vec::new(),
                routes: "airflow-v2".into(),
                glass: GlassMode::Sealed,
            };
            let record = Record::from_value(RecordKind::Deployment, DEPLOYMENT, &deployment);
            let live = Arc::new(Live::new(World::new().snapshot(vec![record]), T0, T0));
            let clock: Clock = Arc::new(|| T0);
            let glass =
                Glass::open(&directory.path().join("glass.db"), Arc::clone(&live), 3600, live.now(T0));
            let (node, key) = (NodeId::new("nod_a").unwrap(), Arc::new(SigningKey::from_seed(&[9; 32])));
            let log = directory.path().join("audit.db");
            let audit = AuditLog::open(&log, node.clone(), key, Arc::clone(&clock), 100).unwrap();
            let (glass, audit) = (Arc::new(glass.unwrap()), Arc::new(audit));
            let limits = Hysteresis { down: Duration::from_mins(1), up: Duration::from_mins(1) };
            let task = GlassTask { glass, live, audit, node, clock, limits };
            Self { directory, task }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        async fn break_glass(&self) -> Result<(DeploymentId, Broken), OrderError> {
            let (operator, reason) = ("uid 7".to_owned(), "drill".to_owned());
            let order = BreakOrder { deployment: DEPLOYMENT.to_owned(), operator, reason, seconds: 60 };
            self.task.break_glass(order).await
        }

        fn open(&self) -> bool {
            !self.task.live.snapshot().local().broken.is_empty()
        }

        /// Rows of the database, whatever is in force.
        fn stored(&self) -> u64 {
            let database = Connection::open(self.path("glass.db")).unwrap();
            database.query_row("SELECT count(*) FROM broken", [], |row| row.get(0)).unwrap()
        }

        fn logged(&self) -> Vec<String> {
            events(&self.path("audit.db"), 0, 10).unwrap()
        }
    }

    #[tokio::test]
    async fn glass_that_is_broken_is_recorded_with_who_and_why() {
        let host = Host::new();
        let (deployment, broken) = host.break_glass().await.unwrap();
        assert_eq!((deployment.as_str(), broken.until), (DEPLOYMENT, T0.plus(60)));
        assert!(host.open() && host.stored() == 1);
        let logged = host.logged();
        assert_eq!(logged.len(), 1, "{logged:?}");
        for part in [r#""glass-broken""#, r#""uid 7""#, r#""drill""#] {
            assert!(logged[0].contains(part), "{part}: {logged:?}");
        }
    }

    #[tokio::test]
    async fn nothing_breaks_if_the_event_cant_be_written() {
        let host = Host::new();
        host.task.audit.close();
        let refused = host.break_glass().await.unwrap_err();
        assert!(matches!(refused, OrderError::Unrecorded(_)), "{refused}");
        assert!(!host.open(), "in memory");
        assert_eq!(host.stored(), 0, "on the disk, and so after a restart");
    }

    #[tokio::test]
    async fn the_event_is_written_before_the_glass_breaks() {
        let host = Host::new();
        Connection::open(host.path("glass.db")).unwrap().execute_batch("DROP TABLE broken").unwrap();
        let failed = host.break_glass().await.unwrap_err();
        assert!(matches!(failed, OrderError::NotStored(GlassError::Database(_))), "{failed}");
        assert!(!host.open());
        assert_eq!(host.logged().len(), 1);
    }

    #[tokio::test]
    async fn an_order_that_is_refused_leaves_no_event() {
        let host = Host::new();
        let order = BreakOrder {
            deployment: "dep_other".into(),
            operator: "uid 7".into(),
            reason: "drill".into(),
            seconds: 60,
        };
        let refused = host.task.break_glass(order).await.unwrap_err();
        assert!(matches!(refused, OrderError::Refused(GlassError::Unknown(_))), "{refused}");
        assert_eq!(host.logged(), [""; 0]);
    }

    #[tokio::test]
    async fn sealing_ends_access_also_if_the_event_cant_be_written() {
        let host = Host::new();
        let (deployment, _) = host.break_glass().await.unwrap();
        host.task.audit.close();
        assert_eq!(host.task.seal(&deployment, "uid 8".into()).await.unwrap().operator, "uid 7");
        assert!(!host.open());
        // The end waits on the disk until the log takes it.
        assert_eq!(host.stored(), 1);
        let sealed = host.task.glass.ended(host.task.live.now(T0), 0).unwrap();
        assert_eq!(sealed[0].sealed_by.as_deref(), Some("uid 8"));
    }
}
