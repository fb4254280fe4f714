//! Accepts signed deploys: from the control plane, from peers, and from this host's own disk.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic;

use thiserror::Error;

use super::deployment_code::{Above, DeploymentCode, VerifiedHostDeploy, name_of_host};
use super::place::{Name, Place, remove, text};
use super::{Code, Effect, MAX_HOST_DEPLOYS};
use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::node::alarm::AlarmKind;
use crate::protocol::deploy::host::{HostDeploy, HostDeployError, MAX_HOST_DEPLOY, SignedHostDeploy};
use crate::protocol::deploy::order::compare;
use crate::protocol::deploy::signed::{DeployError, MAX_DEPLOY, SignedDeploy};
use crate::protocol::id::DeploymentId;
use crate::protocol::jws::JwsError;
use crate::protocol::time::Time;

/// Reasons why a signed deploy is not taken.
#[derive(Debug, Error)]
enum Refusal {
    #[error(transparent)]
    Invalid(#[from] DeployError),
    #[error(
        "version {got} is older than version {held}, which this host holds; if the control plane was restored from a backup, run halligan-control recover there"
    )]
    Older { got: u64, held: u64 },
    #[error("version {0} is another deploy than the one that this host holds as that version")]
    Fork(u64),
    #[error(
        "{path} can't be written: {source}; free space on its disk, check its owner, and let the unit write there (ReadWritePaths=)"
    )]
    File { path: PathBuf, source: std::io::Error },
}

impl Refusal {
    fn kind(&self) -> AlarmKind {
        match self {
            Self::Invalid(_) => AlarmKind::Refused,
            Self::Older { .. } => AlarmKind::Rollback,
            Self::Fork(_) => AlarmKind::Fork,
            Self::File { .. } => AlarmKind::Damaged,
        }
    }
}

impl Code {
    /// Takes a deploy that the control plane sent, or raises an alarm. [`Self::settle`] then brings it to the disk.
    pub fn take_signed(&self, text: &str, now: Time) -> Effect {
        let Some(snapshot) = self.snapshot() else { return Effect::Later };
        let Some(keyset) = snapshot.keyset() else { return Effect::Later };
        let signed = match SignedDeploy::verify(text, keyset, &self.prover.identity.data_plane_id) {
            Ok(signed) => signed,
            Err(error) => return self.refuse("a deploy", &error.into(), now),
        };
        let deployment = signed.deploy().sub.clone();
        // The replica arrives by another call, and may still be on its way.
        if !snapshot.has_deployment(&deployment) {
            return Effect::Later;
        }
        match self.put(&deployment, signed) {
            Ok(()) => Effect::Held,
            Err(refusal) => self.refuse(&format!("the deploy of {deployment}"), &refusal, now),
        }
    }

    fn refuse(&self, what: &str, refusal: &Refusal, now: Time) -> Effect {
        self.live.alarms.raise(refusal.kind(), &format!("{what} is not taken: {refusal}"), now);
        if matches!(refusal, Refusal::File { .. }) { Effect::Later } else { Effect::Refused }
    }

    fn put(&self, deployment: &DeploymentId, signed: SignedDeploy) -> Result<(), Refusal> {
        let place = self.place(deployment);
        let mut all = self.held();
        let held = all.entry(deployment.clone()).or_default();
        if let Some(before) = &held.signed {
            let (got, known) = (signed.deploy().version, before.deploy().version);
            if got < known {
                return Err(Refusal::Older { got, held: known });
            }
            if before.contradicts(&signed) {
                return Err(Refusal::Fork(got));
            }
        }
        let path = place.signed();
        place.write(&path, signed.as_str()).map_err(|source| Refusal::File { path, source })?;
        held.signed = Some(signed);
        Ok(())
    }

