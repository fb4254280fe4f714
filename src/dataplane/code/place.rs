//! Directory of one deployment's code, and the names of its files.
//!
//! | name | content |
//! | --- | --- |
//! | `deploy.jws` | signed deploy of the control plane |
//! | `NAME.jws` | signed deploy of a host |
//! | `NAME.tar.gz` | archive of a deploy |
//! | `NAME.part` | archive that is being fetched; a later attempt goes on from it |
//! | `push.part` | archive that a client is sending |
//! | `NAME`, `NAME.r1`, … | unpacked archive; a repaired one gets the next number, so that a switch is one rename |
//! | `current` | symbolic link to the unpacked archive that the deployment runs |
//!
//! `NAME` is the deploy's id and the digest of its archive, so that two archives never share a file.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use base64::Engine as _;

use crate::platform::private_file::write_private;
use crate::protocol::deploy::digest_text;
use crate::protocol::id::{DeployId, DeploymentId};
use crate::protocol::jws::BASE64URL;

/// Name of the link to the code that runs.
const CURRENT: &str = "current";
/// Mode of directories above the trees: other users may pass through, and list nothing.
const PASSAGE: u32 = 0o711;

/// Name of a deploy's files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) deploy: DeployId,
    pub(super) digest: [u8; 32],
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.deploy, digest_text(&self.digest))
    }
}

impl Name {
    /// Returns the name with which a file name begins, and the rest after the dot behind it.
    pub(super) fn split(file: &str) -> Option<(Self, &str)> {
        let (deploy, rest) = file.split_once('.')?;
        let (digest, rest) = rest.split_once('.').unwrap_or((rest, ""));
        let digest = BASE64URL.decode(digest).ok()?.try_into().ok()?;
        Some((Self { deploy: deploy.parse().ok()?, digest }, rest))
    }
}

/// Directory of one deployment's code.
#[derive(Clone, Debug)]
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new(directory: &Path, deployment: &DeploymentId) -> Self {
        // An id has no dot and no slash.
        Self(directory.join(deployment.as_str()))
    }

    /// Returns the deployments that have a directory in `directory`.
    pub(super) fn deployments(directory: &Path) -> io::Result<Vec<DeploymentId>> {
        let names = Self(directory.to_owned()).files()?;
        let deployments = names.iter().filter(|name| directory.join(name).is_dir());
        Ok(deployments.filter_map(|name| name.parse().ok()).collect())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Creates the directory, and those above it. The umask of a service leaves nothing to others, so modes are set.
    pub(super) fn make(&self) -> io::Result<()> {
        let above = self.0.parent().unwrap_or(Path::new("."));
        for path in [above, &self.0] {
            if !path.is_dir() {
                DirBuilder::new().recursive(true).mode(0o700).create(path)?;
                std::fs::set_permissions(path, Permissions::from_mode(PASSAGE))?;
            }
        }
        Ok(())
    }

    pub(super) fn signed(&self) -> PathBuf {
        self.0.join("deploy.jws")
    }

    pub(super) fn host(&self, name: &Name) -> PathBuf {
        self.0.join(format!("{name}.jws"))
    }

    pub(super) fn archive(&self, name: &Name) -> PathBuf {
        self.0.join(format!("{name}.tar.gz"))
    }

    pub(super) fn part(&self, name: &Name) -> PathBuf {
        self.0.join(format!("{name}.part"))
    }

    pub(super) fn pushed(&self) -> PathBuf {
        self.0.join("push.part")
    }

    /// Returns the directory in which an archive is unpacked before it gets its name.
    pub(super) fn unpacking(&self) -> PathBuf {
        self.0.join("unpacking.new")
    }

    /// Returns the unpacked archives of a name.
    pub(super) fn trees(&self, name: &Name) -> io::Result<Vec<String>> {
        let mut trees = self.files()?;
        trees.retain(|file| tree_of(file).is_some_and(|found| found == *name));
        Ok(trees)
    }

    /// Returns a name for another unpacked archive of a name.
    pub(super) fn next_tree(&self, name: &Name) -> io::Result<String> {
        let taken = self.trees(name)?;
        let candidates =
            std::iter::once(name.to_string()).chain((1..).map(|count: u64| format!("{name}.r{count}")));
        candidates
            .take(taken.len() + 1)
            .find(|candidate| !taken.contains(candidate))
            .ok_or_else(|| io::ErrorKind::AlreadyExists.into())
    }

    /// Returns the file names in the directory.
    pub(super) fn files(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            // A name that is not text is none of the daemon's.
            files.extend(entry?.file_name().into_string().ok());
        }
        files.sort();
        Ok(files)
    }

    /// Returns the unpacked archive to which `current` points, if there is such a directory.
    pub(super) fn current(&self) -> Option<(Name, String)> {
        let target = std::fs::read_link(self.0.join(CURRENT)).ok()?;
        let tree = target.to_str()?.to_owned();
        let name = tree_of(&tree)?;
        self.0.join(&tree).is_dir().then_some((name, tree))
    }

    /// Points `current` to an unpacked archive, by one rename.
    pub(super) fn switch(&self, tree: &str) -> io::Result<()> {
        let beside = self.0.join("current.new");
        remove(&beside)?;
        symlink(tree, &beside)?;
        std::fs::rename(&beside, self.0.join(CURRENT))?;
        self.sync()
    }

    pub(super) fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        self.make()?;
        write_private(path, text.as_bytes())
    }

    /// Waits until the names in the directory are on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

