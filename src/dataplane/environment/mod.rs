//! Environments of deployments on this host: for each deployment a file that systemd reads as an `EnvironmentFile`, and
//! beside it the signed object that it was made from.
//!
//! The signed object decides. At the start and every minute it is verified again, and a file that differs from it is
//! written anew. An object that is older than the one held is refused. Without the control plane both files stay. They are
//! removed only when the verified replica no longer has the deployment.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::dataplane::decide::snapshot::Snapshot;
use crate::dataplane::node::alarm::AlarmKind;
use crate::dataplane::node::identity::Identity;
use crate::dataplane::node::state::Live;
use crate::platform::private_file::{create_private_directories, write_private};
use crate::protocol::environment::key::DecryptionKey;
use crate::protocol::environment::signed::{EnvironmentError, MAX_ENVIRONMENT, SignedEnvironment};
use crate::protocol::id::DeploymentId;
use crate::protocol::jws::JwsError;
use crate::protocol::time::Time;

/// Extension of a file for systemd.
const FILE: &str = "env";
/// Extension of the signed object beside it.
const SIGNED: &str = "jws";

/// Reasons why an environment is not put in force.
#[derive(Debug, Error)]
enum Refusal {
    #[error(transparent)]
    Invalid(#[from] EnvironmentError),
    #[error(
        "version {got} is older than version {held}, which this host holds; if the control plane was restored from a backup, run halligan-control recover there"
    )]
    Older { got: u64, held: u64 },
    #[error("version {0} has other variables than the ones that this host holds as that version")]
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

/// Version of an environment on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    version: u64,
    digest: [u8; 32],
}

/// Effect of an environment that the control plane sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is in force.
    InForce,
    /// It was refused. The same one would be refused again.
    Refused,
    /// It may be taken later: its deployment is not in the replica yet, or the disk failed.
    Later,
}

/// Environments on the disk of this host.
pub struct Environments {
    directory: PathBuf,
    identity: Identity,
    key: Arc<DecryptionKey>,
    live: Arc<Live>,
    held: Mutex<BTreeMap<DeploymentId, Held>>,
}

impl Environments {
    /// Returns the environments in `directory`, which are not trusted before [`Self::check`] has verified them.
    #[must_use]
    pub fn new(directory: PathBuf, identity: Identity, key: Arc<DecryptionKey>, live: Arc<Live>) -> Self {
        Self { directory, identity, key, live, held: Mutex::default() }
    }

    /// Returns the key to which environments are encrypted for this node.
    #[must_use]
    pub fn key(&self) -> &DecryptionKey {
        &self.key
    }

