//! Brings the deploy in force to the disk: finds missing archives, unpacks, moves the link, and prunes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::Digest as _;

use super::deployment_code::{Setback, Target};
use super::incoming::{Incoming, ReceiveError, Received, hash};
use super::place::{Name, Place, remove, tree_of};
use super::tree::{TreeError, compare, unpack};
use super::{Claim, Code};
use crate::dataplane::node::alarm::AlarmKind;
use crate::protocol::deploy::MAX_ARCHIVE;
use crate::protocol::id::{DeployId, DeploymentId};
use crate::protocol::time::Time;

/// Seconds until an archive that could not be written is tried again.
const DISK_AGAIN: i64 = 60;
/// Seconds until an archive that was refused is tried again.
const REFUSED_AGAIN: i64 = 600;

/// Archive that this host lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Deployment that shall run it.
    pub deployment: DeploymentId,
    /// Id of the deploy.
    pub deploy: DeployId,
    /// SHA-256 of the archive.
    pub digest: [u8; 32],
    /// Size of the archive, in bytes.
    pub size: u64,
    /// True if the control plane has it.
    pub signed: bool,
}

impl Wanted {
    fn name(&self) -> Name {
        Name { deploy: self.deploy.clone(), digest: self.digest }
    }
}

impl Code {
    /// Returns the archives of deploys in force that this host lacks, without those that failed a short time ago.
    #[must_use]
    pub fn wanted(&self, now: Time) -> Vec<Wanted> {
        let all = self.held();
        let mut wanted = Vec::new();
        for (deployment, held) in all.iter() {
            let Some(Target { name, size, signed }) = held.target() else { continue };
            let waits = |setback: &Setback| setback.name == name && now < setback.until;
            if held.setback.as_ref().is_some_and(waits) || self.place(deployment).archive(&name).exists() {
                continue;
            }
            let deployment = deployment.clone();
            wanted.push(Wanted { deployment, deploy: name.deploy, digest: name.digest, size, signed });
        }
        wanted
    }

    /// Begins to receive an archive that this host lacks, or goes on with it.
    pub fn receive(&self, wanted: &Wanted) -> Result<Incoming, ReceiveError> {
        let (place, name) = (self.place(&wanted.deployment), wanted.name());
        let path = place.part(&name);
        place.make().map_err(|source| ReceiveError::Disk { path: place.path().into(), source })?;
        Incoming::resume(path, wanted.size.min(MAX_ARCHIVE))
    }

    /// Takes an archive that was received whole. Another one than the wanted is removed.
    pub fn arrived(&self, wanted: &Wanted, incoming: Incoming) -> Result<(), ReceiveError> {
        let Received { path, digest, size } = incoming.finish()?;
        let (place, name) = (self.place(&wanted.deployment), wanted.name());
        if (digest, size) != (wanted.digest, wanted.size) {
            let _ = remove(&path);
            return Err(ReceiveError::Another { length: size, size: wanted.size });
        }
        let stored = std::fs::rename(&path, place.archive(&name)).and_then(|()| place.sync());
        stored.map_err(|source| ReceiveError::Disk { path, source })?;
        if let Some(held) = self.held().get_mut(&wanted.deployment) {
            held.proved.insert(name);
        }
        Ok(())
    }

    /// Notes that an archive could not be stored, so that it is not tried again at once.
    pub fn failed(&self, wanted: &Wanted, why: &str, now: Time) {
        let what = format!("the code of {} is not switched: {why}", wanted.deployment);
        self.set_back(&wanted.deployment, &wanted.name(), (AlarmKind::Damaged, DISK_AGAIN), &what, now);
    }

    fn set_back(
        &self,
        deployment: &DeploymentId,
        name: &Name,
        (kind, pause): (AlarmKind, i64),
        what: &str,
        now: Time,
    ) {
        self.live.alarms.raise(kind, what, now);
        if let Some(held) = self.held().get_mut(deployment) {
            held.setback = Some(Setback { name: name.clone(), until: now.plus(pause), why: what.to_owned() });
        }
    }

