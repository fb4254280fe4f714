//! Opens the parts of the daemon that need no listener: keys, databases, the part that decides.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use rand_core::CryptoRng;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::StartError;
use super::admin::Administration;
use super::admin::allowed::Allowed;
use super::databases::{open_audit, open_glass_task, open_reconciler, open_replica};
use super::files::{ConfiguredFiles, NodeFiles};
use super::parts::{code_of, decryption_key, sessions, upstream_identity};
use super::reload::Reload;
use crate::dataplane::audit::{AuditLog, AuditMetrics, UploadLag};
use crate::dataplane::authorize::introspection::Introspector;
use crate::dataplane::authorize::rate::RateLimits;
use crate::dataplane::authorize::sessions::Sessions;
use crate::dataplane::authorize::{Authorizer, VerificationPermits};
use crate::dataplane::code::Code;
use crate::dataplane::config::Config;
use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::environment::Environments;
use crate::dataplane::faces::answer::Answers;
use crate::dataplane::faces::http::Face;
use crate::dataplane::glass::GlassTask;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::credential::Prover;
use crate::dataplane::node::identity::{IdentityError, mark_databases_made};
use crate::dataplane::node::state::Live;
use crate::dataplane::observe::metrics::Metrics;
use crate::dataplane::observe::traces::Traces;
use crate::dataplane::replica::replication::Replication;
use crate::dataplane::uplink::client::{Patience, Upstream};
use crate::dataplane::uplink::deploys::Deploys;
use crate::dataplane::uplink::membership::Statements;
use crate::dataplane::uplink::reconcile::Reconciler;
use crate::dataplane::uplink::sync::Follower;
use crate::platform::clock::Clock;
use crate::protocol::time::Time;

/// Parts that were opened from the configuration and the state directory.
pub(super) struct OpenParts {
    pub(super) live: Arc<Live>,
    pub(super) replication: Arc<Replication>,
    pub(super) reconciler: Arc<Reconciler>,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) face: Arc<Face>,
    pub(super) glass_task: Arc<GlassTask>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) lag: Arc<UploadLag>,
    pub(super) code: Arc<Code>,
    pub(super) traces: Traces,
    environments: Arc<Environments>,
}

impl OpenParts {
    /// Opens the parts, in the order in which they need each other.
    pub(super) async fn open(
        config: &Config,
        prover: Arc<Prover>,
        files: ConfiguredFiles,
        node: NodeFiles,
        clock: &Clock,
        rng: &mut (dyn CryptoRng + Send),
    ) -> Result<Self, StartError> {
        let state = &config.state_dir;
        let (identity, key) = (prover.identity.clone(), Arc::clone(&prover.key));
        let decryption_key = decryption_key(config, node.decryption_key, rng)?;
        let traces = Traces::start(config.tracing.as_ref(), &identity)?;
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), clock()));
        let variables = config.environment_directory();
        let environments = Environments::new(variables, identity.clone(), decryption_key, Arc::clone(&live));
        let code = Arc::new(code_of(config, &prover, &live, rng));
        live.change_local(|local| local.routes = files.routes);
        left_out(&live, &files.unreadable_roots, clock());
        let staleness = config.staleness();
        let replica = state.join("replica.db");
        let store = open_replica(&replica, &identity, &files.roots, &staleness, &live, clock())?;
        let audit_path = state.join("audit.db");
        let audit = Arc::new(open_audit(&audit_path, config, &identity, &key, clock, &live)?);
        let lag = Arc::new(UploadLag::new(audit_path));
        let reconciler = open_reconciler(state, &audit, &prover, &live, clock).await?;
        let replication = Arc::new(Replication::new(store, Arc::clone(&live), staleness));
        let sessions = sessions(config, node.session_keys, &live, clock(), rng)?;
        let authorizer =
            Arc::new(authorizer(config, &live, (&audit, &lag), prover, clock, (&traces, sessions, &code))?);
        // Opened before the listeners, so that glass whose time is over is open to no request.
        let glass_task = Arc::new(open_glass_task(&state.join("glass.db"), config, &authorizer)?);
        for fault in &files.unreadable_airflow_keys {
            tracing::error!(error = %fault, "an Airflow's key is missing in the JWK set");
        }
        let identity = upstream_identity(config, node.upstream_key, files.airflow_keys, clock, rng)?;
        let answers = Answers { pass_status: config.proxies.pass_status, identity };
        let face = Arc::new(Face {
            authorizer: Arc::clone(&authorizer),
            trusted: ArcSwap::from_pointee(config.proxies.trusted.clone()),
            answers,
            code: Some(Arc::clone(&code)),
        });
        let environments = Arc::new(environments);
        // Marked before the listeners open, so that a host that may have accepted a revocation is never taken for a new one.
        // On a full disk the next start tries again; until then the inventory is the only record.
        if let Err(error) = mark_databases_made(&config.identity_file()) {
            tracing::warn!(%error, "the identity file can't say that this host has made its databases");
        }
        Ok(Self {
            live,
            replication,
            reconciler,
            authorizer,
            face,
            glass_task,
            audit,
            lag,
            code,
            traces,
            environments,
        })
    }

    /// Returns the part that reloads the configuration. `table` has the settings in force.
    pub(super) fn reload(
        &self,
        config: &Config,
        table: toml::Table,
        allowed: &Arc<Allowed>,
        clock: &Clock,
    ) -> Arc<Reload> {
        Arc::new(Reload {
            file: config.file.clone(),
            in_force: Mutex::new(table),
            face: Arc::clone(&self.face),
            replication: Arc::clone(&self.replication),
            allowed: Arc::clone(allowed),
            clock: Arc::clone(clock),
        })
    }

    /// Returns the parts that the admin socket works with.
    pub(super) fn administration(
        &self,
        config: &Config,
        allowed: &Arc<Allowed>,
        reload: &Arc<Reload>,
        wake: &Arc<Notify>,
        clock: &Clock,
    ) -> Arc<Administration> {
        let prover = &self.reconciler.prover;
        Arc::new(Administration {
            authorizer: Arc::clone(&self.authorizer),
            replication: Arc::clone(&self.replication),
            revocations: Arc::clone(&self.reconciler.revocations),
            outages: Arc::clone(&self.reconciler.outages),
            glass_task: Arc::clone(&self.glass_task),
            audit: Arc::clone(&self.audit),
            audit_path: config.state_dir.join("audit.db"),
            identity: prover.identity.clone(),
            key: prover.key.public().clone(),
            clock: Arc::clone(clock),
            wake: Arc::clone(wake),
            allowed: Arc::clone(allowed),
            reload: Arc::clone(reload),
            code: Arc::clone(&self.code),
        })
    }

    /// Starts the tasks that send to the control plane: deploys, statements of the node, and what happened on it.
    pub(super) fn start_uplink(
        &self,
        upstream: &Arc<Upstream>,
        name: Option<String>,
        clock: &Clock,
    ) -> [JoinHandle<()>; 3] {
        let (code_changes, told_changes) = watch::channel(None);
        let (reconciler, replication) = (&self.reconciler, &self.replication);
        let statements = Statements::new(reconciler, replication, name, &self.environments, code_changes);
        let deploys = Deploys::new(
            Arc::clone(&self.code),
            Arc::clone(&reconciler.prover),
            Arc::clone(&self.live),
            Arc::clone(clock),
            told_changes,
        );
        [
            tokio::spawn(deploys.run(Arc::clone(upstream))),
            tokio::spawn(statements.run(Arc::clone(upstream))),
            tokio::spawn(Arc::clone(reconciler).run(Arc::clone(upstream), self.traces.clone())),
        ]
    }

    /// Returns the part that follows the control plane's replica.
    pub(super) fn follower<R>(
        &self,
        upstream: Arc<Upstream>,
        wake: Arc<Notify>,
        clock: &Clock,
        rng: R,
    ) -> Follower<R> {
        Follower {
            replication: Arc::clone(&self.replication),
            upstream,
            reconciler: Arc::clone(&self.reconciler),
            clock: Arc::clone(clock),
            rng,
            wake,
            traces: self.traces.clone(),
            nonce: None,
            stated: 0,
        }
    }
}