    /// Returns the versions that were verified.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<String, u64> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // An environment whose object is gone is requested anew. Its version still rejects an older environment.
        let there = held.iter().filter(|(deployment, _)| self.path(deployment, SIGNED).exists());
        there.map(|(deployment, held)| (deployment.to_string(), held.version)).collect()
    }

    fn path(&self, deployment: &DeploymentId, extension: &str) -> PathBuf {
        // An id has no dot and no slash.
        self.directory.join(format!("{deployment}.{extension}"))
    }

    /// Puts an environment in force that the control plane sent, or raises an alarm.
    pub fn apply_signed(&self, text: &str, snapshot: &Snapshot, now: Time) -> Effect {
        let Some(keyset) = snapshot.keyset() else { return Effect::Later };
        let Identity { node_id, data_plane_id, .. } = &self.identity;
        let signed = match SignedEnvironment::verify(text, keyset, data_plane_id, node_id) {
            Ok(signed) => signed,
            Err(error) => return self.refuse("an environment", &error.into(), now),
        };
        let deployment = signed.claims().deployment.clone();
        // The replica arrives by another call, and may still be on its way.
        if !snapshot.has_deployment(&deployment) {
            return Effect::Later;
        }
        match self.put(&signed) {
            Ok(()) => Effect::InForce,
            Err(refusal) => self.refuse(&format!("the environment of {deployment}"), &refusal, now),
        }
    }

    fn refuse(&self, what: &str, refusal: &Refusal, now: Time) -> Effect {
        self.live.alarms.raise(refusal.kind(), &format!("{what} is not taken: {refusal}"), now);
        if matches!(refusal, Refusal::File { .. }) { Effect::Later } else { Effect::Refused }
    }

    fn put(&self, signed: &SignedEnvironment) -> Result<(), Refusal> {
        let of = signed.claims();
        let new = Held { version: of.version, digest: *signed.digest() };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.get(&of.deployment) {
            if new.version < held.version {
                return Err(Refusal::Older { got: new.version, held: held.version });
            }
            if new.version == held.version && new.digest != held.digest {
                return Err(Refusal::Fork(new.version));
            }
        }
        let text = file::format(of, &signed.open(&self.key)?);
        // The object is first: after a crash in between, the file is made from it.
        self.write(&self.path(&of.deployment, SIGNED), signed.as_str())?;
        held.insert(of.deployment.clone(), new);
        self.write(&self.path(&of.deployment, FILE), &text)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Refusal> {
        let made = create_private_directories(&self.directory);
        let written = made.and_then(|()| write_private(path, text.as_bytes()));
        written.map_err(|source| Refusal::File { path: path.into(), source })
    }

    /// Verifies what is on the disk, writes files anew that differ from their objects, and removes those of deployments
    /// that the replica does not have. Without a verified replica nothing is changed.
    pub fn check(&self, snapshot: &Snapshot, now: Time) {
        let Some(keyset) = snapshot.keyset() else { return };
        let found = match self.find() {
            Ok(found) => found,
            Err(error) => {
                let what = format!(
                    "the directory of environments {} can't be read: {error}",
                    self.directory.display()
                );
                self.live.alarms.raise(AlarmKind::Damaged, &what, now);
                return;
            }
        };
        let (mut verified, mut doubtful) = (BTreeMap::new(), BTreeSet::new());
        for deployment in found {
            if !snapshot.has_deployment(&deployment) {
                self.remove(&deployment);
                continue;
            }
            let Some(text) = self.signed_text(&deployment) else { continue };
            let Identity { node_id, data_plane_id, .. } = &self.identity;
            let signed =
                SignedEnvironment::verify(&text, keyset, data_plane_id, node_id).and_then(|signed| {
                    let variables = signed.open(&self.key)?;
                    Ok((signed, variables))
                });
            match signed {
                Ok((signed, variables)) if signed.claims().deployment == deployment => {
                    let held = Held { version: signed.claims().version, digest: *signed.digest() };
                    verified.insert(deployment.clone(), held);
                    self.restore(&deployment, &file::format(signed.claims(), &variables), now);
                }
                Ok(_) => self.unproved(&deployment, "it is of another deployment", now),
                // The key that signed the object was dropped, or the object is for a key or an identity that this host no longer
                // has. The control plane replaces such an object. The file stays as it is until then.
                Err(
                    EnvironmentError::Jws(JwsError::KeyUnknown)
                    | EnvironmentError::Sealed
                    | EnvironmentError::Node(_),
                ) => {
                    doubtful.insert(deployment);
                }
                Err(error) => self.unproved(&deployment, &error.to_string(), now),
            }
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|deployment, _| snapshot.has_deployment(deployment) && !doubtful.contains(deployment));
        for (deployment, read) in verified {
            let kept = held.entry(deployment).or_insert(read);
            if kept.version < read.version {
                *kept = read;
            }
        }
    }

    fn unproved(&self, deployment: &DeploymentId, why: &str, now: Time) {
        let path = self.path(deployment, SIGNED);
        let what = format!(
            "{} can't be proved: {why}; the environment stays as it is, and the control plane is asked for it anew",
            path.display()
        );
        self.live.alarms.raise(AlarmKind::Damaged, &what, now);
        // Without this, a damaged object would be reported every minute in an outage.
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "a damaged object can't be removed");
        }
    }

    /// Returns the deployments that have a file here.
    fn find(&self) -> std::io::Result<BTreeSet<DeploymentId>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries?,
        };
        let mut found = BTreeSet::new();
        for entry in entries {
            let name = entry?.file_name();
            let Some((id, extension)) = name.to_str().and_then(|name| name.rsplit_once('.')) else {
                continue;
            };
            if [FILE, SIGNED].contains(&extension)
                && let Ok(deployment) = id.parse()
            {
                found.insert(deployment);
            }
        }
        Ok(found)
    }

    /// Returns the text of the signed object, or `None` if there is no regular file of a possible length.
    fn signed_text(&self, deployment: &DeploymentId) -> Option<String> {
        let path = self.path(deployment, SIGNED);
        let found = std::fs::symlink_metadata(&path).ok()?;
        if !found.is_file() || found.len() > MAX_ENVIRONMENT as u64 {
            return None;
        }
        std::fs::read_to_string(&path).ok()
    }

    /// Writes a file anew if it has another content, or if others than its owner can read it.
    fn restore(&self, deployment: &DeploymentId, text: &str, now: Time) {
        use std::os::unix::fs::PermissionsExt as _;

        let path = self.path(deployment, FILE);
        let exposed = |found: &std::fs::Metadata| found.permissions().mode() & 0o077 != 0;
        let sound = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() && !exposed(&found));
        let same = || std::fs::read(&path).map(Zeroizing::new).is_ok_and(|there| *there == text.as_bytes());
        if sound && same() {
            return;
        }
        tracing::warn!(path = %path.display(), "the environment of a deployment was changed or is missing; it is written anew");
        if let Err(refusal) = self.write(&path, text) {
            self.refuse(&format!("the environment of {deployment}"), &refusal, now);
        }
    }

    fn remove(&self, deployment: &DeploymentId) {
        for extension in [FILE, SIGNED] {
            let path = self.path(deployment, extension);
            match std::fs::remove_file(&path) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), "removed: its deployment left this data plane");
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%error, path = %path.display(), "can't be removed"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