    /// Brings the deploys in force to the disk where their archives are there. `thorough` compares everything again with its
    /// archive; otherwise only what changed is looked at.
    pub fn settle(&self, thorough: bool, now: Time) {
        let deployments: Vec<_> = self.held().keys().cloned().collect();
        for deployment in deployments {
            // An archive arrives for it, and settles it at its end.
            if let Some(claim) = self.claim(&deployment) {
                self.settle_one(&claim, thorough, now);
            }
        }
        self.publish();
    }

    /// Brings the deploy in force of a claimed deployment to the disk.
    pub fn settle_one(&self, claim: &Claim, thorough: bool, now: Time) {
        let deployment = claim.deployment();
        if thorough {
            self.clear(deployment);
        }
        let (target, current, proved, setback) = {
            let all = self.held();
            let Some(held) = all.get(deployment) else { return };
            let Some(target) = held.target() else { return };
            let proved = held.proved.contains(&target.name);
            (target, held.current.clone(), proved, held.setback.clone())
        };
        let name = &target.name;
        let place = self.place(deployment);
        if !thorough
            && (setback.is_some_and(|setback| setback.name == *name && now < setback.until)
                || (current.as_ref() == Some(name)
                    && place.current().is_some_and(|(there, _)| there == *name)))
        {
            return;
        }
        let before = place.current().map(|(name, _)| name);
        match self.bring(deployment, &place, &target, proved && !thorough, now) {
            Ok(true) => self.switched(deployment, &place, &target, before.as_ref() != Some(name)),
            Ok(false) => {}
            Err(TreeError::Refused(error)) => {
                let what =
                    format!("the archive of deploy {} of {deployment} is not unpacked: {error}", name.deploy);
                self.set_back(deployment, name, (AlarmKind::Refused, REFUSED_AGAIN), &what, now);
            }
            Err(error @ TreeError::Disk { .. }) => {
                let what = format!("the code of {deployment} is not switched: {error}");
                self.set_back(deployment, name, (AlarmKind::Damaged, DISK_AGAIN), &what, now);
            }
        }
    }

    /// Removes what a crash left of an archive that was being sent or unpacked.
    fn clear(&self, deployment: &DeploymentId) {
        let place = self.place(deployment);
        for path in [place.pushed(), place.unpacking()] {
            if let Err(error) = remove(&path) {
                tracing::warn!(%error, path = %path.display(), "a part of an archive can't be removed");
            }
        }
    }

    /// Unpacks the archive in force and switches the link, as far as each is needed. Returns false if the archive is missing.
    fn bring(
        &self,
        deployment: &DeploymentId,
        place: &Place,
        target: &Target,
        proved: bool,
        now: Time,
    ) -> Result<bool, TreeError> {
        let Target { name, size, .. } = target;
        let disk = |source| TreeError::Disk { path: place.path().into(), source };
        let archive = place.archive(name);
        if !archive.exists() {
            // The unpacked tree stays in use until the archive is there again.
            return Ok(false);
        }
        if !proved {
            let (digest, length) =
                hash(&archive).map_err(|source| TreeError::Disk { path: archive.clone(), source })?;
            if length != *size || <[u8; 32]>::from(digest.finalize()) != name.digest {
                let what = format!("the archive {} is damaged; it is fetched again", archive.display());
                self.live.alarms.raise(AlarmKind::Damaged, &what, now);
                remove(&archive).map_err(disk)?;
                if let Some(held) = self.held().get_mut(deployment) {
                    held.proved.remove(name);
                }
                return Ok(false);
            }
            if let Some(held) = self.held().get_mut(deployment) {
                held.proved.insert(name.clone());
            }
        }
        let linked = place.current();
        for tree in place.trees(name).map_err(disk)? {
            let path = place.path().join(&tree);
            let is_linked = linked.as_ref().is_some_and(|(_, there)| *there == tree);
            match compare(&archive, &path)? {
                None if is_linked => return Ok(true),
                None => {
                    place.switch(&tree).map_err(disk)?;
                    return Ok(true);
                }
                Some(difference) => {
                    let what =
                        format!("{} is damaged: {difference}; the archive is unpacked again", path.display());
                    self.live.alarms.raise(AlarmKind::Damaged, &what, now);
                    if !is_linked {
                        remove(&path).map_err(disk)?;
                    }
                }
            }
        }
        let tree = install(place, name, &archive)?;
        place.switch(&tree).map_err(disk)?;
        Ok(true)
    }