    /// Takes host deploys that a peer sent. Each is verified with the key of the node that made it. Returns the number of new
    /// ones.
    pub fn take_hosts<'t>(&self, texts: impl Iterator<Item = &'t str>) -> std::io::Result<usize> {
        let Some(snapshot) = self.snapshot() else { return Ok(0) };
        let mut taken = 0;
        for text in texts {
            let (signers, data_plane) = (snapshot.signers(), &self.prover.identity.data_plane_id);
            let signed = match SignedHostDeploy::admit(text, &signers, data_plane) {
                Ok(signed) => signed,
                // The peer may hold a newer replica, or an older one.
                Err(error) => {
                    tracing::debug!(%error, "a peer's host deploy is not taken");
                    continue;
                }
            };
            if snapshot.has_deployment(&signed.deploy().sub) && self.put_host(signed)? {
                taken += 1;
            }
        }
        if taken > 0 {
            self.publish();
            self.changes.send_replace(());
        }
        Ok(taken)
    }

    /// Stores a host deploy of a peer, unless it is known or was ended. Returns true if it is new.
    fn put_host(&self, signed: SignedHostDeploy) -> std::io::Result<bool> {
        let (deployment, name) = (signed.deploy().sub.clone(), name_of_host(&signed));
        let mut all = self.held();
        let held = all.entry(deployment.clone()).or_default();
        if held.hosts.contains_key(&name) || signed.deploy().base < held.version() {
            return Ok(false);
        }
        if held.hosts.len() >= MAX_HOST_DEPLOYS {
            let new = signed.deploy();
            let comes_before =
                |least: &HostDeploy| (new.base, compare(new, least)) <= (least.base, Ordering::Equal);
            let least = held.least().filter(|(_, least)| !comes_before(least)).map(|(name, _)| name.clone());
            let Some(least) = least else { return Ok(false) };
            self.forget(&deployment, held, &least);
        }
        let place = self.place(&deployment);
        place.write(&place.host(&name), signed.as_str())?;
        let node = &signed.deploy().iss;
        tracing::info!(%deployment, deploy = %name.deploy, %node, "a peer reports code that a host took");
        held.hosts.insert(name, VerifiedHostDeploy { signed, above: Above::Waiting });
        Ok(true)
    }

    /// Removes a host deploy. Its archive is pruned later.
    pub(super) fn forget(&self, deployment: &DeploymentId, held: &mut DeploymentCode, name: &Name) {
        if let Err(error) = remove(&self.place(deployment).host(name)) {
            tracing::warn!(%error, %deployment, deploy = %name.deploy, "a host deploy can't be removed");
        }
        held.hosts.remove(name);
    }

    /// Verifies the objects on the disk, and removes the code of deployments that the replica does not have. Without a
    /// verified replica nothing is changed.
    pub fn check(&self, now: Time) {
        let Some(snapshot) = self.snapshot() else { return };
        let found = match Place::deployments(&self.directory) {
            Ok(found) => found,
            Err(error) => {
                let what = format!(
                    "code.directory {} can't be read: {error}; check its owner",
                    self.directory.display()
                );
                self.live.alarms.raise(AlarmKind::Damaged, &what, now);
                return;
            }
        };
        for deployment in &found {
            if snapshot.has_deployment(deployment) {
                self.read(deployment, &snapshot, now);
                continue;
            }
            let Some(_claim) = self.claim(deployment) else { continue };
            self.held().remove(deployment);
            match remove(self.place(deployment).path()) {
                Ok(()) => tracing::info!(%deployment, "code removed: its deployment left this data plane"),
                Err(error) => tracing::warn!(%error, %deployment, "code can't be removed"),
            }
        }
        self.held().retain(|deployment, _| snapshot.has_deployment(deployment));
        self.checked.store(true, atomic::Ordering::Release);
        self.publish();
    }

    fn read(&self, deployment: &DeploymentId, snapshot: &Snapshot, now: Time) {
        let signed = self.read_signed(deployment, snapshot, now);
        let hosts = self.read_hosts(deployment, snapshot, now);
        let mut all = self.held();
        let held = all.entry(deployment.clone()).or_default();
        match signed {
            Read::Proved(read) => {
                // Memory may hold a newer one, whose file was lost.
                if held.version() < read.deploy().version {
                    held.signed = Some(*read);
                }
            }
            // A deploy under a key that was dropped counts no more. The code stays until another deploy comes.
            Read::Doubtful => held.signed = None,
            Read::Absent => {}
        }
        for (name, signed) in hosts {
            held.hosts.entry(name).or_insert(VerifiedHostDeploy { signed, above: Above::Waiting });
        }
        for name in held.spent() {
            self.forget(deployment, held, &name);
        }
    }

    fn read_signed(&self, deployment: &DeploymentId, snapshot: &Snapshot, now: Time) -> Read {
        let path = self.place(deployment).signed();
        let (Some(text), Some(keyset)) = (text(&path, MAX_DEPLOY), snapshot.keyset()) else {
            return Read::Absent;
        };
        let why = match SignedDeploy::verify(&text, keyset, &self.prover.identity.data_plane_id) {
            Ok(signed) if signed.deploy().sub == *deployment => return Read::Proved(Box::new(signed)),
            Ok(_) => "it is of another deployment".to_owned(),
            Err(DeployError::Jws(JwsError::KeyUnknown)) => return Read::Doubtful,
            Err(error) => error.to_string(),
        };
        let what = format!(
            "{} can't be proved: {why}; the code stays as it is, and the control plane is asked for the deploy anew",
            path.display()
        );
        self.unproved(&path, &what, now);
        Read::Absent
    }

    fn read_hosts(
        &self,
        deployment: &DeploymentId,
        snapshot: &Snapshot,
        now: Time,
    ) -> BTreeMap<Name, SignedHostDeploy> {
        let (place, mut proved) = (self.place(deployment), BTreeMap::new());
        for file in place.files().unwrap_or_default() {
            let Some((name, "jws")) = Name::split(&file) else { continue };
            let path = place.host(&name);
            let Some(text) = text(&path, MAX_HOST_DEPLOY) else { continue };
            let (signers, data_plane) = (snapshot.signers(), &self.prover.identity.data_plane_id);
            let why = match SignedHostDeploy::verify(&text, &signers, data_plane) {
                Ok(signed) if signed.deploy().sub == *deployment && name_of_host(&signed) == name => {
                    proved.insert(name, signed);
                    continue;
                }
                Ok(_) => "it is of another deploy".to_owned(),
                // The replica may have lost the node's record for now.
                Err(HostDeployError::Jws(JwsError::KeyUnknown) | HostDeployError::Issuer(_)) => continue,
                Err(error) => error.to_string(),
            };
            let what =
                format!("{} can't be proved: {why}; it is removed, and counts no more", path.display());
            self.unproved(&path, &what, now);
        }
        proved
    }

    fn unproved(&self, path: &std::path::Path, what: &str, now: Time) {
        self.live.alarms.raise(AlarmKind::Damaged, what, now);
        // Without this, a damaged object would be reported every minute in an outage.
        if let Err(error) = remove(path) {
            tracing::warn!(%error, path = %path.display(), "a damaged object can't be removed");
        }
    }
}

/// Signed deploy that was read from the disk.
enum Read {
    Proved(Box<SignedDeploy>),
    Doubtful,
    Absent,
}
