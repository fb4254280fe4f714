//! Metrics of the control plane: its calls and the objects it holds. They have a listener of their own, because they
//! name data planes to every reader.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::bookkeeping::Bookkeeping;
use crate::platform::metric::{registered, registered_in};
use crate::platform::net::listener::Connections;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::controlplane) struct Call {
    pub(in crate::controlplane) method: String,
    pub(in crate::controlplane) route: String,
    pub(in crate::controlplane) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::controlplane) struct DataPlane {
    pub(in crate::controlplane) data_plane: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::controlplane) struct Kind {
    pub(in crate::controlplane) kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Delivery {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lost {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::controlplane) struct Table {
    pub(in crate::controlplane) table: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pruned {
    table: &'static str,
    cause: &'static str,
}

/// Reasons for which an announcement is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controlplane) enum Loss {
    /// The queue was full.
    Full,
    /// The endpoint did not accept it within the time limit.
    GivenUp,
}

impl Loss {
    const ALL: [Self; 2] = [Self::Full, Self::GivenUp];

    const fn label(self) -> Lost {
        match self {
            Self::Full => Lost { reason: "full" },
            Self::GivenUp => Lost { reason: "given_up" },
        }
    }
}

/// Cause for which retention deletes a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controlplane) enum Cause {
    /// The row is older than the limit.
    Age,
    /// The table is larger than the limit.
    Bytes,
}

impl Cause {
    const ALL: [Self; 2] = [Self::Age, Self::Bytes];

    const fn label(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Bytes => "bytes",
        }
    }
}

/// Attempt to deliver an announcement, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controlplane) enum Attempted {
    /// The endpoint accepted it.
    Delivered,
    /// The attempt failed, and is repeated.
    Failed,
    /// The attempt failed, and is not repeated.
    GivenUp,
}

/// Metrics: counters that are updated at once, and gauges that are read from the database at each scrape.
#[derive(Debug)]
pub(in crate::controlplane) struct Metrics {
    pub(in crate::controlplane) registry: Registry,
    pub(in crate::controlplane) calls: Family<Call, Counter>,
    pub(in crate::controlplane) seconds: Histogram,
    pub(in crate::controlplane) waiting: Gauge,
    pub(in crate::controlplane) replicas: ReplicaMetrics,
    pub(in crate::controlplane) nodes: Nodes,
    pub(in crate::controlplane) webhook: Webhook,
    pub(in crate::controlplane) tables: Tables,
    pub(in crate::controlplane) writable: Gauge,
    pub(in crate::controlplane) environment_key: Gauge,
    pub(in crate::controlplane) connections: Connections,
}

/// Metrics of tokens and replicas.
#[derive(Debug)]
pub(in crate::controlplane) struct ReplicaMetrics {
    pub(in crate::controlplane) tokens: Family<Kind, Gauge>,
    pub(in crate::controlplane) versions: Family<DataPlane, Gauge>,
    pub(in crate::controlplane) ends: Family<Kind, Gauge>,
}

impl ReplicaMetrics {
    fn registered(of: &mut Registry) -> Self {
        Self {
            tokens: registered(of, "tokens", "Tokens that were not deleted, by kind"),
            versions: registered(
                of,
                "replica_version",
                "Version of the replica that is published to a data plane",
            ),
            ends: registered_in(
                of,
                Unit::Seconds,
                "end_left",
                "Time until the earliest known expiry of each kind: of the keyset, of the certificate, of a token within thirty days",
            ),
        }
    }
}

/// Metrics of nodes and of their faults.
#[derive(Debug)]
pub(in crate::controlplane) struct Nodes {
    pub(in crate::controlplane) living: Family<DataPlane, Gauge>,
    pub(in crate::controlplane) shared: Family<DataPlane, Gauge>,
    pub(in crate::controlplane) forks: Family<DataPlane, Gauge>,
    pub(in crate::controlplane) ahead: Family<DataPlane, Gauge>,
    pub(in crate::controlplane) log_faults: Family<DataPlane, Counter>,
    pub(in crate::controlplane) late_uses: Family<DataPlane, Counter>,
    pub(in crate::controlplane) late_use_noted: Family<DataPlane, Gauge>,
}

impl Nodes {
    fn registered(of: &mut Registry) -> Self {
        Self {
            living: registered(of, "nodes", "Nodes that were not retired"),
            shared: registered(of, "nodes_shared", "Nodes whose identity two hosts used in the last hour"),
            forks: registered(
                of,
                "replica_forks",
                "Heads that nodes hold and that contradict another head of the same version",
            ),
            ahead: registered(
                of,
                "nodes_ahead",
                "Nodes that hold a later version than the published one: the database was restored from a backup",
            ),
            log_faults: registered(
                of,
                "log_faults",
                "Faults that were found in the audit logs of nodes as they arrived",
            ),
            late_uses: registered(
                of,
                "late_uses",
                "Uses of direct-access tokens after their end, by data plane",
            ),
            late_use_noted: registered_in(
                of,
                Unit::Seconds,
                "late_use_noted_time",
                "Time at which the last late use became known (Unix time)",
            ),
        }
    }
}

