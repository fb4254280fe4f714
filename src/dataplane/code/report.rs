//! Host deploys that the control plane has not answered about, and what its answers change.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use sha2::Digest as _;

use super::Code;
use super::deployment_code::{Above, VerifiedHostDeploy};
use super::incoming::hash;
use super::place::{Name, remove};
use crate::dataplane::node::alarm::AlarmKind;
use crate::protocol::deploy::exchange::{HostDeployAnswer, HostDeployState};
use crate::protocol::deploy::order::compare;
use crate::protocol::id::DeploymentId;
use crate::protocol::time::Time;

/// Host deploy to report to the control plane.
#[derive(Clone, Debug)]
pub struct Report {
    /// Deployment of the deploy.
    pub deployment: DeploymentId,
    /// The deploy as a compact JWS.
    pub text: String,
    /// Size of its archive, in bytes.
    pub size: u64,
    /// File of its archive, which this host may lack.
    pub archive: PathBuf,
    pub(super) name: Name,
}

impl Report {
    /// Returns the id of the deploy.
    #[must_use]
    pub fn deploy(&self) -> &str {
        self.name.deploy.as_str()
    }
}

impl Code {
    /// Returns the host deploys that the control plane has not answered about. Of one deployment the one in force comes
    /// first: the control plane takes the first of those that were made on top of the same deploy.
    #[must_use]
    pub fn to_report(&self) -> Vec<Report> {
        let all = self.held();
        let mut reports = Vec::new();
        for (deployment, held) in all.iter() {
            let mut waiting: Vec<_> =
                held.hosts.iter().filter(|(_, known)| known.above == Above::Waiting).collect();
            let order = |(_, a): &(&Name, &VerifiedHostDeploy), (_, b): &(&Name, &VerifiedHostDeploy)| {
                let (a, b) = (a.signed.deploy(), b.signed.deploy());
                b.base.cmp(&a.base).then_with(|| compare(b, a))
            };
            waiting.sort_by(order);
            reports.extend(waiting.into_iter().map(|(name, known)| Report {
                deployment: deployment.clone(),
                text: known.signed.as_str().to_owned(),
                size: known.signed.deploy().size,
                archive: self.place(deployment).archive(name),
                name: name.clone(),
            }));
        }
        reports
    }

    /// Takes the control plane's answer. Returns true if the control plane has decided.
    pub fn answered(&self, report: &Report, answer: &HostDeployAnswer) -> bool {
        if answer.state == HostDeployState::Wanted {
            return false;
        }
        let (deployment, deploy) = (&report.deployment, &report.name.deploy);
        let mut all = self.held();
        let Some(held) = all.get_mut(deployment) else { return true };
        let Some(known) = held.hosts.get_mut(&report.name) else { return true };
        known.above = Above::Answered;
        if answer.state == HostDeployState::Superseded {
            self.counts.superseded.fetch_add(1, Ordering::Relaxed);
            let by = answer.by.as_ref().map(|by| by.deploy.as_str());
            tracing::warn!(%deployment, %deploy, by, "the control plane keeps another deploy than the one that a host took");
            held.superseded = Some((deploy.clone(), answer.by.clone()));
        } else {
            tracing::info!(%deployment, %deploy, "the control plane has taken the deploy of a host");
        }
        for name in held.spent() {
            self.forget(deployment, held, &name);
        }
        drop(all);
        self.publish();
        true
    }

    /// Records that the control plane will never take a host deploy. The hosts run it until the next deploy.
    pub fn rejected(&self, report: &Report, why: &str, now: Time) {
        let (deployment, deploy) = (&report.deployment, &report.name.deploy);
        let mut all = self.held();
        let Some(held) = all.get_mut(deployment) else { return };
        let Some(known) = held.hosts.get_mut(&report.name) else { return };
        known.above = Above::Answered;
        let what = format!(
            "the control plane refuses deploy {deploy} that a host took for {deployment}: {why}; deploy again there"
        );
        self.live.alarms.raise(AlarmKind::Refused, &what, now);
    }

    /// Checks the archive of a report, which the control plane did not find to be the one that the host signed. A damaged one
    /// is removed, and fetched from a peer.
    pub fn doubt(&self, report: &Report, now: Time) {
        let Some(_claim) = self.claim(&report.deployment) else { return };
        let digest = hash(&report.archive).map(|(hash, _)| <[u8; 32]>::from(hash.finalize()));
        if digest.is_ok_and(|digest| digest == report.name.digest) {
            return;
        }
        let what = format!("the archive {} is damaged; it is fetched again", report.archive.display());
        self.live.alarms.raise(AlarmKind::Damaged, &what, now);
        if let Err(error) = remove(&report.archive) {
            tracing::warn!(%error, path = %report.archive.display(), "a damaged archive can't be removed");
        }
    }
}