/// Returns the part that decides. It has its own connections for introspection, so that an answer never waits behind a bundle.
fn authorizer(
    config: &Config,
    live: &Arc<Live>,
    (audit, lag): (&Arc<AuditLog>, &Arc<UploadLag>),
    prover: Arc<Prover>,
    clock: &Clock,
    (traces, sessions, code): (&Traces, Option<Arc<Sessions>>, &Arc<Code>),
) -> Result<Authorizer, StartError> {
    let within = Duration::from_millis(config.introspection.timeout_milliseconds);
    let lifetime = Duration::from_secs(config.introspection.cache_seconds);
    let patience = Patience { connect: within, headers: within, ..Patience::default() };
    let (urls, ca_file) = (config.control_plane.urls.clone(), config.control_plane.ca_file.as_deref());
    let upstream =
        Upstream::new(urls, ca_file, config.state_dir.clone(), patience).map_err(StartError::Upstream)?;
    let (live, clock, node) = (Arc::clone(live), Arc::clone(clock), prover.identity.node_id.clone());
    let upstream = Arc::new(upstream);
    let introspector =
        Introspector::new(Arc::clone(&live), upstream, prover, Arc::clone(&clock), lifetime, within);
    let told = AuditMetrics { log: Arc::clone(audit), lag: Arc::clone(lag), clock: Arc::clone(&clock) };
    let permits = Arc::new(VerificationPermits::new(config.listen.workers().get().into()));
    let waiting = Arc::clone(&permits);
    Ok(Authorizer {
        metrics: Metrics::new(Arc::clone(&live), Arc::clone(&clock))
            .with_audit(told)
            .with_code(Arc::clone(code))
            .with_signatures_waiting(move || waiting.waiting()),
        rates: RateLimits::default(),
        permits,
        introspector: Some(Arc::new(introspector)),
        sessions,
        audit: Arc::clone(audit),
        traces: traces.clone(),
        live,
        node,
        clock,
    })
}

/// Raises an alarm for root keys that cannot be read. The readable ones are enough.
fn left_out(live: &Live, faults: &[IdentityError], now: Time) {
    for fault in faults {
        live.alarms.raise(AlarmKind::Refused, &format!("{fault}; it is left out"), now);
    }
}
