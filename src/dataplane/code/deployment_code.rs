//! State of one deployment's code in memory: what was verified, and how far the disk follows.

use std::collections::{BTreeMap, BTreeSet};

use super::place::Name;
use crate::protocol::deploy::exchange::StandingDeploy;
use crate::protocol::deploy::host::{HostDeploy, SignedHostDeploy};
use crate::protocol::deploy::order::{InForce, compare, in_force};
use crate::protocol::deploy::signed::SignedDeploy;
use crate::protocol::id::DeployId;
use crate::protocol::time::Time;

/// State of a host deploy at the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Above {
    /// The control plane has not answered about it.
    Waiting,
    /// The control plane has adopted it, or prefers another.
    Answered,
}

/// Host deploy that was verified.
#[derive(Clone, Debug)]
pub(super) struct VerifiedHostDeploy {
    pub(super) signed: SignedHostDeploy,
    pub(super) above: Above,
}

/// Failure to bring the deploy in force to the disk.
#[derive(Clone, Debug)]
pub(super) struct Setback {
    pub(super) name: Name,
    /// Time of the next attempt.
    pub(super) until: Time,
    pub(super) why: String,
}

/// Deploy in force, with what the disk needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: Name,
    pub(super) size: u64,
    /// True for the control plane's deploy, false for a host's.
    pub(super) signed: bool,
}

/// State of one deployment's code.
#[derive(Clone, Debug, Default)]
pub(super) struct DeploymentCode {
    pub(super) signed: Option<SignedDeploy>,
    pub(super) hosts: BTreeMap<Name, VerifiedHostDeploy>,
    /// Code that the link points to. It was compared with its archive in this run.
    pub(super) current: Option<Name>,
    /// Archives whose digest was verified in this run.
    pub(super) proved: BTreeSet<Name>,
    pub(super) setback: Option<Setback>,
    /// Last host deploy that the control plane did not take, and the one that stands there.
    pub(super) superseded: Option<(DeployId, Option<StandingDeploy>)>,
}

impl DeploymentCode {
    pub(super) fn version(&self) -> u64 {
        self.signed.as_ref().map_or(0, |signed| signed.deploy().version)
    }

    pub(super) fn in_force(&self) -> Option<InForce<'_>> {
        let hosts = self.hosts.values().map(|known| known.signed.deploy());
        in_force(self.signed.as_ref().map(SignedDeploy::deploy), hosts)
    }

    /// Returns the deploy that the link shall point to.
    pub(super) fn target(&self) -> Option<Target> {
        let found = self.in_force()?;
        let name = Name { deploy: found.deploy().clone(), digest: *found.digest() };
        Some(Target { name, size: found.size(), signed: matches!(found, InForce::Signed(_)) })
    }

    /// Returns the host deploys that the signed deploy held has not ended.
    pub(super) fn open_hosts(&self) -> impl Iterator<Item = &VerifiedHostDeploy> {
        let version = self.version();
        self.hosts.values().filter(move |known| known.signed.deploy().base >= version)
    }

    /// Returns the names of all deploys that are known.
    pub(super) fn names(&self) -> BTreeSet<Name> {
        self.needed().into_iter().chain(self.hosts.keys().cloned()).collect()
    }

    /// Returns the names of the deploys whose archives must stay. Of host deploys only the one in force is needed: the
    /// control plane asks for no other.
    pub(super) fn needed(&self) -> BTreeSet<Name> {
        let signed = self.signed.as_ref().map(name_of_signed);
        let target = self.target().map(|target| target.name);
        [signed, target, self.current.clone()].into_iter().flatten().collect()
    }

    /// Returns the least host deploy in the order of the deployment, which is dropped first.
    pub(super) fn least(&self) -> Option<(&Name, &HostDeploy)> {
        let all = self.hosts.iter().map(|(name, known)| (name, known.signed.deploy()));
        all.min_by(|(_, a), (_, b)| a.base.cmp(&b.base).then_with(|| compare(a, b)))
    }

    /// Returns the host deploys that need no file any more: the control plane answered about them, and another deploy
    /// ended them.
    pub(super) fn spent(&self) -> Vec<Name> {
        let version = self.version();
        let spent = |known: &VerifiedHostDeploy| {
            known.above == Above::Answered && known.signed.deploy().base < version
        };
        self.hosts.iter().filter(|(_, known)| spent(known)).map(|(name, _)| name.clone()).collect()
    }
}

pub(super) fn name_of_signed(signed: &SignedDeploy) -> Name {
    Name { deploy: signed.deploy().deploy.clone(), digest: signed.deploy().digest }
}

pub(super) fn name_of_host(signed: &SignedHostDeploy) -> Name {
    Name { deploy: signed.deploy().deploy.clone(), digest: signed.deploy().digest }
}