    /// Records a switch, and removes what is not kept.
    pub(super) fn switched(&self, deployment: &DeploymentId, place: &Place, target: &Target, news: bool) {
        if news {
            let counts = &self.counts;
            let count = if target.signed { &counts.from_control_plane } else { &counts.from_host };
            count.fetch_add(1, Ordering::Relaxed);
            let source = if target.signed { "the control plane" } else { "a host" };
            tracing::info!(%deployment, deploy = %target.name.deploy, source, "the deployment's code is switched");
        }
        let keep = {
            let mut all = self.held();
            let Some(held) = all.get_mut(deployment) else { return };
            held.current = Some(target.name.clone());
            held.setback = None;
            held.needed()
        };
        self.publish();
        if let Err(error) = prune(place, &target.name, keep, self.keep) {
            tracing::warn!(%error, %deployment, "old code can't be removed");
        }
    }
}

/// Unpacks an archive beside the others. Returns the name of the tree.
pub(super) fn install(place: &Place, name: &Name, archive: &std::path::Path) -> Result<String, TreeError> {
    let disk = |source| TreeError::Disk { path: place.path().into(), source };
    let beside = place.unpacking();
    unpack(archive, &beside)?;
    let tree = place.next_tree(name).map_err(disk)?;
    std::fs::rename(&beside, place.path().join(&tree)).and_then(|()| place.sync()).map_err(disk)?;
    Ok(tree)
}

/// Removes archives and trees beyond the newest `most`, what is left of repairs, and what broke off. Names in `keep` stay.
fn prune(place: &Place, current: &Name, mut keep: BTreeSet<Name>, most: usize) -> io::Result<()> {
    touch(place, current);
    let files = place.files()?;
    let mut archives: Vec<(SystemTime, Name)> = Vec::new();
    for file in &files {
        if let Some((name, "tar.gz")) = Name::split(file) {
            let modified = std::fs::metadata(place.path().join(file))?.modified().unwrap_or(UNIX_EPOCH);
            archives.push((modified, name));
        }
    }
    archives.sort_by(|a, b| b.cmp(a));
    keep.extend(archives.into_iter().take(most).map(|(_, name)| name));
    let linked = place.current().map(|(_, tree)| tree);
    for file in files {
        let goes = match (tree_of(&file), Name::split(&file)) {
            // A tree that was damaged, and replaced.
            (Some(name), _) if name == *current => linked.as_ref() != Some(&file),
            (Some(name), _) | (None, Some((name, "tar.gz" | "part"))) => !keep.contains(&name),
            _ => false,
        };
        if goes {
            remove(&place.path().join(&file))?;
        }
    }
    Ok(())
}

/// Sets the time of the archive: those that were switched to last are kept.
fn touch(place: &Place, name: &Name) {
    let newest = place.files().unwrap_or_default().into_iter().filter_map(|file| {
        let path = place.path().join(file);
        std::fs::metadata(path).ok()?.modified().ok()
    });
    // Later than every other one, also on a clock that was set back.
    let next = newest.max().unwrap_or(UNIX_EPOCH) + Duration::from_millis(1);
    let touched =
        File::options().append(true).open(place.archive(name)).and_then(|file| file.set_modified(next));
    if let Err(error) = touched {
        tracing::debug!(%error, "the time of an archive can't be set");
    }
}