/// Returns the name of an unpacked archive, by its directory.
pub(super) fn tree_of(file: &str) -> Option<Name> {
    let (name, rest) = Name::split(file)?;
    let repaired = || rest.strip_prefix('r').is_some_and(|count| count.parse::<u64>().is_ok());
    (rest.is_empty() || repaired()).then_some(name)
}

/// Removes a file, a link or a directory with all it holds. It may be absent.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a regular file of at most `most` bytes. Returns `None` if there is none.
pub(super) fn text(path: &Path, most: usize) -> Option<String> {
    let found = std::fs::symlink_metadata(path).ok()?;
    if !found.is_file() || found.len() > most as u64 {
        return None;
    }
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_name_is_read_back_from_each_of_its_files_and_from_no_other() {
        let name = Name { deploy: "c1".parse().unwrap(), digest: [7; 32] };
        let text = name.to_string();
        assert_eq!(Name::split(&text), Some((name.clone(), "")));
        assert_eq!(Name::split(&format!("{text}.tar.gz")), Some((name.clone(), "tar.gz")));
        for tree in [text.clone(), format!("{text}.r12")] {
            assert_eq!(tree_of(&tree), Some(name.clone()));
        }
        for other in ["current", "deploy.jws", "push.part", "unpacking.new", "c1", "c1.x", ".", ".."] {
            assert_eq!(tree_of(other), None, "{other}");
        }
        for rest in ["tar.gz", "jws", "part", "r", "rx", "new"] {
            assert_eq!(tree_of(&format!("{text}.{rest}")), None, "{rest}");
        }
    }

    #[test]
    fn a_switch_replaces_the_link_and_repairs_get_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::new(directory.path(), &"dep_a".parse().unwrap());
        let name = Name { deploy: "c1".parse().unwrap(), digest: [7; 32] };
        place.make().unwrap();
        assert_eq!((place.current(), place.next_tree(&name).unwrap()), (None, name.to_string()));
        for count in 0..3 {
            let tree = place.next_tree(&name).unwrap();
            std::fs::create_dir(place.path().join(&tree)).unwrap();
            // A crash may have left a link in the way.
            symlink("nowhere", place.path().join("current.new")).unwrap();
            place.switch(&tree).unwrap();
            assert_eq!(place.current(), Some((name.clone(), tree)), "{count}");
        }
        assert_eq!(
            place.trees(&name).unwrap(),
            [format!("{name}"), format!("{name}.r1"), format!("{name}.r2")]
        );
        remove(&place.path().join(format!("{name}.r2"))).unwrap();
        assert_eq!(place.current(), None, "it points to nothing");
        remove(&place.path().join("absent")).unwrap();
    }
}
