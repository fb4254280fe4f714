//! State of the code for operators, and metrics of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::Code;
use super::deployment_code::{Above, DeploymentCode};
use crate::platform::metric::gauge;
use crate::protocol::deploy::exchange::StandingDeploy;
use crate::protocol::deploy::host::HostDeploy;
use crate::protocol::deploy::order::InForce;
use crate::protocol::id::{DeployId, DeploymentId};

/// State of one deployment's code.
#[derive(Clone, Debug)]
pub struct CodeState {
    /// Deployment.
    pub deployment: DeploymentId,
    /// Deploy in force, or `None` if no object that names one holds.
    pub deploy: Option<DeployId>,
    /// Version of the control plane's deploy that is held, or 0.
    pub version: u64,
    /// The deploy in force, if a host took it.
    pub host: Option<HostDeploy>,
    /// Deploy that the link points to, as verified in this run.
    pub current: Option<DeployId>,
    /// Number of host deploys that the control plane has not answered about.
    pub waiting: usize,
    /// Reason why the deploy in force is not the one that runs.
    pub problem: Option<String>,
    /// Last host deploy that the control plane did not take, and the one that stands there.
    pub superseded: Option<(DeployId, Option<StandingDeploy>)>,
}

impl CodeState {
    fn observe(deployment: &DeploymentId, held: &DeploymentCode) -> Self {
        let in_force = held.in_force();
        let target = held.target();
        let behind = target.as_ref().is_some_and(|target| held.current.as_ref() != Some(&target.name));
        let setback =
            held.setback.as_ref().filter(|setback| target.is_some_and(|target| target.name == setback.name));
        let waits = || behind.then(|| "its archive has not come yet".to_owned());
        Self {
            deployment: deployment.clone(),
            deploy: in_force.map(|found| found.deploy().clone()),
            version: held.version(),
            host: match in_force {
                Some(InForce::Host(host)) => Some(host.clone()),
                _ => None,
            },
            current: held.current.as_ref().map(|name| name.deploy.clone()),
            waiting: held.hosts.values().filter(|known| known.above == Above::Waiting).count(),
            problem: setback.map(|setback| setback.why.clone()).or_else(waits),
            superseded: held.superseded.clone(),
        }
    }

    /// Returns true if the deployment does not run the deploy in force.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.deploy.is_some() && self.current != self.deploy
    }
}

impl Code {
    /// Returns the state of each deployment that has code on this host. It waits for no lock that is held while the disk is
    /// written, so that metrics are answered while the disk hangs.
    #[must_use]
    pub fn states(&self) -> Arc<Vec<CodeState>> {
        self.states.load_full()
    }

    /// Makes the present state visible to [`Self::states`].
    pub(super) fn publish(&self) {
        let held = self.held();
        let states = held.iter().map(|(deployment, held)| CodeState::observe(deployment, held));
        let states = states.filter(|state| state.deploy.is_some() || state.current.is_some()).collect();
        self.states.store(Arc::new(states));
    }
}

/// Collector that reads the state of the code when metrics are requested.
pub struct CodeMetrics(pub Arc<Code>);

impl std::fmt::Debug for CodeMetrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("CodeMetrics")
    }
}

impl Collector for CodeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let states = self.0.states();
        let behind = states.iter().filter(|state| state.is_behind()).count();
        let help = "Deployments that do not run the code in force yet";
        gauge(&mut encoder, "code_behind", help, None, count(behind))?;
        let waiting = states.iter().map(|state| state.waiting).sum();
        let help = "Deploys that hosts took and the control plane has not answered about";
        gauge(&mut encoder, "host_deploys_waiting", help, None, count(waiting))?;
        let counts = &self.0.counts;
        let help = "Switches of a deployment's code, by who made the deploy";
        let mut family = encoder.encode_descriptor("code_switches", help, None, MetricType::Counter)?;
        for (source, total) in [("control_plane", &counts.from_control_plane), ("host", &counts.from_host)] {
            let total = total.load(Ordering::Relaxed);
            ConstCounter::new(total).encode(family.encode_family(&[("source", source)])?)?;
        }
        let help =
            "Deploys that hosts took and that the control plane had replaced before it learned of them";
        let superseded = ConstCounter::new(counts.superseded.load(Ordering::Relaxed));
        superseded.encode(encoder.encode_descriptor(
            "host_deploys_superseded",
            help,
            None,
            MetricType::Counter,
        )?)
    }
}
