//! Prometheus metrics, in the OpenMetrics text format.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::dataplane::audit::AuditMetrics;
use crate::dataplane::code::{Code, CodeMetrics};
use crate::dataplane::decide::Reason;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::connection::State;
use crate::dataplane::node::state::Live;
use crate::platform::clock::Clock;
use crate::platform::metric::gauge;
use crate::platform::metric::registered;
use crate::platform::net::listener::Connections;
use crate::protocol::ends::EndKind;
use crate::protocol::event::Connectivity;
use crate::protocol::time::Time;

/// Media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Registry and counters of a node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// One counter for each reason, created in advance, so that counting needs no lookup.
    decisions: Vec<Counter>,
    seconds: Histogram,
    connections: Connections,
    encoding: Arc<Mutex<()>>,
}

impl Metrics {
    /// Returns the metrics of a node. Gauges are read from `live` when the metrics are requested.
    #[must_use]
    pub fn new(live: Arc<Live>, clock: Clock) -> Self {
        let mut registry = Registry::with_prefix("halligan");
        let family: Family<[(&str, &str); 2], Counter> =
            registered(&mut registry, "decisions", "Decisions, by reason code");
        let decisions = Reason::ALL
            .into_iter()
            .map(|reason| {
                let decision = if reason == Reason::Ok { "allow" } else { "deny" };
                family.get_or_create_owned(&[("decision", decision), ("reason", reason.code())])
            })
            .collect();
        let seconds = Histogram::new([1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 5e-3, 2.5e-2, 0.1, 1.0]);
        registry.register_with_unit(
            "authorize",
            "Time from a request's headers to its answer",
            Unit::Seconds,
            seconds.clone(),
        );
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", version);
        let started = clock();
        registry.register_collector(Box::new(NodeGauges { live, clock, started }));
        let connections = Connections::registered(&mut registry);
        Self { registry, decisions, seconds, connections, encoding: Arc::default() }
    }

    /// Adds the metrics of an audit log.
    #[must_use]
    pub fn with_audit(mut self, audit: AuditMetrics) -> Self {
        self.registry.register_collector(Box::new(audit));
        self
    }

    /// Adds the metrics of the code of deployments.
    #[must_use]
    pub fn with_code(mut self, code: Arc<Code>) -> Self {
        self.registry.register_collector(Box::new(CodeMetrics(code)));
        self
    }

    /// Adds the number of requests that wait until their token's signature is verified.
    #[must_use]
    pub fn with_signatures_waiting(mut self, waiting: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        self.registry.register_collector(Box::new(SignaturesWaiting(Box::new(waiting))));
        self
    }

    /// Returns the counters of connections.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Counts a decision.
    pub fn decided(&self, reason: Reason, took: Duration) {
        self.decisions[reason as usize].inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// Waits until no other caller encodes the metrics, and keeps the others waiting until the guard is dropped.
    pub async fn encoding_turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.encoding).lock_owned().await
    }

    /// Encodes all metrics as text. A thread that decides must not call it: its requests would wait.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Number of requests that wait for the verification of a signature.
struct SignaturesWaiting(Box<dyn Fn() -> usize + Send + Sync>);

impl std::fmt::Debug for SignaturesWaiting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SignaturesWaiting")
    }
}

impl Collector for SignaturesWaiting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Requests that wait until the signature of their token is verified";
        gauge(&mut encoder, "signatures_waiting", help, None, count((self.0)()))
    }
}

/// Gauges that are read when the metrics are requested.
struct NodeGauges {
    live: Arc<Live>,
    clock: Clock,
    started: Time,
}

impl std::fmt::Debug for NodeGauges {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("NodeGauges")
    }
}

impl Collector for NodeGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.encode_replica(&mut encoder)?;
        self.encode_sync(&mut encoder)?;
        self.encode_host(&mut encoder)?;
        self.encode_ends(&mut encoder)?;
        self.encode_counters(&mut encoder)
    }
}