/// Metrics of the webhook.
#[derive(Debug)]
pub(in crate::controlplane) struct Webhook {
    pub(in crate::controlplane) waiting: Gauge,
    pub(in crate::controlplane) age: Gauge,
    deliveries: Family<Delivery, Counter>,
    lost: Family<Lost, Counter>,
}

impl Webhook {
    fn registered(of: &mut Registry) -> Self {
        Self {
            waiting: registered(
                of,
                "announcements_waiting",
                "Announcements that the webhook has not accepted yet",
            ),
            age: registered_in(
                of,
                Unit::Seconds,
                "announcement_age",
                "Time for which the oldest announcement has been waiting; 0 while none waits",
            ),
            deliveries: registered(
                of,
                "deliveries",
                "Attempts to deliver an announcement to the webhook, by outcome",
            ),
            lost: registered(
                of,
                "announcements_lost",
                "Announcements that will never be delivered to the webhook, by reason",
            ),
        }
    }
}

/// Metrics of the tables that grow with use.
#[derive(Debug)]
pub(in crate::controlplane) struct Tables {
    pub(in crate::controlplane) rows: Family<Table, Gauge>,
    pub(in crate::controlplane) bytes: Family<Table, Gauge>,
    pruned: Family<Pruned, Counter>,
}

impl Tables {
    fn registered(of: &mut Registry) -> Self {
        Self {
            rows: registered(of, "table_rows", "Rows of a table that grows with use"),
            bytes: registered_in(
                of,
                Unit::Bytes,
                "table",
                "Size of the rows of a table that grows with use; [retention] limits it",
            ),
            pruned: registered(
                of,
                "pruned_rows",
                "Rows that retention deleted, by table and cause (age, bytes)",
            ),
        }
    }
}

impl Metrics {
    pub(in crate::controlplane) fn new(bookkeeping: &Bookkeeping) -> Self {
        let mut registry = Registry::with_prefix("halligan_control");
        let of = &mut registry;
        let calls = registered(of, "calls", "Calls, by method, route and status");
        let seconds = Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]);
        let help = "Time from a call's headers to its answer's; long polls are left out";
        of.register_with_unit("call", help, Unit::Seconds, seconds.clone());
        let lost = "Notes (a token's last use, a shared identity) that could not be written; the calls were answered without them";
        of.register("bookkeeping_lost", lost, bookkeeping.lost.clone());
        of.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let metrics = Self {
            calls,
            seconds,
            waiting: registered(of, "feeds_waiting", "Nodes that wait for a change of their replica"),
            replicas: ReplicaMetrics::registered(of),
            nodes: Nodes::registered(of),
            webhook: Webhook::registered(of),
            tables: Tables::registered(of),
            writable: registered(
                of,
                "database_writable",
                "1 while the database can be written, tried at each scrape",
            ),
            environment_key: registered(
                of,
                "environment_key_usable",
                "1 while the file of the key of the environment variables can be used, or no variables are stored",
            ),
            connections: Connections::registered(of),
            registry: Registry::default(),
        };
        // Initialised to 0, so that the first increase is visible.
        for table in ["event", "audit_log", "change"] {
            for cause in Cause::ALL {
                metrics.tables.pruned.get_or_create_owned(&Pruned { table, cause: cause.label() });
            }
        }
        for outcome in ["delivered", "failed"] {
            metrics.webhook.deliveries.get_or_create_owned(&Delivery { outcome });
        }
        for loss in Loss::ALL {
            metrics.webhook.lost.get_or_create_owned(&loss.label());
        }
        Self { registry, ..metrics }
    }

    /// Counts an attempt to deliver an announcement.
    pub(in crate::controlplane) fn attempted(&self, attempted: Attempted) {
        let outcome = if attempted == Attempted::Delivered { "delivered" } else { "failed" };
        self.webhook.deliveries.get_or_create_owned(&Delivery { outcome }).inc();
        if attempted == Attempted::GivenUp {
            self.announcement_lost(Loss::GivenUp);
        }
    }

    /// Counts stored faults of nodes' logs.
    pub(in crate::controlplane) fn count_log_faults(&self, data_plane: &str, faults: u64) {
        if faults > 0 {
            self.nodes
                .log_faults
                .get_or_create_owned(&DataPlane { data_plane: data_plane.into() })
                .inc_by(faults);
        }
    }

    /// Counts rows that retention deleted.
    pub(in crate::controlplane) fn pruned(&self, table: &'static str, cause: Cause, rows: usize) {
        let labels = Pruned { table, cause: cause.label() };
        self.tables.pruned.get_or_create_owned(&labels).inc_by(rows as u64);
    }

    /// Counts an announcement that will never be delivered.
    pub(in crate::controlplane) fn announcement_lost(&self, loss: Loss) {
        self.webhook.lost.get_or_create_owned(&loss.label()).inc();
    }
}