impl NodeGauges {
    /// Encodes the facts of the replica, and the time of the start.
    fn encode_replica(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let snapshot = self.live.snapshot();
        let online = i64::from(self.live.connectivity() == Connectivity::Online);
        gauge(encoder, "control_plane_reachable", "Whether the control plane answers", None, online)?;
        gauge(
            encoder,
            "replica_tokens",
            "Tokens in the replica, dead ones included",
            None,
            count(snapshot.token_count()),
        )?;
        let broken = count(snapshot.local().broken.len());
        gauge(encoder, "glass_broken", "Deployments whose glass an operator has broken", None, broken)?;
        let outage = i64::from(snapshot.local().outage);
        gauge(encoder, "outage_judged", "Whether the control plane is judged unreachable", None, outage)?;
        if let Some(head) = snapshot.head() {
            let version = i64::try_from(head.head().version).unwrap_or(i64::MAX);
            let signed = snapshot.local().signed_at(head.head());
            let age = (self.clock)().since(signed);
            gauge(encoder, "replica_version", "Version of the replica", None, version)?;
            gauge(
                encoder,
                "replica_age",
                "Time since the replica's head was signed",
                Some(&Unit::Seconds),
                age,
            )?;
        }
        gauge(
            encoder,
            "deployments",
            "Deployments in the replica",
            None,
            count(snapshot.deployment_count()),
        )?;
        gauge(
            encoder,
            "deployments_without_routes",
            "Deployments that name a route map this host does not have: they are denied everything",
            None,
            count(snapshot.unmapped().count()),
        )?;
        let now = self.live.now((self.clock)());
        let behind = now.floor.since(now.wall).max(0);
        let help = "How far the clock is behind a time that is known to have passed";
        gauge(encoder, "clock_behind", help, Some(&Unit::Seconds), behind)?;
        gauge(
            encoder,
            "start_time",
            "When the daemon started (Unix time)",
            Some(&Unit::Seconds),
            self.started.unix(),
        )?;
        Ok(())
    }

    /// Encodes the state of the connection to the control plane.
    fn encode_sync(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let progress = self.live.standing().progress;
        let mut family = encoder.encode_descriptor(
            "sync_state",
            "How the node stands with its control plane: 1 for the state it is in",
            None,
            MetricType::Gauge,
        )?;
        for state in State::ALL {
            let labels = [("state", state.as_str())];
            let value = i64::from(state == progress.state);
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        let failures = i64::from(progress.failures);
        gauge(
            encoder,
            "sync_failures_in_a_row",
            "Attempts to renew the replica that failed since one succeeded",
            None,
            failures,
        )?;
        let since = (self.clock)().since(progress.since);
        gauge(
            encoder,
            "sync_state_age",
            "Time since the state of sync last changed",
            Some(&Unit::Seconds),
            since,
        )
    }

    /// Encodes the facts of the disk, the clock and the membership.
    fn encode_host(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let proved = i64::from(self.live.on_disk().is_some());
        gauge(
            encoder,
            "replica_on_disk",
            "Whether what the disk holds of the replica is proved",
            None,
            proved,
        )?;
        if let Some(persisted) = self.live.on_disk() {
            let age = (self.clock)().since(persisted.proved_at);
            let help = "Time since all of the replica was last read from the disk and proved";
            gauge(encoder, "replica_disk_proof_age", help, Some(&Unit::Seconds), age)?;
        }
        let trusted = i64::from(self.live.now((self.clock)()).trusted());
        gauge(
            encoder,
            "clock_trusted",
            "Whether the clock is not behind the time that is known to have passed",
            None,
            trusted,
        )?;
        let retired = i64::from(self.live.membership.retired().is_some());
        gauge(encoder, "node_retired", "Whether this node was retired", None, retired)?;
        let shared = i64::from(self.live.membership.shared((self.clock)()));
        gauge(encoder, "node_shared", "Whether another host has the identity of this one", None, shared)
    }

    /// Encodes the age limits of the replica, and the times until something expires.
    fn encode_ends(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = self.live.now((self.clock)());
        let mut family = encoder.encode_descriptor(
            "replica_age_limit",
            "How old the replica may be, by role",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (role, freshness) in self.live.snapshot().freshness(now.effective()) {
            ConstGauge::new(freshness.limit).encode(family.encode_family(&[("role", &*role)])?)?;
        }
        let mut family = encoder.encode_descriptor(
            "end_left",
            "Time until the first end of its kind that is known: the keyset's, a certificate's, a direct-access token's",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        let ends = self.live.ends();
        for kind in EndKind::ALL {
            let first = ends.iter().filter(|end| end.kind == kind).map(|end| end.left(now.wall)).min();
            if let Some(left) = first {
                ConstGauge::new(left).encode(family.encode_family(&[("kind", kind.as_str())])?)?;
            }
        }
        Ok(())
    }

    /// Encodes the counters of signatures and alarms.
    fn encode_counters(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Tokens whose signature was known already (hit), or had to be verified (miss)";
        let mut family =
            encoder.encode_descriptor("signature_cache_lookups", help, None, MetricType::Counter)?;
        for (result, total) in self.live.snapshot().signature_lookups() {
            ConstCounter::new(total).encode(family.encode_family(&[("result", result)])?)?;
        }
        let mut family = encoder.encode_descriptor("alarms", "Alarms, by kind", None, MetricType::Counter)?;
        for kind in AlarmKind::ALL {
            let labels = [("kind", kind.as_str())];
            ConstCounter::new(self.live.alarms.count(kind)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
